//! Autobahn's WebSocket suite through the routing: passed on, and stolen. Each case must come out as it does against the bare
//! server; docs/incoming.md has the results.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tests::routed::{Way, front, listener};
use tests::{PATIENCE, scratch, soak, suites};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;
use tokio_tungstenite::{accept_async, tungstenite};

async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        // How a connection breaks is its client's to judge.
        tokio::spawn(echo(stream));
    }
}

async fn echo(stream: TcpStream) -> tungstenite::Result<()> {
    stream.set_nodelay(true)?;
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

/// What Autobahn says of a case: of its messages, of how it was closed, and with which code.
type Outcome = [Value; 3];

/// All but compression, which our own server does not have.
const PLAIN: &[&str] = &["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"];
/// Some compression; the whole of it takes more than half an hour.
const SOME_COMPRESSED: &[&str] = &["12.1.1", "12.5.1", "13.1.1", "13.5.1", "13.7.1"];
const COMPRESSED: &[&str] = &["12.*", "13.*"];

async fn autobahn(server: SocketAddr, wanted: &[&str]) -> BTreeMap<String, Outcome> {
    let reports = scratch(&format!("autobahn-{}", server.port()));
    let spec = reports.with_extension("json");
    let wanted = json!({
        "outdir": reports,
        "servers": [{"agent": "it", "url": format!("ws://{server}")}],
        "cases": wanted,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    });
    std::fs::write(&spec, wanted.to_string()).unwrap();
    let ran = Command::from(suites::wstest())
        .args(["--mode", "fuzzingclient", "--spec"])
        .arg(spec)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    // Python takes most of a minute for what is not compressed, when three of them have two cores.
    let patience = PATIENCE * if soak() { 60 } else { 4 };
    let ran = timeout(patience, ran).await.expect("it hangs").unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let report = std::fs::read(reports.join("index.json")).unwrap();
    let mut report: Value = serde_json::from_slice(&report).unwrap();
    let cases: BTreeMap<String, Value> = serde_json::from_value(report["it"].take()).unwrap();
    let outcome = |case: Value| ["behavior", "behaviorClose", "remoteCloseCode"].map(|of| case[of].clone());
    cases.into_iter().map(|(id, case)| (id, outcome(case))).collect()
}

/// What it says of the bare server, once it has said the same of each way to it.
async fn compared(server: SocketAddr, wanted: &[&str]) -> BTreeMap<String, Outcome> {
    let routed = async |way| autobahn(front(server, way).await, wanted).await;
    let (bare, passed, stolen) = tokio::join!(autobahn(server, wanted), routed(Way::Passed), routed(Way::Stolen));
    for (way, routed) in [(Way::Passed, passed), (Way::Stolen, stolen)] {
        for (case, outcome) in &bare {
            assert_eq!(routed.get(case), Some(outcome), "{way:?}, {case}");
        }
    }
    bare
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autobahn_finds_the_bare_server_behind_each_way() {
    let (listener, server) = listener().await;
    tokio::spawn(serve(listener));
    let bare = compared(server, PLAIN).await;
    let count = |wanted: &str| bare.values().filter(|[messages, ..]| messages == wanted).count();
    assert_eq!(
        (count("OK"), count("NON-STRICT"), count("INFORMATIONAL"), bare.len()),
        (296, 2, 3, 301),
        "{bare:#?}"
    );
}

/// Against Autobahn's own server, which compresses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autobahn_finds_compression_behind_each_way() {
    let mut testee = Command::from(suites::testee());
    let testee = testee.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut testee = testee.spawn().unwrap();
    let mut port = String::new();
    let mut said = BufReader::new(testee.stdout.take().unwrap());
    timeout(PATIENCE, said.read_line(&mut port))
        .await
        .expect("it never listens")
        .unwrap();
    let server = SocketAddr::from(([127, 0, 0, 1], port.trim().parse().unwrap()));
    let (wanted, cases) = if soak() {
        (COMPRESSED, 216)
    } else {
        (SOME_COMPRESSED, 5)
    };
    let bare = compared(server, wanted).await;
    let fine = bare.values().filter(|[messages, ..]| messages == "OK").count();
    assert_eq!((fine, bare.len()), (cases, cases), "{bare:#?}");
}
