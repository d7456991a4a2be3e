//! The pod's incoming traffic on the real cluster: stolen, whole or by header, and left alone.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use testbed::FreshPod;
use tests::http::Http;
use tests::network::Network;
use tests::processes::{processor_time_since, processor_times};
use tests::recorder::recorded;
use tests::{PATIENCE, Stage, guests, shop, soak, wait_until};

const PORT: u16 = 8080;

/// The pod's own probes stay with it, whatever the local program answers.
#[test]
fn an_unfiltered_steal_takes_everything_but_the_probes() {
    let probe = json!({"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 1, "failureThreshold": 1});
    let stage = Stage::of(&FreshPod {
        spec: json!({"containers": [{
            "name": "main", "image": "inpod.test/shop:1", "imagePullPolicy": "Never", "args": ["web"],
            "env": [{"name": "SERVICE", "value": "real"}],
            "ports": [{"containerPort": PORT}], "readinessProbe": probe, "livenessProbe": probe,
        }]}),
        ..FreshPod::default()
    });
    assert_eq!(stage.who_answers(&[]), "real");
    let (session, file) = stage.with_recorder(&["--steal"]);
    let mut client = stage.connect();
    let response = client.get("/a", &[]).unwrap();
    assert_eq!(
        (response.status, response.line("client")),
        (503, Some(client.address().as_str()))
    );

    // The pod's own processes get there over their loopback, and others over a service.
    let own = Network::of(&stage.pod);
    let check = |network: &Network, ip: IpAddr, port| {
        let mut client = Http::connect(network, SocketAddr::new(ip, port)).unwrap();
        let response = client.get("/own", &[]).unwrap();
        assert_eq!(
            (response.status, response.line("client")),
            (503, Some(client.address().as_str())),
            "{ip}"
        );
    };
    check(&own, stage.address().ip(), PORT);
    check(&own, Ipv4Addr::LOCALHOST.into(), PORT);
    let admin = tests::testbed().admin();
    let name = stage.pod.name.as_str();
    let expose = ["expose", "pod", name, "--port=80", "--target-port=8080"];
    admin.kubectl.run(&expose).unwrap();
    let service = admin.kubectl.json(&["get", "service", name]).unwrap();
    let service: IpAddr = service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    wait_until("the service", || {
        Http::connect(&stage.client, (service, 80).into()).is_ok()
    });
    check(&stage.client, service, 80);
    admin.kubectl.run(&["delete", "service", name, "--wait=false"]).unwrap();

    // The tools of other pods, too.
    let url = format!("http://{}/b", stage.address());
    let curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", &url];
    let status = admin.pod("default", "client").unwrap().exec(&curl).unwrap();
    assert_eq!(status, "503");

    // Four periods of both probes, with one failure allowed.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        assert_eq!(client.get("/c", &[]).unwrap().status, 503);
        thread::sleep(Duration::from_millis(100));
    }
    stage.assert_well();
    let probed = recorded(&file)
        .iter()
        .filter(|request| request.starts_with(b"GET /healthz"))
        .count();
    assert_eq!(probed, 0, "probes are for the pod");

    // A client's orderly end is one for the local program, and its reset is a reset.
    let ends = |how: &str| session.stdout().matches(&format!("end {how}")).count();
    drop(client);
    // The service was tried at least once before it was used.
    wait_until("the ends of all clients", || ends("") >= 6);
    assert_eq!(ends("Connection"), 0, "{}", session.stdout());
    let mut broken = stage.connect();
    broken.get("/d", &[]).unwrap();
    reset(&broken.stream);
    drop(broken);
    wait_until("the reset", || ends("ConnectionResetError") == 1);

    assert_eq!(session.stop().code(), 0);
    stage.wait_for_own_rules();
}

/// A TCP probe asks for no more than to be accepted, which our listener would do for an app that is not there.
#[test]
fn a_tcp_probe_sees_the_real_app_s_refusal() {
    let probe = json!({"tcpSocket": {"port": PORT}, "periodSeconds": 1, "failureThreshold": 1});
    let socket = "/tmp/redis.socket";
    let stage = Stage::of(&FreshPod {
        spec: json!({"containers": [{
            "name": "main", "image": "inpod.test/redis:1", "imagePullPolicy": "Never",
            "args": ["--port", PORT.to_string(), "--unixsocket", socket], "readinessProbe": probe,
        }]}),
        ..FreshPod::default()
    });
    // It stops listening, and goes on to run.
    let listen = |port: u16| {
        let set = ["redis-cli", "-s", socket, "config", "set", "port", &port.to_string()];
        assert_eq!(stage.pod.exec(&set).unwrap().trim(), "OK");
    };
    for flags in [&["--steal"][..], &["--steal", "--header", "X-User=a"]] {
        let session = stage.with_local_shop(flags, "local");
        assert_eq!(stage.who_answers(&["X-User: a"]), "local");
        assert!(stage.is_ready());
        listen(0);
        wait_until("the probe to fail", || !stage.is_ready());
        assert_eq!(stage.who_answers(&["X-User: a"]), "local", "others need no real app");
        listen(PORT);
        wait_until("the probe to succeed", || stage.is_ready());
        assert_eq!(stage.who_answers(&["X-User: a"]), "local");
        drop(session.stop());
        stage.wait_for_own_rules();
    }
}

fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

#[test]
fn only_matching_requests_are_stolen_by_each_of_two_sessions() {
    let stage = Stage::new();
    let first = stage.with_local_shop(&["--steal", "--header", "X-User=a"], "first");
    let mut client = stage.connect();
    let mut check = |headers: &[&str], who: &str| {
        let response = client.get("/", headers).unwrap();
        assert_eq!(response.service(), who, "{headers:?}");
        // The real app sees another port: the client's own belongs to its connection with the agent.
        let seen = response.line("client").unwrap();
        let seen = if who == "real" {
            seen.split(':').next().unwrap()
        } else {
            seen
        };
        assert!(
            client.address().starts_with(seen),
            "{who} sees the client itself, not {seen}"
        );
    };
    // One connection, request by request.
    for _ in 0..10 {
        check(&["X-User: a"], "first");
        check(&["X-User: ab"], "real");
        check(&[], "real");
    }
    let pattern = "re:^x-team: (red|blue)$";
    let second = stage.with_local_shop(&["--steal", "--header", pattern, "--header", "X-Also=yes"], "second");
    for _ in 0..10 {
        check(&["x-user: a"], "first");
        check(&["X-Team: blue", "X-Also: yes"], "second");
        check(&["X-Team: blue"], "real");
        check(&["X-Team: green", "X-Also: yes"], "real");
    }

    // An unfiltered steal would take what is theirs.
    let third = stage.session(
        &["--steal"],
        &["env", "SERVICE=third", &shop().display().to_string(), "web"],
    );
    wait_until("the refusal", || !third.events("claim-refused").is_empty());
    let refused = third.events("claim-refused");
    let reason = refused[0]["reason"].as_str().unwrap();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert!(reason.contains("already steals") && reason.contains(&host), "{reason}");
    check(&["X-User: a"], "first");
    check(&[], "real");
    drop((third, first));
    check(&["X-User: a"], "real");
    check(&["X-Team: red", "X-Also: yes"], "second");
    drop(second);
    check(&["X-Team: red", "X-Also: yes"], "real");
    drop(client);
    stage.wait_for_own_rules();
}

/// A pod that sends back what it receives: what reaches it can be seen.
fn echo_stage() -> Stage {
    // Without a port there is no TCP probe of it, whose connections say nothing.
    Stage::of(&FreshPod {
        args: &["tcp-echo", "0.0.0.0:8080"],
        port: None,
        ..FreshPod::default()
    })
}

/// Sends, ends its direction, and gives all that comes back.
fn converse(stage: &Stage, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let stream = stage.client.connect(stage.address(), Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            (&stream)
                .write_all(bytes)
                .and_then(|()| stream.shutdown(Shutdown::Write))
        });
        let mut answer = Vec::new();
        (&stream).read_to_end(&mut answer)?;
        writing.join().expect("it does not panic")?;
        Ok(answer)
    })
}

