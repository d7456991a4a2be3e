//! bind, listen and accept: local and real, with the pod's addresses and the clients' own.

mod common;

use std::net::TcpListener;
use std::process::Stdio;

use common::{Stand, c, go, until};
use fixture::free_port;

fn stand(clients: usize) -> Stand {
    Stand::new()
        .option("--address", "10.244.0.7")
        .option("--clients", clients.to_string())
}

#[test]
fn accept_names_the_original_client() {
    let port = free_port().to_string();
    let ran = stand(1).python(
        r#"
import socket, sys
l = socket.socket(); l.setsockopt(1, 2, 1); l.bind(("10.244.0.7", int(sys.argv[1]))); l.listen()
print(l.getsockname() == ("10.244.0.7", int(sys.argv[1])))
c, peer = l.accept(); print(peer, c.getpeername(), c.getsockname() == l.getsockname()); c.sendall(c.recv(9)); c.close()
s = socket.create_connection(("127.0.0.1", int(sys.argv[1]))); c, peer = l.accept(); print(peer == s.getsockname())
l.setblocking(False)
try: l.accept()
except BlockingIOError: print("would block")
l.settimeout(0.1)
try: l.accept()
except TimeoutError: print("timed out")
"#,
        &[&port],
    );
    let client = "('203.0.113.9', 20000)";
    assert_eq!(
        ran.lines(),
        [
            "True",
            &format!("{client} {client} True"),
            "True",
            "would block",
            "timed out"
        ]
    );
    until("the client's answer", || ran.events.contains("server: client 0 got 0"));
    assert!(
        ran.events.contains(&format!("server: listen {port} 127.0.0.1:{port}")),
        "{}",
        ran.events
    );
}

#[test]
fn servers_of_other_languages() {
    let node = r#"
const s = require("net").createServer({ allowHalfOpen: true }, c => c.on("data", d => c.end(c.remoteAddress + ":" + d)));
let n = 0; s.on("connection", c => c.on("close", () => ++n == 20 && process.exit()));
s.listen(+process.argv[1], "0.0.0.0");
"#;
    let stand_in = stand(20);
    let ran = stand_in.run("node", &["-e", node, &free_port().to_string()]);
    assert_eq!(ran.status, 0, "{}", ran.all());
    for number in 0..20 {
        assert!(
            ran.events
                .contains(&format!("client {number} got 203.0.113.9:{number}")),
            "{}",
            ran.all()
        );
    }
    let stand_in = stand(20);
    let program = go("serve", stand_in.directory.path());
    let Some(ran) = stand_in.run_static(program, &[&free_port().to_string()]) else {
        return;
    };
    assert_eq!(ran.status, 0, "{}", ran.all());
    for number in 0..20 {
        assert!(
            ran.events
                .contains(&format!("got 203.0.113.9:{} {number}", 20_000 + number)),
            "{}",
            ran.all()
        );
    }
}

/// Signals a thousand times a second interrupt every call; still each connection is accepted exactly once.
#[test]
fn accept_under_a_timer_happens_exactly_once() {
    let stand = stand(200);
    let program = c("accept", stand.directory.path(), &[]);
    for mode in ["restart", "interrupt"] {
        let ran = stand.run(&program, &[&free_port().to_string(), mode]);
        assert_eq!(ran.lines(), ["accepted 200, distinct 200"], "{mode}");
    }
}

#[test]
fn a_taken_port_moves_and_the_app_finds_itself() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ran = stand(0).python(
        r#"
import socket, sys
p = int(sys.argv[1])
l = socket.socket(); l.setsockopt(1, 2, 1); l.bind(("127.0.0.1", p)); l.listen(); print(l.getsockname()[1] == p)
s = socket.create_connection(("127.0.0.1", p)); c, peer = l.accept(); c.sendall(b"me"); print(s.recv(9), s.getpeername()[1] != 0)
s = socket.create_connection(("10.244.0.7", p)); l.accept()[0].sendall(b"pod"); print(s.recv(9))
try: socket.socket().bind(("127.0.0.1", p))
except OSError as e: print(e.errno)
l.close(); import time
"#,
        &[&port.to_string()],
    );
    assert_eq!(ran.lines(), ["True", "b'me' True", "b'pod'", "98"]);
    assert!(
        ran.events.contains(&format!("port {port} is taken or not allowed")),
        "{}",
        ran.events
    );
    assert!(
        ran.events.contains(&format!("server: listen {port} 127.0.0.1:")),
        "{}",
        ran.events
    );
    assert!(!ran.events.contains("server: dial"), "{}", ran.events);
}

#[test]
fn a_closed_listener_is_said_at_once() {
    let stand = stand(0);
    let code = "import socket,sys\nl=socket.create_server(('127.0.0.1',int(sys.argv[1])));l.close();input()";
    let script = stand.directory.path().join("guest.py");
    std::fs::write(&script, code).unwrap();
    let mut command = stand.command(common::python(), &[script.to_str().unwrap(), &free_port().to_string()]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let events = stand.events_path();
    until("unlisten", || {
        std::fs::read_to_string(&events).is_ok_and(|events| events.contains("server: unlisten"))
    });
    drop(child.stdin.take());
    stand.finish(child);
}

/// A thread that waits in accept does not keep the port of a process that was killed.
#[test]
fn a_killed_server_leaves_its_port() {
    let stand = stand(0);
    let code = r#"
import os, signal, socket, sys, time
port = int(sys.argv[1]); r, w = os.pipe()
if (pid := os.fork()) == 0:
    l = socket.create_server(("127.0.0.1", port)); os.write(w, b"x"); l.accept()
os.read(r, 1); time.sleep(0.1); os.kill(pid, 9); os.wait(); began = time.time()
while True:
    try: socket.create_server(("127.0.0.1", port)); break
    except OSError: time.sleep(0.01)
print(time.time() - began < 0.5)
"#;
    assert_eq!(stand.python(code, &[&free_port().to_string()]).lines(), ["True"]);
}
