//! `inpod dump` on the real cluster: what comes to a pod is shown, and nothing else happens.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Session, Stage, cluster, wait_until};

/// In force when this returns.
fn dump(stage: &Stage, flags: &[&str]) -> Session {
    let target = format!("pod/{}", stage.pod.name);
    let session = Session::spawn(cluster(&[&["dump", "-t", &target], flags].concat()));
    wait_until("the claim", || session.stderr().contains("port 8080: mirrored"));
    session
}

fn objects(session: &Session) -> Vec<Value> {
    let text = session.stdout();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn requests_are_shown_and_answered_as_always() {
    let stage = Stage::new();
    let text = dump(&stage, &[]);
    let some = dump(
        &stage,
        &["--json", "--port", "8080", "--filter", "method:POST", "--bytes", "4"],
    );
    let mut client = stage.connect();
    assert_eq!(client.get("/a?b", &["X-User: eve\u{9b}2J"]).unwrap().service(), "real");
    let post = b"POST /c HTTP/1.1\r\nHost: shop\r\nContent-Length: 6\r\n\r\nabcdef";
    assert_eq!(client.send(post).unwrap().service(), "real");
    wait_until("both requests", || text.stdout().contains("abcdef"));
    let shown = text.stdout();
    assert!(shown.contains(" > :8080 GET /a?b HTTP/1.1\n"), "{shown}");
    assert!(shown.contains("\n    X-User: eve\u{fffd}2J\n"), "{shown}");
    assert!(
        shown.contains("\n    Host: shop\n    Content-Length: 6\n\n    abcdef\n"),
        "{shown}"
    );
    assert!(!shown.contains('\u{9b}'));

    wait_until("the object", || !objects(&some).is_empty());
    let found = objects(&some);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["event"], "request");
    assert_eq!(found[0]["target"], "/c");
    assert_eq!(found[0]["server"], json!(stage.address()));
    assert_eq!(found[0]["body"], json!({"length": 6, "shown": 4, "text": "abcd"}));

    let target = format!("pod/{}", stage.pod.name);
    let listed = cluster(&["sessions", "-t", &target, "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let claims = |session: usize| {
        let claims = listed["sessions"][session]["claims"].as_array().unwrap();
        claims
            .iter()
            .map(|claim| (claim["port"].clone(), claim["mode"].clone()))
            .collect::<Vec<_>>()
    };
    assert!(claims(0).contains(&(json!(8080), json!("mirror"))), "{listed}");
    assert_eq!(claims(1), [(json!(8080), json!("mirror"))], "{listed}");

    let ended = text.stop();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    some.signal(Signal::INT);
    let ended = some.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(client.get("/", &[]).unwrap().service(), "real");
    assert_eq!(stage.rules_now(), stage.rules);
}

#[test]
fn what_is_not_http_is_shown_by_its_bytes() {
    let stage = Stage::new();
    let session = dump(&stage, &["--json", "--bytes", "3"]);
    let send = |bytes: &[u8]| {
        let client = stage.client.connect(stage.address(), Duration::from_secs(5)).unwrap();
        (&client).write_all(bytes).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let _ = (&client).read_to_end(&mut Vec::new());
        client.local_addr().unwrap()
    };
    let client = send(b"\x16\x03\x01\x00\x01");
    let of_it = || {
        let mut objects = objects(&session);
        objects.retain(|object| object["client"] == json!(client));
        objects
    };
    wait_until("its end", || of_it().iter().any(|object| object["event"] == "closed"));
    let found = of_it();
    assert_eq!(found[0]["protocol"], "TLS");
    let bytes: u64 = found.iter().filter_map(|object| object["shown"].as_u64()).sum();
    assert_eq!((bytes, &found[1]["hex"]), (3, &json!("160301")));
    let last = found.last().unwrap();
    assert_eq!((&last["event"], &last["bytes"]), (&json!("closed"), &json!(5)));
}

#[test]
fn it_ends_with_its_reader_and_with_its_session() {
    let stage = Stage::new();
    let target = format!("pod/{}", stage.pod.name);
    let mut piped = cluster(&["dump", "-t", &target, "--port", "8080"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let sessions = || {
        let listed = cluster(&["sessions", "-t", &target, "--json"]).output().unwrap();
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        listed["sessions"].as_array().unwrap().clone()
    };
    wait_until("the session", || {
        sessions().iter().any(|session| session["claims"] != json!([]))
    });
    // Without any traffic.
    drop(piped.stdout.take());
    wait_until("its end", || piped.try_wait().unwrap().is_some());
    assert_eq!(piped.wait().unwrap().code(), Some(0));
    wait_until("nobody", || sessions().is_empty());

    let session = dump(&stage, &[]);
    let name = sessions()[0]["session"].as_str().unwrap().to_owned();
    let stopped = cluster(&["sessions", "stop", "-t", &target, &name]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    let ended = session.wait();
    assert_eq!(ended.code(), 74, "{}", ended.stderr);
    assert!(ended.stderr.contains("the session was stopped by"), "{}", ended.stderr);
}
