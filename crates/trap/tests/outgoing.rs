//! Outgoing TCP: truthful for blocking and non-blocking programs, whatever made them.

mod common;

use common::{Stand, c, echo, go, python};

const SERVER: &str = "10.9.0.1:80";

fn stand() -> Stand {
    Stand::new()
        .map(SERVER, echo())
        .map("[fd00::9]:80", echo())
        .option("--address", "10.244.0.7")
        .option("--address", "fd00::7")
        .option("--fail", "10.9.0.3:80=110,300")
        .option("--fail", "10.9.0.4:80=113")
        .option("--fail", "10.9.0.5:80=111,200")
}

#[test]
fn blocking_connects_and_names() {
    let ran = stand().python(
        r#"
import socket
for family, address in ((2, ("10.9.0.1", 80)), (10, ("fd00::9", 80)), (10, ("::ffff:10.9.0.1", 80))):
    s = socket.socket(family); s.connect(address); s.sendall(b"hello")
    print(s.recv(9), s.getpeername()[0], s.getsockname()[0]); s.shutdown(1); assert s.recv(1) == b""
s = socket.socket(10); s.setsockopt(41, 26, 1); s.connect(("fd00::9", 80)); print(s.getpeername()[0])
for last in (2, 3, 4):
    try: socket.socket().connect((f"10.9.0.{last}", 80))
    except OSError as e: print(e.errno)
"#,
        &[],
    );
    assert_eq!(
        ran.lines(),
        [
            "b'hello' 10.9.0.1 10.244.0.7",
            "b'hello' fd00::9 fd00::7",
            "b'hello' ::ffff:10.9.0.1 ::ffff:10.244.0.7",
            "fd00::9",
            "111",
            "110",
            "113"
        ]
    );
}

#[test]
fn nonblocking_connects_tell_the_truth_at_each_step() {
    let ran = stand().option("--delay-ms", "100").python(
        r#"
import socket, select, errno
def name(e): return errno.errorcode.get(e, e)
s = socket.socket(); s.setblocking(False)
print(name(s.connect_ex(("10.9.0.1", 80))), name(s.connect_ex(("10.9.0.1", 80))), select.select([], [s], [], 0)[1])
try: s.getpeername()
except OSError as e: print(name(e.errno))
select.select([], [s], [], 20)
print(s.getsockopt(1, 4), s.connect_ex(("10.9.0.1", 80)), name(s.connect_ex(("10.9.0.1", 80))), s.getpeername())
for last in (2, 3, 4, 5):
    s = socket.socket(); s.setblocking(False); s.connect_ex((f"10.9.0.{last}", 80))
    p = select.poll(); p.register(s, select.POLLOUT)
    events = p.poll(20000)[0][1]
    print(bool(events & (select.POLLERR | select.POLLHUP)), s.getsockopt(1, 4), s.getsockopt(1, 4))
s = socket.socket(); s.setblocking(False); s.connect_ex(("10.9.0.5", 80)); select.select([], [s], [], 20)
s.getsockname()  # waits until the refusal is complete: for some microseconds a read would say ECONNRESET
try: s.recv(1)
except OSError as e: print("recv", name(e.errno))
s = socket.socket(); s.setblocking(False); s.connect_ex(("10.9.0.3", 80)); select.select([], [s], [], 20)
print("again", name(s.connect_ex(("10.9.0.1", 80)))); print(name(s.connect_ex(("10.9.0.1", 80)))); select.select([], [s], [], 20)
s.setblocking(True); s.sendall(b"x"); print(s.recv(1))
"#,
        &[],
    );
    assert_eq!(
        ran.lines(),
        [
            "EINPROGRESS EALREADY []",
            "ENOTCONN",
            "0 0 EISCONN ('10.9.0.1', 80)",
            "True 111 0",
            "True 110 0",
            "True 113 0",
            "True 111 0",
            "recv ECONNREFUSED",
            "again ETIMEDOUT",
            "EINPROGRESS",
            "b'x'"
        ]
    );
}