const GREETING: &str = "hello from local\n";

#[test]
fn an_unfiltered_steal_takes_any_protocol_without_delay() {
    let stage = echo_stage();
    let program = ["python3", &guests::script("talk.py"), "8080", GREETING];
    let mut session = stage.session(&["--steal"], &program);
    session.wait_for_claim(PORT);
    let bytes: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
    for said in [
        &bytes[..],
        b"PING\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"",
    ] {
        let answer = converse(&stage, said).unwrap();
        assert!(
            answer == [GREETING.as_bytes(), said].concat(),
            "{:?}...",
            said.get(..20)
        );
    }
    // A server that speaks first does not wait for a client that does not.
    let greeted = |_| {
        let begin = Instant::now();
        let mut stream = stage.client.connect(stage.address(), Duration::from_secs(5)).unwrap();
        let mut greeting = vec![0; GREETING.len()];
        stream.read_exact(&mut greeting).unwrap();
        assert_eq!(greeting, GREETING.as_bytes());
        begin.elapsed()
    };
    let best = (0..5).map(greeted).min().unwrap();
    println!("greeted within {best:.1?}");
    assert!(best < Duration::from_secs(3), "the greeting took {best:?}");
    drop(session);
    stage.wait_for_own_rules();
    assert_eq!(converse(&stage, b"PING\r\n").unwrap(), b"PING\r\n");
}

