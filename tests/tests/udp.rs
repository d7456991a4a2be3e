//! UDP of a pod's port on the real cluster: mirrored and stolen, from other pods, from the pod itself, through a service.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use testbed::FreshPod;
use tests::network::Network;
use tests::{PATIENCE, Session, Stage, cluster, guests, processes, wait_until};

const PORT: u16 = 7000;

/// The real app sends back each datagram.
fn stage() -> Stage {
    Stage::of(&FreshPod {
        args: &["udp-echo", "[::]:7000"],
        port: None,
        ..FreshPod::default()
    })
}

struct Client {
    socket: UdpSocket,
    name: String,
}

impl Client {
    fn new(network: &Network, ip: IpAddr) -> Self {
        let socket = network.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.connect((ip, PORT)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let name = socket.local_addr().unwrap().to_string();
        Self { socket, name }
    }

    /// What is answered, if anything; the answer's source is checked by the kernel, since the socket is connected.
    fn try_ask(&self, question: &[u8]) -> Option<Vec<u8>> {
        let _ = self.socket.send(question);
        let mut answer = vec![0; 65_536];
        let length = self.socket.recv(&mut answer).ok()?;
        answer.truncate(length);
        Some(answer)
    }

    fn ask(&self, question: &[u8]) -> Vec<u8> {
        let begun = Instant::now();
        loop {
            if let Some(answer) = self.try_ask(question) {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "{}: nobody answers", self.name);
        }
    }

    /// What the local program answers: with the client's address as the pod sees it.
    fn local(&self, question: &[u8]) -> Vec<u8> {
        [format!("local {} ", self.name).as_bytes(), question].concat()
    }
}

/// A service of the pod's, and clients everywhere.
fn clients(stage: &Stage) -> Vec<Client> {
    let (admin, name) = (tests::testbed().admin(), stage.pod.name.as_str());
    let port = format!("--port={PORT}");
    let expose = ["expose", "pod", name, &port, "--protocol=UDP"];
    admin.kubectl.run(&expose).unwrap();
    let service = admin.kubectl.json(&["get", "service", name]).unwrap();
    let service: IpAddr = service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    let own = Network::of(&stage.pod);
    let pod = stage.address().ip();
    let through = Client::new(&stage.client, service);
    wait_until("the service", || through.try_ask(b"?").is_some());
    vec![
        Client::new(&stage.client, pod),
        through,
        Client::new(&own, pod),
        Client::new(&own, Ipv4Addr::LOCALHOST.into()),
    ]
}

fn wait_for_claim(session: &mut Session) {
    wait_until("the claim", || {
        assert_eq!(session.ended_early(), None, "{}{}", session.stdout(), session.stderr());
        let claimed = session.events("claimed");
        claimed
            .iter()
            .any(|event| event["port"] == PORT && event["transport"] == "udp")
    });
}

fn with_local(stage: &Stage, flags: &[&str], program: &[&str]) -> Session {
    let mut session = stage.session(flags, program);
    wait_for_claim(&mut session);
    session
}

fn python() -> Vec<String> {
    vec!["python3".to_owned(), guests::script("datagrams.py"), PORT.to_string()]
}

fn refs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn a_mirror_sees_the_original_clients_and_the_real_app_answers() {
    let stage = stage();
    let clients = clients(&stage);
    let session = with_local(&stage, &[], &refs(&python()));
    for client in &clients {
        for question in [&b"hello"[..], b"", &[b'x'; 9000]] {
            assert_eq!(client.ask(question), question, "{}", client.name);
            let got = format!("got {} {}\n", client.name, question.len());
            wait_until("the copy", || session.stdout().contains(&got));
        }
    }
    assert_eq!(stage.rules_now(), stage.rules, "a mirror never touches the data path");
    assert!(session.events("warning").is_empty(), "{}", session.stderr());
    // The port that the kernel chose for the program's other socket is not claimed.
    assert_eq!(session.events("claimed").len(), 1, "{}", session.stderr());
}

/// A dynamic and a static program; the answers leave in the pod's name, and the real app is back at once.
#[test]
fn a_steal_answers_in_the_pod_s_name() {
    let stage = stage();
    let clients = clients(&stage);
    let python = python();
    let program = guests::c("datagrams", true).display().to_string();
    for program in [refs(&python), vec![&program, "7000"]] {
        let session = with_local(&stage, &["--steal"], &program);
        for client in &clients {
            for question in [&b"hello"[..], b"", &[b'x'; 9000]] {
                let answer = client.ask(question);
                assert!(
                    answer == client.local(question),
                    "{}: {}",
                    client.name,
                    String::from_utf8_lossy(&answer[..answer.len().min(60)])
                );
            }
        }
        let target = format!("pod/{}", stage.pod.name);
        let listed = cluster(&["sessions", "-t", &target]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains(&format!("{PORT}/udp  steal")), "{listed}");
        drop(session.stop());
        for client in &clients {
            assert_eq!(client.ask(b"after"), b"after", "{}", client.name);
        }
        stage.wait_for_own_rules();
    }
}

#[test]
fn kill_9_of_any_part_brings_the_real_app_back() {
    let stage = stage();
    let client = Client::new(&stage.client, stage.address().ip());
    for part in ["agent", "server", "inpod"] {
        let session = with_local(&stage, &["--steal"], &refs(&python()));
        assert_eq!(client.ask(b"1"), client.local(b"1"));
        let pid = match part {
            "agent" => stage.agent().expect("the pod has an agent"),
            "server" => processes::server(session.pid()).expect("a session has a server"),
            _ => session.pid(),
        };
        processes::signal(pid, Signal::KILL).unwrap();
        let killed = Instant::now();
        client.socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        while client.try_ask(b"2").as_deref() != Some(b"2") {
            assert!(killed.elapsed() < Duration::from_secs(2), "{part}");
        }
        // Answers to what was asked more than once.
        client
            .socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        while client.socket.recv(&mut [0; 99]).is_ok() {}
        stage.wait_for_own_rules();
    }
}

#[test]
fn a_second_thief_is_refused_and_a_filter_leaves_datagrams_alone() {
    let stage = stage();
    let client = Client::new(&stage.client, stage.address().ip());
    let refused = |flags: &[&str], why: &str| {
        let session = stage.session(flags, &refs(&python()));
        wait_until("the refusal", || !session.events("claim-refused").is_empty());
        let event = &session.events("claim-refused")[0];
        assert_eq!((&event["port"], &event["transport"]), (&PORT.into(), &"udp".into()));
        assert!(event["reason"].as_str().unwrap().contains(why), "{event}");
        session
    };
    let filtered = refused(&["--steal", "--header", "X-User=a"], "filters look into HTTP alone");
    assert_eq!(client.ask(b"q"), b"q");
    drop(filtered);
    let _first = with_local(&stage, &["--steal"], &refs(&python()));
    let _second = refused(&["--steal"], &format!("already steals port {PORT}/udp"));
    assert_eq!(client.ask(b"q"), client.local(b"q"));
}

/// `process/PID` in a network with IPv6: every way in, over both families.
#[test]
fn a_process_with_ipv6() {
    let playground = tests::playground("udp");
    let network = Network::of_process(playground.pid());
    let app = network.enter(|| UdpSocket::bind(("::", PORT)).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 9000];
        while let Ok((length, from)) = app.recv_from(&mut buffer) {
            let _ = app.send_to(&buffer[..length], from);
        }
    });
    let target = format!("process/{}", playground.pid());
    let ask = |ip: &str| {
        let to = SocketAddr::new(ip.parse().unwrap(), PORT);
        let socket = network.enter(|| UdpSocket::bind((if to.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).unwrap());
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(b"hello").unwrap();
        let mut answer = [0; 99];
        let length = socket.recv(&mut answer).unwrap();
        let own = socket.local_addr().unwrap();
        let name = format!("{}:{}", own.ip(), own.port());
        (String::from_utf8_lossy(&answer[..length]).into_owned(), name)
    };
    let addresses = [playground::WEB, "127.0.0.1", "::1"];
    for address in addresses {
        assert_eq!(ask(address).0, "hello");
    }
    let mut session = Session::start(&target, &["--steal"], &refs(&python()));
    wait_for_claim(&mut session);
    for address in addresses {
        let (answer, name) = ask(address);
        assert_eq!(answer, format!("local {name} hello"));
    }
    drop(session);
    for address in addresses {
        assert_eq!(ask(address).0, "hello");
    }
}