/// Each event loop has its own idea of when a socket is connected.
#[test]
fn event_loops_connect_fifty_at_once() {
    let asyncio = r#"
import asyncio
async def one(i):
    r, w = await asyncio.open_connection("10.9.0.1", 80)
    w.write(b"%d" % i); assert await r.read(9) == b"%d" % i; w.close()
async def bad(host):
    try: await asyncio.open_connection(host, 80)
    except OSError as e: return e.errno
async def main():
    await asyncio.gather(*(one(i) for i in range(50))); print("50")
    print(*await asyncio.gather(bad("10.9.0.2"), bad("10.9.0.3"), bad("10.9.0.4")))
asyncio.run(main())
"#;
    assert_eq!(
        stand().option("--delay-ms", "50").python(asyncio, &[]).lines(),
        ["50", "111 110 113"]
    );

    let node = r#"
const net = require("net");
const one = i => new Promise(done => { const s = net.connect(80, "10.9.0.1", () => s.write("" + i));
  s.on("data", d => { if (d.toString() !== "" + i || s.remoteAddress !== "10.9.0.1") throw "bad"; s.end(); done(); }); });
const bad = host => new Promise(done => net.connect(80, host).on("error", e => done(e.code)));
Promise.all([...Array(50).keys()].map(one)).then(async () => { console.log("50");
  console.log(await bad("10.9.0.2"), await bad("10.9.0.3"), await bad("10.9.0.4")); });
"#;
    let ran = stand().option("--delay-ms", "50").run("node", &["-e", node]);
    assert_eq!(ran.lines(), ["50", "ECONNREFUSED ETIMEDOUT EHOSTUNREACH"]);
}

#[test]
fn static_and_dynamic_programs() {
    let stand = stand();
    for flags in [&[][..], &["-static"]] {
        let program = c("connect", stand.directory.path(), flags);
        let ran = if flags.is_empty() {
            Some(stand.run(program, &[]))
        } else {
            stand.run_static(program, &[])
        };
        let Some(ran) = ran else { continue };
        assert_eq!(ran.lines(), ["early 0", "connected 50", "111 110 113"], "{flags:?}");
    }
    let program = go("connect", stand.directory.path());
    let Some(ran) = stand.run_static(program, &[]) else {
        return;
    };
    let lines = ran.lines();
    assert_eq!(lines[0], "50 10.9.0.1:80");
    assert!(
        lines[1].ends_with("connection refused") && lines[2].ends_with("connection timed out"),
        "{}",
        ran.all()
    );
}

/// Whoever looks all the time, in another thread, sees a failing connect become ready and failed at once: never writable
/// before, never connected, nothing written, and SO_ERROR has the pod's own reason.
#[test]
fn a_failing_connect_is_never_writable_before_it_fails() {
    const ROUNDS: usize = 300;
    let stand = Stand::new()
        .option("--fail", "10.9.0.2:80=111")
        .option("--fail", "10.9.0.3:80=110,2")
        .option("--fail", "10.9.0.4:80=113,1")
        .option("--fail", "10.9.0.5:80=111,3");
    let program = c("poller", stand.directory.path(), &[]);
    let failing = ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5"];
    let each = ROUNDS / failing.len();
    for way in ["poll", "epoll", "send"] {
        let rounds = ROUNDS.to_string();
        let arguments: Vec<&str> = [way, &rounds].into_iter().chain(failing).collect();
        let ran = stand.run(&program, &arguments);
        let expected = [
            "writable 0 connected 0 written 0 no error 0 strange 0".to_owned(),
            format!("110: {each} 111: {} 113: {each} ", 2 * each),
        ];
        assert_eq!(ran.lines(), expected, "{way}");
    }
}