#[test]
fn what_is_not_http_on_a_filtered_port_stays_with_the_pod() {
    let stage = echo_stage();
    let program = ["python3", &guests::script("talk.py"), "8080", GREETING];
    let mut session = stage.session(&["--steal", "--header", "X-User=a"], &program);
    session.wait_for_claim(PORT);
    for said in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 as TLS begins"[..],
        b"*1\r\n$4\r\nPING\r\n",
        b"",
    ] {
        assert_eq!(converse(&stage, said).unwrap(), said);
    }
}

/// Keeps asking over one connection, as long as it is not said to be over, until `stop`; who answered each time. One lost
/// request is a panic.
fn keep_asking(stage: &Stage, stop: &AtomicBool, answered: &(dyn Fn(u16) + Sync)) {
    let mut client = stage.connect();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let response = client.get(&format!("/{number}"), &[]);
        let response = response.unwrap_or_else(|error| panic!("request {number} is lost: {error}"));
        answered(response.status);
        if response.last {
            client = stage.connect();
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether new connections to the port are redirected.
fn redirects(rules: &str) -> bool {
    rules
        .split("set ports {")
        .nth(1)
        .and_then(|set| set.split('}').next())
        .is_some_and(|set| set.contains("elements"))
}

#[test]
fn keep_alive_clients_lose_no_request_at_either_end_of_a_steal() {
    let stage = Stage::new();
    let (stop, local, real_again) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
    let before = |status| {
        assert_eq!(
            status, 200,
            "a connection that is older than the steal stays with the pod"
        );
    };
    let during = |status| match status {
        503 => local.store(true, Ordering::Relaxed),
        200 if local.load(Ordering::Relaxed) => real_again.store(true, Ordering::Relaxed),
        other => panic!("status {other}"),
    };
    thread::scope(|scope| {
        let stopping = Stopping(&stop);
        (0..4).for_each(|_| drop(scope.spawn(|| keep_asking(&stage, &stop, &before))));
        let (session, _) = stage.with_recorder(&["--steal"]);
        let older = session.events("claimed")[0]["older_connections"].as_u64();
        assert!(older.is_some_and(|older| (1..=4).contains(&older)), "{older:?}");
        let clients: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| keep_asking(&stage, &stop, &during)))
            .collect();
        wait_until("the local program's answer", || {
            local.load(Ordering::Relaxed) || clients.iter().any(|it| it.is_finished())
        });
        assert!(redirects(&stage.rules_now()));
        let begin = Instant::now();
        let ended = session.stop();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        while redirects(&stage.rules_now()) {
            assert!(begin.elapsed() < Duration::from_secs(60), "the port set is never empty");
        }
        println!("session over and port set empty after {:.0?}", begin.elapsed());
        wait_until("the real service's answer", || {
            real_again.load(Ordering::Relaxed) || clients.iter().any(|it| it.is_finished())
        });
        // The clients are led to connections of the real app's own, while they go on.
        stage.wait_for_own_rules();
        drop(stopping);
    });
}

