//! Copies of the pod's incoming traffic, on the real cluster.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use testbed::FreshPod;
use tests::recorder::recorded;
use tests::{Stage, soak, wait_until};

const PORT: u16 = 8080;

/// A request that no other equals, with a body of up to 8 KiB, now and then 100 KiB.
fn unique(client: usize, number: usize) -> Vec<u8> {
    let size = if number % 50 == 7 {
        100 << 10
    } else {
        (client * 7919 + number * 104_729) % 8192
    };
    let body: String = (0..size)
        .map(|at| char::from(b'a' + ((at * 31 + number * 17 + client) % 26) as u8))
        .collect();
    let path = format!("/{client}/{number}");
    format!("POST {path} HTTP/1.1\r\nHost:  test\r\nx-CASE: kept\r\nContent-Length: {size}\r\n\r\n{body}").into_bytes()
}

/// Mirror is the default: the real service answers everything, and the local program receives everything.
#[test]
fn a_mirror_receives_byte_for_byte_what_the_real_service_answers() {
    const CLIENTS: usize = 20;
    const RATE: usize = 500;
    const REQUESTS_A_CONNECTION: usize = 40;
    let seconds = if soak() { 30 } else { 10 };
    let each = RATE * seconds / CLIENTS;
    let stage = Stage::new();
    let (session, file) = stage.with_recorder(&[]);
    let begin = Instant::now();
    let clients = |client: usize| {
        let mut connection = None;
        for number in 0..each {
            let due = begin
                + Duration::from_secs_f64(
                    (number as f64 + client as f64 / CLIENTS as f64) * CLIENTS as f64 / RATE as f64,
                );
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if number % REQUESTS_A_CONNECTION == 0 {
                connection = Some(stage.connect());
            }
            let request = unique(client, number);
            let response = connection
                .as_mut()
                .unwrap()
                .send(&request)
                .expect("the real service answers");
            assert_eq!((response.status, response.service()), (200, "real"));
            let body = String::from_utf8_lossy(&request);
            let body = body.split_once("\r\n\r\n").unwrap().1;
            assert!(
                response.body.ends_with(body),
                "the real service received something else"
            );
        }
    };
    thread::scope(|scope| (0..CLIENTS).for_each(|client| drop(scope.spawn(move || clients(client)))));
    let took = begin.elapsed();

    let sent: BTreeSet<Vec<u8>> = (0..CLIENTS)
        .flat_map(|client| (0..each).map(move |number| unique(client, number)))
        .collect();
    assert_eq!(sent.len(), CLIENTS * each);
    wait_until("the last copy", || {
        recorded(&file).len() >= sent.len() || !session.events("warning").is_empty()
    });
    let received = recorded(&file);
    assert!(session.events("warning").is_empty(), "{:?}", session.events("warning"));
    assert_eq!(received.len(), sent.len(), "nothing comes twice");
    assert!(
        received.into_iter().collect::<BTreeSet<_>>() == sent,
        "the copies differ from what was sent"
    );
    println!(
        "mirrored: {} requests in {took:.1?}, none lost, none changed",
        sent.len()
    );
    println!("{}", stage.assert_small(&session));
    assert_eq!(stage.rules_now(), stage.rules, "a mirror never touches the data path");
}

#[test]
fn a_filtered_mirror_receives_only_what_matches() {
    let stage = Stage::new();
    let (session, file) = stage.with_recorder(&["--mirror", "--header", "X-User=a"]);
    let mut client = stage.connect();
    for number in 0..10 {
        let user = if number % 3 == 0 { "a" } else { "b" };
        let path = format!("/{number}");
        assert_eq!(
            client.get(&path, &[&format!("X-User: {user}")]).unwrap().service(),
            "real"
        );
    }
    wait_until("the copies", || recorded(&file).len() >= 4);
    drop(client);
    wait_until("the copy's end", || session.stdout().contains("end orderly"));
    let requests = recorded(&file);
    let paths: Vec<_> = requests
        .iter()
        .filter_map(|request| request.split(|&byte| byte == b' ').nth(1))
        .collect();
    assert_eq!(paths, [&b"/0"[..], b"/3", b"/6", b"/9"]);
}

