//! UDP: connected and not, addresses translated both ways, one question to the server for each destination.

mod common;

use common::{Stand, c, go, udp_echo};

fn stand() -> Stand {
    Stand::new()
        .map("10.9.0.1:53", udp_echo())
        .map("10.9.0.2:53", udp_echo())
        .map("[fd00::9]:53", udp_echo())
        .option("--address", "10.244.0.7")
        .option("--address", "fd00::7")
}

#[test]
fn addresses_are_the_pods() {
    let ran = stand().python(
        r#"
import socket
s = socket.socket(2, 2)
for host in ("10.9.0.1", "10.9.0.2", "10.9.0.1"):
    s.sendto(host.encode(), (host, 53)); print(*s.recvfrom(99))
for i in range(200): s.sendto(b"x", ("10.9.0.1", 53)); s.recvfrom(9)
s.sendmsg([b"a", b"b"], [], 0, ("10.9.0.2", 53)); print(*s.recvmsg(99)[::3])
s.setblocking(False)
try: s.recvfrom(9)
except BlockingIOError: print("would block")
s.settimeout(0.1)
try: s.recvfrom(9)
except TimeoutError: print("timed out")
c = socket.socket(2, 2); c.connect(("10.9.0.1", 53)); c.send(b"hi"); print(*c.recvfrom(9), c.getpeername(), c.getsockname()[0])
v = socket.socket(10, 2); v.sendto(b"six", ("fd00::9", 53)); print(v.recvfrom(9)[1][0])
v.sendto(b"six", ("::ffff:10.9.0.1", 53)); print(v.recvfrom(9)[1][0])
big = b"y" * 40000; c.send(big); print(len(c.recv(65536)))
s.setblocking(True); s.sendto(b"0123456789", ("10.9.0.1", 53)); print(*s.recvfrom(4))
"#,
        &[],
    );
    assert_eq!(
        ran.lines(),
        [
            "b'10.9.0.1' ('10.9.0.1', 53)",
            "b'10.9.0.2' ('10.9.0.2', 53)",
            "b'10.9.0.1' ('10.9.0.1', 53)",
            "b'ab' ('10.9.0.2', 53)",
            "would block",
            "timed out",
            "b'hi' ('10.9.0.1', 53) ('10.9.0.1', 53) 10.244.0.7",
            "fd00::9",
            "::ffff:10.9.0.1",
            "40000",
            "b'0123' ('10.9.0.1', 53)",
        ]
    );
    assert_eq!(
        ran.events.matches("server: udp relay 10.9.0.1:53").count(),
        1,
        "{}",
        ran.events
    );
}

#[test]
fn batches_and_a_reader_that_was_there_before() {
    let stand = stand();
    for flags in [&[][..], &["-static"]] {
        let program = c("datagrams", stand.directory.path(), flags);
        let ran = if flags.is_empty() {
            Some(stand.run(program, &[]))
        } else {
            stand.run_static(program, &[])
        };
        let Some(ran) = ran else { continue };
        assert_eq!(
            ran.lines(),
            ["sent 3", "10.9.0.1 10.9.0.2 10.9.0.1", "reader 10.9.0.1", "batch 2"],
            "{flags:?}"
        );
    }
    let program = go("datagrams", stand.directory.path());
    if let Some(ran) = stand.run_static(program, &[]) {
        assert_eq!(ran.lines(), ["10.9.0.1:53 hello", "10.9.0.2:53 hello"]);
    }
}

#[test]
fn datagrams_within_the_app_stay_here() {
    let ran = stand().python(
        r#"
import socket
a = socket.socket(2, 2); a.bind(("127.0.0.1", 0)); b = socket.socket(2, 2)
b.sendto(b"ping", a.getsockname()); data, peer = a.recvfrom(9); a.sendto(b"pong", peer); print(data, b.recvfrom(9)[0])
c = socket.socket(2, 2); c.connect(a.getsockname()); c.send(b"more"); data, peer = a.recvfrom(9); a.sendto(data, peer); print(c.recv(9))
"#,
        &[],
    );
    assert_eq!(ran.lines(), ["b'ping' b'pong'", "b'more'"]);
    assert!(!ran.events.contains("udp relay"), "{}", ran.events);
}

#[test]
fn event_loops_and_virtual_machines() {
    let node = r#"
const s = require("dgram").createSocket("udp4"); let n = 0;
s.on("message", (m, from) => { if (from.address !== "10.9.0." + m || from.port !== 53) throw from; if (++n == 20) { console.log("20"); process.exit(); } });
for (let i = 0; i < 20; i++) s.send("" + (1 + i % 2), 53, "10.9.0." + (1 + i % 2));
"#;
    assert_eq!(stand().run("node", &["-e", node]).lines(), ["20"]);
    let stand = stand();
    let source = stand.directory.path().join("Main.java");
    let java = r#"import java.net.*;
class Main { public static void main(String[] a) throws Exception {
  var s = new DatagramSocket(); var d = "hi".getBytes();
  s.send(new DatagramPacket(d, 2, InetAddress.getByName("10.9.0.2"), 53));
  var p = new DatagramPacket(new byte[9], 9); s.receive(p); System.out.println(p.getSocketAddress());
  try (var t = new Socket()) { t.connect(new InetSocketAddress("10.9.0.3", 80), 5000); } catch (ConnectException e) { System.out.println(e.getMessage()); }
} }"#;
    std::fs::write(&source, java).unwrap();
    let ran = stand.run("java", &["-XX:TieredStopAtLevel=1", source.to_str().unwrap()]);
    assert_eq!(ran.lines(), ["/10.9.0.2:53", "Connection refused"], "{}", ran.all());
}
