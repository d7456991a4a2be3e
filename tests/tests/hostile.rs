//! Hostile input on the real cluster: to the pod through the agent, and to what a session has on this machine.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use testbed::FreshPod;
use tests::processes::server;
use tests::{Stage, guests, scratch, wait_until};

/// Sends all of it and gives all that comes back.
fn converse(stage: &Stage, bytes: &[u8]) -> Vec<u8> {
    let stream = stage.client.connect(stage.address(), Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream)
                .write_all(bytes)
                .and_then(|()| stream.shutdown(Shutdown::Write))
        });
        let mut answer = Vec::new();
        (&stream).read_to_end(&mut answer).unwrap();
        answer
    })
}

/// The pod sends back what it receives, so that every byte can be seen.
#[test]
fn malformed_requests_reach_the_real_app_as_they_are() {
    let stage = Stage::of(&FreshPod {
        args: &["tcp-echo", "0.0.0.0:8080"],
        port: None,
        ..FreshPod::default()
    });
    let program = ["python3", &guests::script("talk.py"), "8080", "taken"];
    let mut session = stage.session(&["--steal", "--header", "X-User=a"], &program);
    session.wait_for_claim(8080);
    let matching = "X-User: a\r\n";
    let mut huge = format!("GET / HTTP/1.1\r\n{matching}X-Huge: ").into_bytes();
    huge.extend((0..10_u32 << 20).map(|at| b'a' + (at % 23) as u8));
    huge.extend_from_slice(b"\r\n\r\n");
    let cases = [
        format!("GET / HTTP/9.9\r\n{matching}\r\n"),
        format!("GET  /two  spaces HTTP/1.1\r\n{matching}\r\n"),
        format!("GET / HTTP/1.1\r\n{matching}Bad Name: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{matching}No colon\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{matching}Zero: \0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{matching}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        format!("POST / HTTP/1.1\r\n{matching}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{matching}Content-Length: -1\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{matching}Content-Length: 99999999999999999999\r\n\r\nx"),
        format!("GET / HTTP/1.1\r\n{matching}"),
        "GET".to_owned(),
    ];
    for case in cases.iter().map(String::as_bytes).chain([&huge[..]]) {
        let answer = converse(&stage, case);
        assert!(answer == case, "{}... became {}...", show(case), show(&answer));
    }
    // Several at a time.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(converse(&stage, &huge) == huge));
        }
    });
    println!("{}", stage.assert_small(&session));
}

fn show(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(60)].escape_ascii().to_string()
}

/// Bulk in both directions, to a local program that is slow to read and to clients that are.
#[test]
fn slow_readers_cost_no_memory() {
    let stage = Stage::new();
    let session = stage.with_local_shop(&["--steal"], "local");
    let clients: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut client = stage.connect().stream;
            client
                .write_all(b"GET /bytes?n=60000000 HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            client
        })
        .collect();
    // Each has an answer under way that it does not read.
    for client in &clients {
        wait_until("the answer's beginning", || client.peek(&mut [0; 1]).is_ok());
    }
    // Others are answered meanwhile.
    for _ in 0..20 {
        assert_eq!(stage.who_answers(&[]), "local");
    }
    println!("{}", stage.assert_small(&session));
}