/// How long a client's connection lasts is the real app's choice, and need not be the local program's.
#[test]
fn a_mirror_goes_on_when_the_local_program_closes_or_is_started_again() {
    // HTTP/1.0: each request has a connection of its own.
    let server = r#"
import http.server
class Print(http.server.BaseHTTPRequestHandler):
    answered = 0
    def do_GET(self):
        print("got " + self.path, flush=True)
        Print.answered += 1
        self.send_response(204)
        self.end_headers()
server = http.server.HTTPServer(("", 8080), Print)
print("listens", flush=True)
# The pod's TCP probe is mirrored, too: a connection without a request.
while Print.answered < 3:
    server.handle_request()
"#;
    let stage = Stage::new();
    let twice = "python3 -c \"$0\"; python3 -c \"$0\"";
    let mut session = stage.session(&[], &["sh", "-c", twice, server]);
    session.wait_for_claim(PORT);
    let mut client = stage.connect();
    for number in 1..=6 {
        assert_eq!(client.get(&format!("/{number}"), &[]).unwrap().service(), "real");
        let copy = format!("got /{number}\n");
        wait_until("the copy", || session.stdout().contains(&copy));
        let listening = if number < 3 { 1 } else { 2 };
        wait_until("the program", || {
            session.stdout().matches("listens").count() == listening
        });
    }
    assert_eq!(session.wait().code(), 0);
}

/// Who debugs a program should not have to wonder where its requests are.
#[test]
fn mirrored_requests_that_do_not_reach_the_program_are_told() {
    let stage = Stage::new();
    let (session, file) = stage.with_recorder(&[]);
    let mut client = stage.connect();
    assert_eq!(client.get("/a", &[]).unwrap().service(), "real");
    wait_until("the copy", || recorded(&file).len() == 1);
    session.signal(Signal::USR1);
    wait_until("the listener's end", || session.stdout().contains("closed"));
    // Another client: a connection that the program has is not taken from it.
    assert_eq!(stage.who_answers(&[]), "real");
    wait_until("the warning", || !session.events("warning").is_empty());
    let warning = session.events("warning")[0]["message"].as_str().unwrap().to_owned();
    let expected = "port 8080: a mirrored request did not reach the app whole: it takes no connection: ";
    assert!(warning.starts_with(expected), "{warning}");
    session.signal(Signal::USR2);
    wait_until("a copy again", || {
        assert_eq!(stage.who_answers(&[]), "real");
        recorded(&file).len() > 1
    });
    let ended = session.stop();
    let counted = &ended.events("counted")[0];
    assert!(counted["lost"].as_u64().unwrap() >= 1, "{counted}");
    assert_eq!(ended.events("warning").len(), 1, "it is said once");
}

/// A breakpoint that the kubelet runs into every few seconds would be of little use.
#[test]
fn an_unfiltered_mirror_copies_everything_but_the_probes() {
    let (alive, ready) = (json!({"path": "/healthz", "port": PORT}), json!({"port": PORT}));
    let stage = Stage::of(&FreshPod {
        spec: json!({"containers": [{
            "name": "main", "image": "inpod.test/shop:1", "imagePullPolicy": "Never", "args": ["web"],
            "env": [{"name": "SERVICE", "value": "real"}], "ports": [{"containerPort": PORT}],
            "livenessProbe": {"httpGet": alive, "periodSeconds": 1, "failureThreshold": 1},
            "readinessProbe": {"tcpSocket": ready, "periodSeconds": 1, "failureThreshold": 1},
        }]}),
        ..FreshPod::default()
    });
    let (session, file) = stage.with_recorder(&[]);
    thread::sleep(Duration::from_secs(4));
    assert_eq!(stage.who_answers(&[]), "real");
    wait_until("the copy's end", || session.stdout().contains("end "));
    let requests = recorded(&file);
    assert_eq!(
        requests.len(),
        1,
        "{:?}",
        requests.iter().map(|request| request.escape_ascii().to_string())
    );
    assert_eq!(session.stdout().matches("end ").count(), 1, "{}", session.stdout());
    stage.assert_well();
    assert_eq!(session.stop().code(), 0);
}