/// Ends the clients also when an assertion fails, which would wait for them otherwise.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nothing_is_taken_while_nothing_listens() {
    let stage = Stage::new();
    let mut idle = stage.session(&["--steal"], &["sh", "-c", "echo up; exec sleep 1000"]);
    idle.wait_for_stdout("up");
    assert_eq!(stage.who_answers(&[]), "real");
    assert_eq!(stage.rules_now(), stage.rules);
    drop(idle);

    let (session, _) = stage.with_recorder(&["--steal"]);
    assert_eq!(stage.who_answers(&[]), "local");
    let mut client = stage.connect();
    assert_eq!(client.get("/", &[]).unwrap().service(), "local");
    session.signal(Signal::USR1);
    wait_until("the end of the claim", || !redirects(&stage.rules_now()));
    assert!(session.stdout().contains("closed"));
    assert_eq!(stage.who_answers(&[]), "real");
    assert_eq!(
        client.get("/", &[]).unwrap().service(),
        "real",
        "a client that stays connected moves as well"
    );
    drop(client);
    stage.wait_for_own_rules();
    session.signal(Signal::USR2);
    wait_until("the claim's return", || session.events("claimed").len() == 2);
    assert_eq!(stage.who_answers(&[]), "local");
    drop(session);
    stage.wait_for_own_rules();
}

/// Nobody holds more of it than is on its way.
#[test]
fn a_body_of_any_size_takes_no_memory() {
    let size: u64 = if soak() { 5_000_000_000 } else { 300_000_000 };
    let stage = Stage::new();
    let session = stage.with_local_shop(&["--steal", "--header", "X-User=me"], "local");
    let piece = vec![b'u'; 1 << 20];
    for (user, service) in [("nobody", "real"), ("me", "local")] {
        let mut client = stage.connect();
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("PUT /sink HTTP/1.1\r\nHost: shop\r\nX-User: {user}\r\nContent-Length: {size}\r\n\r\n");
        client.stream.write_all(head.as_bytes()).unwrap();
        let mut left = size;
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            client.stream.write_all(&piece[..now]).unwrap();
            left -= now as u64;
        }
        let response = client.response().unwrap();
        assert_eq!(response.service(), service);
        assert!(response.body.ends_with(&format!("\n{size}\n")), "{}", response.body);
        println!("  {size} bytes to the {service} app: {}", stage.assert_small(&session));
    }
}

/// Supervisor, server and agent together: heartbeats are all they do.
#[test]
fn an_idle_session_costs_next_to_nothing() {
    // No probes: those are the agent's work, too.
    let stage = Stage::of(&FreshPod {
        port: None,
        ..FreshPod::default()
    });
    let session = stage.with_local_shop(&["--steal"], "local");
    let server = tests::processes::server(session.pid()).expect("a session has a server");
    let agent = stage.agent().expect("the pod has an agent");
    let parts = [("supervisor", session.pid()), ("server", server), ("agent", agent)];
    // What the start and the claim still cause is not idle.
    thread::sleep(Duration::from_secs(2));
    let span = Duration::from_secs(if soak() { 60 } else { 20 });
    let before = parts.map(|(_, pid)| processor_times(pid));
    thread::sleep(span);
    let spent: Vec<Duration> = parts
        .iter()
        .zip(&before)
        .map(|((_, pid), before)| processor_time_since(*pid, before))
        .collect();
    let share = spent.iter().sum::<Duration>().as_secs_f64() / span.as_secs_f64() * 100.0;
    println!("idle for {span:?}: {share:.3} % of a core; {parts:?} {spent:?}");
    assert!(!soak() || share <= 0.1, "an idle session used {share:.3} % of a core");
}
