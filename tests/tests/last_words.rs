//! What a program writes before it exits gets to where it would have got from inside the pod, whole or visibly broken.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs::Permissions;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use tests::network::Network;
use tests::{PATIENCE, Run, Session, Stage, wait_until};

const STREAM: u16 = 7801;
const DATAGRAMS: u16 = 7802;
const LOCAL: &str = "/tmp/last.sock";

/// Writes to each of the pod's sockets and exits at once, without closing any.
const WRITES: &str = r#"
import os, socket, sys
size = int(sys.argv[1])
stream = socket.create_connection(("127.0.0.1", 7801))
stream.sendall(b"x" * size)
local = socket.socket(socket.AF_UNIX)
local.connect("/tmp/last.sock")
local.sendall(b"y" * 100_000)
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(100):
    datagrams.sendto(b"%d" % number, ("127.0.0.1", 7802))
os._exit(0)
"#;

/// Writes as much as the kernel takes, and exits.
const FILLS: &str = r#"
import os, socket, time
stream = socket.create_connection(("127.0.0.1", 7801))
stream.setblocking(False)
took, idle = 0, 0
while idle < 50:
    try:
        took += stream.send(b"x" * 65536)
        idle = 0
    except BlockingIOError:
        idle += 1
        time.sleep(0.01)
print(took, flush=True)
os._exit(0)
"#;

/// Answers one client, and exits at once.
const ANSWERS: &str = r#"
import os, socket, sys
server = socket.create_server(("0.0.0.0", 8080))
client, _ = server.accept()
client.recv(100)
client.sendall(b"z" * int(sys.argv[1]))
os._exit(0)
"#;

/// The same by datagrams.
const ANSWERS_DATAGRAM: &str = r#"
import os, socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 7802))
_, client = server.recvfrom(100)
server.sendto(b"once", client)
os._exit(0)
"#;

fn python<'a>(program: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["/usr/bin/python3", "-c", program], arguments].concat()
}

/// The next connection, of this session.
fn accepted(listener: &TcpListener, session: &mut Session) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    wait_until("a connection", || {
        let early = session.ended_early();
        accepted = listener.accept().ok();
        assert!(
            accepted.is_some() || early.is_none(),
            "{}{}",
            session.stdout(),
            session.stderr()
        );
        accepted.is_some()
    });
    let (stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ended(session: Session) -> String {
    let ended = session.wait();
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    format!("{}{}", ended.stdout, ended.stderr)
}

#[test]
fn what_a_program_has_written_when_it_exits_reaches_the_pod() {
    let stage = Stage::new();
    let (listener, datagrams) = Network::of(&stage.pod).enter(|| {
        (
            TcpListener::bind(("127.0.0.1", STREAM)).unwrap(),
            UdpSocket::bind(("127.0.0.1", DATAGRAMS)).unwrap(),
        )
    });
    let shop = stage.pod.running("shop").unwrap().unwrap();
    let path = format!("/proc/{}/root{LOCAL}", shop.pid);
    let local = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(Path::new(&path), Permissions::from_mode(0o777)).unwrap();
    datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
    for size in ["1", "100", "4000000", "4000000"] {
        let mut session = Run::at(&format!("pod/{}", stage.pod.name))
            .env("INPOD_OUTGOING_UNIX", LOCAL)
            .start(&python(WRITES, &[size]));
        let (mut stream, mut heard) = (accepted(&listener, &mut session), Vec::new());
        // It is gone, most likely, before the pod begins to read.
        std::thread::sleep(Duration::from_millis(300));
        stream.read_to_end(&mut heard).unwrap();
        assert_eq!(heard.len().to_string(), size);
        heard.clear();
        local.accept().unwrap().0.read_to_end(&mut heard).unwrap();
        assert_eq!(heard.len(), 100_000);
        for number in 0..100 {
            let mut datagram = [0; 10];
            let length = datagrams.recv(&mut datagram).unwrap();
            assert_eq!(datagram[..length], *number.to_string().as_bytes());
        }
        ended(session);
    }
}

#[test]
fn what_a_server_has_answered_when_it_exits_reaches_its_client() {
    let stage = Stage::new();
    for size in ["1", "100", "2000000", "2000000"] {
        let mut session = stage.session(&["--steal"], &python(ANSWERS, &[size]));
        session.wait_for_claim(8080);
        let mut client = stage.client.connect(stage.address(), PATIENCE).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"no HTTP").unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer.len().to_string(), size);
        ended(session);
        drop(client);
        stage.wait_for_own_rules();
    }
}

#[test]
fn so_does_a_datagram() {
    let stage = Stage::new();
    let mut client = None;
    for _ in 0..5 {
        let mut session = stage.session(&["--steal"], &python(ANSWERS_DATAGRAM, &[]));
        session.wait_for_claim(DATAGRAMS);
        let client: &UdpSocket =
            client.get_or_insert_with(|| stage.client.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()));
        client.connect((stage.address().ip(), DATAGRAMS)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send(b"?").unwrap();
        let mut answer = [0; 10];
        let length = client.recv(&mut answer).unwrap();
        assert_eq!(&answer[..length], b"once");
        ended(session);
    }
}

#[test]
fn who_takes_nothing_is_reset_and_the_person_told() {
    let stage = Stage::new();
    let listener = Network::of(&stage.pod).enter(|| TcpListener::bind(("127.0.0.1", STREAM)).unwrap());
    let mut session = stage.session(&["--no-incoming"], &python(FILLS, &[]));
    let mut stream = accepted(&listener, &mut session);
    let told = ended(session);
    assert!(told.contains("still on its way to the pod"), "{told}");
    assert!(told.contains("1 connections did not take"), "{told}");
    let mut heard = Vec::new();
    let end = stream.read_to_end(&mut heard).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{} bytes", heard.len());
}
