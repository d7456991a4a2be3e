//! Datagrams of the pod's clients: who sent them is said, and the answer goes back to them.

mod common;

use common::{Stand, c};
use fixture::free_port;

fn stand(clients: usize) -> Stand {
    Stand::new()
        .option("--address", "10.244.0.7")
        .option("--clients", clients.to_string())
}

#[test]
fn a_server_of_datagrams_sees_and_answers_the_original_client() {
    let port = free_port().to_string();
    let ran = stand(1).python(
        r#"
import socket, sys
port = int(sys.argv[1])
s = socket.socket(2, 2); s.bind(("10.244.0.7", port)); print(s.getsockname() == ("10.244.0.7", port))
data, peer = s.recvfrom(99); print(data, peer); s.sendto(b"hello " + data, peer)
near = socket.socket(2, 2); near.sendto(b"near", ("127.0.0.1", port))
data, peer = s.recvfrom(99); print(data, peer == ("127.0.0.1", near.getsockname()[1])); s.sendto(b"back", peer); print(near.recv(9))
s.setblocking(False)
try: s.recvfrom(9)
except BlockingIOError: print("would block")
import time; time.sleep(0.2)
"#,
        &[&port],
    );
    assert_eq!(
        ran.lines(),
        [
            "True",
            "b'0' ('203.0.113.9', 20000)",
            "b'near' True",
            "b'back'",
            "would block"
        ]
    );
    assert!(
        ran.events
            .contains(&format!("server: listen {port}/udp 127.0.0.1:{port}")),
        "{}",
        ran.events
    );
    assert!(ran.events.contains("server: client 0 got hello 0"), "{}", ran.events);
    assert!(!ran.events.contains("udp relay"), "{}", ran.events);
}

#[test]
fn one_that_connects_to_its_client_keeps_it_and_a_client_is_no_server() {
    let (port, other) = (free_port().to_string(), free_port().to_string());
    let ran = stand(1).map("10.9.0.1:53", common::udp_echo()).python(
        r#"
import socket, sys
s = socket.socket(2, 2); s.bind(("", int(sys.argv[1])))
data, peer = s.recvfrom(99); s.connect(peer); print(s.getpeername()); s.send(b"connected " + data)
c = socket.socket(2, 2); c.bind(("", int(sys.argv[2]))); c.connect(("10.9.0.1", 53)); c.send(b"q")
while (got := c.recvfrom(9))[0] != b"q": pass  # a client may have been quicker than the connect
print(got)
e = socket.socket(2, 2); e.bind(("", 0)); e.sendto(b"q", ("10.9.0.1", 53)); print(e.recvfrom(9))
import time; time.sleep(0.2)
"#,
        &[&port, &other],
    );
    let echo = "(b'q', ('10.9.0.1', 53))";
    assert_eq!(ran.lines(), ["('203.0.113.9', 20000)", echo, echo]);
    assert!(
        ran.events.contains("server: client 0 got connected 0"),
        "{}",
        ran.events
    );
    let of = |what: &str| ran.events.lines().filter(|line| line.contains(what)).count();
    assert_eq!(of("server: listen"), 2, "{}", ran.events);
    assert!(ran.events.contains("server: unlisten"), "{}", ran.events);
    assert!(of(&format!("server: listen {other}/udp")) == 1, "{}", ran.events);
}

/// Both families on one socket, in every way to receive; dynamic and static.
#[test]
fn programs_of_other_languages() {
    const CLIENTS: usize = 6;
    let answered = |events: &str| {
        for number in 0..CLIENTS {
            let client = if number % 2 == 0 {
                "::ffff:203.0.113.9"
            } else {
                "fd00::9"
            };
            let line = format!("client {number} got {client} {} {number}", 20_000 + number);
            assert!(events.contains(&line), "{line}: {events}");
        }
    };
    for flags in [&[][..], &["-static"]] {
        let stand = stand(CLIENTS);
        let program = c("datagram_server", stand.directory.path(), flags);
        let arguments = [free_port().to_string(), CLIENTS.to_string()];
        let arguments = arguments.each_ref().map(String::as_str);
        let ran = if flags.is_empty() {
            Some(stand.run(program, &arguments))
        } else {
            stand.run_static(program, &arguments)
        };
        let Some(ran) = ran else { continue };
        assert_eq!(ran.status, 0, "{}", ran.all());
        answered(&ran.events);
    }
    let node = r#"
const s = require("dgram").createSocket("udp6"); let n = 0;
s.on("message", (m, from) => s.send(from.address + " " + from.port + " " + m, from.port, from.address, () => ++n == 6 && setTimeout(() => process.exit(), 200)));
s.bind(+process.argv[1]);
"#;
    let ran = stand(CLIENTS).run("node", &["-e", node, &free_port().to_string()]);
    assert_eq!(ran.status, 0, "{}", ran.all());
    answered(&ran.events);
}
