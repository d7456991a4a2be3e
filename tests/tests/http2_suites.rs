//! Public HTTP/2 and gRPC suites through the routing: passed on, stolen, and stolen by their bodies. Each must come out as it
//! does against the bare server; docs/http2.md has the results.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use http::HeaderValue;
use tests::routed::{WAYS, front, listener};
use tests::{PATIENCE, scratch, suites};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// What became of each case of h2spec.
async fn h2spec(server: SocketAddr) -> BTreeMap<String, &'static str> {
    let [program] = suites::go([("h2spec", "github.com/summerwind/h2spec/cmd/h2spec")]);
    let report = scratch(&format!("h2spec-{}.xml", server.port()));
    let ran = Command::new(program)
        .args(["--port", &server.port().to_string()])
        .args(["--junit-report", &report.display().to_string()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    timeout(PATIENCE, ran).await.expect("it hangs").unwrap();
    let report = std::fs::read_to_string(report).unwrap();
    let mut cases = BTreeMap::new();
    for case in report.split("<testcase ").skip(1) {
        let attribute = |name: &str| {
            let (_, rest) = case.split_once(&format!("{name}=\"")).unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let element = &case[..case.find("</testcase>").unwrap_or(case.len())];
        let outcome = match element {
            failed if failed.contains("<failure") || failed.contains("<error") => "failed",
            skipped if skipped.contains("<skipped") => "skipped",
            _ => "passed",
        };
        cases.insert(format!("{}: {}", attribute("package"), attribute("classname")), outcome);
    }
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2spec_finds_the_bare_server_behind_each_way() {
    let (listener, server) = listener().await;
    tokio::spawn(fixture::http2::serve(
        listener,
        HeaderValue::from_static("it"),
        65_535,
        |_, _| (),
    ));
    let bare = h2spec(server).await;
    let count = |wanted: &str| bare.values().filter(|outcome| **outcome == wanted).count();
    assert_eq!(
        (count("passed"), count("failed"), count("skipped")),
        (137, 3, 5),
        "{bare:#?}"
    );
    for way in WAYS {
        let routed = h2spec(front(server, way).await).await;
        for (case, outcome) in &bare {
            assert_eq!(routed.get(case), Some(outcome), "{way:?}, {case}");
        }
    }
}

/// Those of grpc-go's cases that need neither TLS nor credentials nor a service of Google's.
const GRPC_CASES: [&str; 14] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
];

struct GrpcServer {
    _child: Child,
    address: SocketAddr,
}

async fn grpc_server(program: &std::path::Path) -> GrpcServer {
    let port = fixture::free_port();
    let child = Command::new(program)
        .args(["-port", &port.to_string()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let up = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, up).await.expect("the server comes up");
    GrpcServer { _child: child, address }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_clients_and_servers_understand_each_other() {
    let [client, server] = suites::go([
        ("grpc-client", "google.golang.org/grpc/interop/client"),
        ("grpc-server", "google.golang.org/grpc/interop/server"),
    ]);
    let server = grpc_server(&server).await;
    for way in WAYS {
        let front = front(server.address, way).await;
        for case in GRPC_CASES {
            let ran = Command::new(&client)
                .args(["-server_host", "127.0.0.1", "-server_port", &front.port().to_string()])
                .args(["-test_case", case])
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output();
            let ran = timeout(PATIENCE, ran).await.expect("it hangs").unwrap();
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(ran.status.success(), "{way:?}, {case}: {said}");
        }
    }
}