/// Listening TCP ports of a process on this machine.
fn listening(pid: u32) -> Vec<SocketAddr> {
    let output = Command::new("ss").args(["-Hltnp"]).output().expect("ss is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let ours = text.lines().filter(|line| line.contains(&format!("pid={pid},")));
    ours.filter_map(|line| line.split_whitespace().nth(3)?.parse().ok())
        .collect()
}

#[test]
fn strangers_on_this_machine_get_nowhere() {
    let stage = Stage::new();
    let go = scratch(&format!("{}.go", stage.pod.name));
    let script = format!(
        "echo up; while ! [ -e {} ]; do sleep 0.02; done; \
         for i in 1 2 3 4 5 6 7 8 9 10; do curl -s -m 10 -o /dev/null -w '%{{http_code}}\\n' http://web/; done; echo done; sleep 1000",
        go.display()
    );
    let mut session = stage.session(&["--no-incoming"], &["sh", "-c", &script]);
    session.wait_for_stdout("up");
    let server = server(session.pid()).expect("a session has a server");
    let ports = listening(server);
    assert!(
        !ports.is_empty() && ports.iter().all(|port| port.ip().is_loopback()),
        "{ports:?}"
    );
    for port in &ports {
        for _ in 0..3 {
            let refused = TcpStream::connect_timeout(port, Duration::from_millis(100));
            assert!(refused.is_err(), "a stranger was let in at {port}");
        }
    }
    // With strangers at the door the app's own connections go on.
    std::thread::scope(|scope| {
        for port in ports.iter().cycle().take(20) {
            scope.spawn(|| assert!(TcpStream::connect_timeout(port, Duration::from_secs(2)).is_err()));
        }
        std::fs::write(&go, "").unwrap();
        session.wait_for_stdout("done");
    });
    assert_eq!(session.stdout().matches("200").count(), 10, "{}", session.stdout());

    // Files and sockets of the session are the user's alone.
    let name = format!("inpod-{}-{}", rustix::process::getuid().as_raw(), session.pid());
    let runtime = std::env::var("XDG_RUNTIME_DIR")
        .ok()
        .into_iter()
        .chain(["/tmp".to_owned()]);
    let directory = runtime
        .map(|base| format!("{base}/{name}"))
        .find(|path| std::path::Path::new(path).exists());
    let directory = directory.expect("a session has a directory");
    for command in [
        format!("ls {directory}"),
        format!("cd {directory}"),
        format!("ls /proc/{server}/fd"),
        format!("cat /proc/{server}/environ"),
    ] {
        let other = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", &command])
            .output()
            .unwrap();
        assert!(!other.status.success(), "uid 65534 may `{command}`");
    }
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    assert!(
        !sockets.lines().any(|line| line.contains("@inpod")),
        "no abstract socket: anybody can connect to those"
    );
}

#[test]
fn strangers_in_the_cluster_get_nowhere() {
    let stage = Stage::new();
    let session = stage.with_local_shop(&["--steal"], "local");
    let rules = stage.rules_now();
    let port = rules
        .split("redirect to :")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let listener: u16 = port
        .and_then(|port| port.parse().ok())
        .unwrap_or_else(|| panic!("no redirect in {rules}"));
    let own = tests::network::Network::of(&stage.pod);
    let pod = SocketAddr::new(stage.address().ip(), listener);
    let loopback = SocketAddr::new("127.0.0.1".parse().unwrap(), listener);
    for (network, address) in [(&stage.client, pod), (&own, pod), (&own, loopback)] {
        let mut refused = network.connect(address, Duration::from_millis(500));
        // Either no connection at all, or nothing behind it.
        if let Ok(stream) = &mut refused {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let said = stream
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .and_then(|()| stream.read(&mut [0; 1]));
            panic!("{address} let a stranger in, and then: {said:?}");
        }
    }
    assert_eq!(stage.who_answers(&[]), "local");

    // The target's own processes see the agent's (they share the process namespace), but not into it.
    let find = "for p in /proc/[0-9]*; do read -r name < $p/comm; [ $name = agent ] && echo $p; done; true";
    let agent = stage.pod.exec(&["sh", "-c", find]).unwrap();
    let agent = agent.trim();
    assert!(agent.starts_with("/proc/"), "the agent is not seen: {agent:?}");
    for look in [
        "ls PROCESS/root/",
        "ls PROCESS/cwd/",
        "ls PROCESS/fd/",
        ": < PROCESS/environ",
        ": < PROCESS/mem",
    ] {
        let may = |process: &str| stage.pod.exec(&["sh", "-c", &look.replace("PROCESS", process)]).is_ok();
        assert!(may("/proc/1"), "`{look}` works at the target's own process");
        assert!(!may(agent), "the target may `{look}` at the agent");
    }
    drop(session);
}