#[test]
fn a_signal_during_a_blocking_connect() {
    let stand = stand().option("--delay-ms", "400");
    let program = c("alarm", stand.directory.path(), &[]);
    // Restarted by the kernel: connects in the end. Interrupted: EINTR, and the connection goes on by itself.
    assert_eq!(stand.run(&program, &["restart"]).lines(), ["connected"]);
    assert_eq!(
        stand.run(&program, &["interrupt"]).lines(),
        ["interrupted", "connected"]
    );
    // SO_SNDTIMEO: EINPROGRESS (115).
    assert_eq!(stand.run(&program, &["timeout"]).lines(), ["115"]);
}

#[test]
fn what_is_local_stays_local() {
    let local = echo();
    let stand = stand().option("--local-port", local.port().to_string());
    let ran = stand.python(
        r#"
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1]))); print(s.getpeername()[1] == int(sys.argv[1]))
l = socket.create_server(("127.0.0.1", 0)); s = socket.create_connection(l.getsockname()); print(l.accept()[1] == s.getsockname())
try: socket.create_connection(("127.0.0.1", 9))
except OSError as e: print(e.errno)
"#,
        &[&local.port().to_string()],
    );
    assert_eq!(ran.lines(), ["True", "True", "111"]);
    // Only what nobody of the app listens on went to the pod.
    let dials: Vec<&str> = ran
        .events
        .lines()
        .filter(|line| line.starts_with("server: dial"))
        .collect();
    assert_eq!(dials, ["server: dial 127.0.0.1:9"]);
}

#[test]
fn rules_by_name_ask_for_the_names() {
    let local = echo();
    let stand = Stand::new()
        .option("--local-name", "*.corp")
        .option("--name", format!("{}=git.corp", local.ip()));
    let code = "import socket,sys; s=socket.create_connection(('127.0.0.1', int(sys.argv[1]))); s.sendall(b'x'); print(s.recv(1))";
    let ran = stand.python(code, &[&local.port().to_string()]);
    assert_eq!(ran.lines(), ["b'x'"]);
    assert!(!ran.events.contains("server: dial"), "{}", ran.all());
}

#[test]
fn unix_sockets_by_pattern() {
    let stand = Stand::new();
    let path = stand.directory.path().join("real.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        use std::io::Write;
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"pod");
        }
    });
    let stand = stand.option("--unix", format!("/run/app.sock={}", path.display()));
    let ran = stand.python(
        r#"
import socket, os
s = socket.socket(1); s.connect("/run/app.sock"); print(s.recv(9), s.getpeername())
try: socket.socket(1).connect("/run/nscd/socket")
except OSError as e: print(e.errno)
a = socket.socket(1); a.bind("\0inpod-test-%d" % os.getpid()); a.listen(); b = socket.socket(1); b.connect(a.getsockname()); print("abstract")
"#,
        &[],
    );
    assert_eq!(ran.lines(), ["b'pod' /run/app.sock", "2", "abstract"]);
}

#[test]
fn children_however_started() {
    let stand = stand();
    let code = "import socket; s=socket.create_connection(('10.9.0.1',80)); s.sendall(b'x'); print(s.recv(1))";
    let child = format!("exec {} -c \"{code}\"", python());
    for shell in [
        format!("env -i {child}"),
        format!("setsid {child}"),
        format!("({child}) & wait"),
    ] {
        let shell = shell
            .replace("env -i exec", "env -i")
            .replace("setsid exec", "setsid -w");
        assert_eq!(stand.run("dash", &["-c", &shell]).lines(), ["b'x'"], "{shell}");
    }
    let spawned = r#"
import os, subprocess, sys, threading, socket
code = "import socket; s=socket.create_connection(('10.9.0.1',80)); s.sendall(b'x'); print(s.recv(1), flush=True)"
subprocess.run([sys.executable, "-c", code], close_fds=False)
os.waitpid(os.posix_spawn(sys.executable, [sys.executable, "-c", code], {}), 0)
if os.fork() == 0: exec(code); os._exit(0)
os.wait()
t = threading.Thread(target=exec, args=(code,)); t.start(); t.join()
"#;
    assert_eq!(stand.python(spawned, &[]).lines(), ["b'x'"; 4]);
}
