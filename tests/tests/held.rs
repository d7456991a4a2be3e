//! Connections that are held open, in every protocol: those of others live through sessions that come and go, and those of
//! a session that is killed end at once, with the pod answering by itself.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use h2::client::SendRequest;
use rustix::process::Signal;
use serde_json::json;
use testbed::FreshPod;
use tests::footprint::Footprint;
use tests::http::Http;
use tests::talk::{self, Talk, block_on};
use tests::{Session, Stage, fault_rounds, shop, wait_until};

/// What a fault may cost: until the pod answers by itself, and until clients know.
const LIMIT: Duration = Duration::from_secs(2);
const WEB: u16 = 8080;
const HTTP2: u16 = 8090;
const TCP: u16 = 7000;
const UDP: u16 = 7001;
const SERVICES: [(&str, u16); 4] = [("web", WEB), ("http2", HTTP2), ("tcp-echo", TCP), ("udp-echo", UDP)];

/// A pod with a service of each kind.
fn stage() -> Stage {
    let container = |(service, port): &(&str, u16)| {
        json!({
            "name": service, "image": "inpod.test/shop:1", "imagePullPolicy": "Never",
            "args": [service, format!("0.0.0.0:{port}")], "env": [{"name": "SERVICE", "value": "real"}],
        })
    };
    Stage::of(&FreshPod {
        spec: json!({"containers": SERVICES.iter().map(container).collect::<Vec<_>>()}),
        ..FreshPod::default()
    })
}

/// The same services on this machine; all ports are claimed when this returns.
fn steal_all(stage: &Stage) -> Session {
    let shop = shop().display().to_string();
    let mut script = "export SERVICE=local\n".to_owned();
    for (service, port) in &SERVICES[1..] {
        script += &format!("{shop} {service} 0.0.0.0:{port} &\n");
    }
    script += &format!("exec {shop} web 0.0.0.0:{WEB}");
    let mut session = stage.session(&["--steal"], &["sh", "-c", &script]);
    for (_, port) in SERVICES {
        session.wait_for_claim(port);
    }
    session
}

fn at(stage: &Stage, port: u16) -> SocketAddr {
    (stage.address().ip(), port).into()
}

/// A connection that has left HTTP behind: what is sent comes back.
struct Upgraded {
    stream: BufReader<TcpStream>,
    from: String,
}

impl Upgraded {
    fn begin(stage: &Stage, user: &str) -> Self {
        let mut client = stage.client.connect(at(stage, WEB), LIMIT).unwrap();
        client.set_read_timeout(Some(4 * LIMIT)).unwrap();
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: shop\r\nX-User: {user}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        );
        client.write_all(request.as_bytes()).unwrap();
        let mut stream = BufReader::new(client);
        let mut lines: Vec<String> = Vec::new();
        while lines.last().is_none_or(|line| !line.starts_with("service=")) {
            let mut line = String::new();
            assert!(stream.read_line(&mut line).unwrap() > 0, "it ended early: {lines:?}");
            lines.push(line);
        }
        assert!(lines[0].starts_with("HTTP/1.1 101 "), "{lines:?}");
        let from = lines.last().unwrap()["service=".len()..].trim().to_owned();
        Self { stream, from }
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(text.as_bytes())?;
        let mut heard = vec![0; text.len()];
        self.stream.read_exact(&mut heard)?;
        assert_eq!(heard, text.as_bytes());
        Ok(())
    }
}

#[test]
fn what_others_hold_open_lives_through_sessions_that_come_and_go() {
    let stage = stage();
    let begin = |user| {
        let mut upgraded = Upgraded::begin(&stage, user);
        upgraded.say("begun").unwrap();
        upgraded
    };
    // Of before, of nobody, and of somebody who steals later; each says something whenever something has happened.
    let mut held = vec![begin("nobody")];
    let say = |held: &mut Vec<Upgraded>, what: &str| {
        for (number, upgraded) in held.iter_mut().enumerate() {
            upgraded
                .say(what)
                .unwrap_or_else(|error| panic!("{number}, {what}: {error}"));
            assert_eq!(upgraded.from, "real");
        }
    };
    for round in 0..3 {
        let a = stage.with_local_shop(&["--steal", "--header", "X-User=a"], "a");
        held.extend([begin("nobody"), begin("b")]);
        say(&mut held, "while a runs");
        let mut mine = begin("a");
        assert_eq!(mine.from, "a");
        let b = stage.with_local_shop(&["--steal", "--header", "X-User=b"], "b");
        held.push(begin("nobody"));
        let mut theirs = begin("b");
        assert_eq!(theirs.from, "b");
        say(&mut held, "while b runs too");
        match round {
            0 => drop(a.stop()),
            1 => tests::processes::signal(a.pid(), Signal::KILL).unwrap(),
            _ => drop(a),
        }
        wait_until("the end of a's own", || mine.say("?").is_err());
        theirs.say("b is not a").unwrap();
        say(&mut held, "after a");
        drop(b);
        wait_until("the end of b's own", || theirs.say("?").is_err());
        say(&mut held, "after all");
        held.push(begin("a"));
    }
    drop(held);
    stage.wait_for_own_rules();
    stage.assert_well();
}

/// Somebody in the middle of each protocol, with the local app.
struct Held {
    request: Http,
    upgraded: Upgraded,
    tcp: TcpStream,
    send: SendRequest<bytes::Bytes>,
    stream: Talk,
}

impl Held {
    async fn begin(stage: &Stage) -> Self {
        let mut request = stage.connect();
        assert_eq!(request.get("/", &[]).unwrap().service(), "local");
        request
            .stream
            .write_all(b"GET /slow?ms=60000 HTTP/1.1\r\nHost: test\r\n\r\n")
            .unwrap();
        let mut upgraded = Upgraded::begin(stage, "nobody");
        upgraded.say("hello").unwrap();
        assert_eq!(upgraded.from, "local");
        let tcp = stage.client.connect(at(stage, TCP), LIMIT).unwrap();
        echo(&tcp, b"\0raw").unwrap();
        let send = talk::connect(&stage.client, at(stage, HTTP2)).await;
        let mut stream = Talk::begin(&send, "nobody").await;
        assert_eq!(stream.from, "local");
        stream.say("hello").await;
        Self {
            request,
            upgraded,
            tcp,
            send,
            stream,
        }
    }

    /// Waits for the end of each.
    async fn end(mut self) {
        let ended = |stream: &TcpStream| {
            stream.set_read_timeout(Some(4 * LIMIT)).unwrap();
            match (&mut &*stream).read(&mut [0; 64]) {
                Ok(0) => {}
                Ok(length) => panic!("{length} bytes came out of nothing"),
                Err(error) => assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "a client hangs"),
            }
        };
        thread::scope(|scope| {
            for stream in [&self.request.stream, self.upgraded.stream.get_ref(), &self.tcp] {
                scope.spawn(move || ended(stream));
            }
        });
        let last = tokio::time::timeout(4 * LIMIT, self.stream.body.data()).await;
        assert!(!matches!(last.expect("a stream hangs"), Some(Ok(_))));
        drop(self.send);
    }
}

fn echo(mut stream: &TcpStream, text: &[u8]) -> io::Result<()> {
    stream.set_read_timeout(Some(4 * LIMIT))?;
    stream.write_all(text)?;
    let mut heard = vec![0; text.len()];
    stream.read_exact(&mut heard)?;
    assert_eq!(heard, text);
    Ok(())
}

/// The pod answers by itself in each protocol. TCP and UDP echoes do not say who they are: that they answer is enough, as
/// nobody else is left.
fn is_real(stage: &Stage, udp: &UdpSocket) -> bool {
    let web = Http::connect(&stage.client, at(stage, WEB)).and_then(|mut client| client.get("/", &[]));
    let tcp = stage
        .client
        .connect(at(stage, TCP), LIMIT)
        .and_then(|stream| echo(&stream, b"\0raw"));
    let mut answer = [0; 16];
    let answered = udp.send(b"hello").and_then(|_| udp.recv(&mut answer));
    let http2 = thread::scope(|scope| {
        let asked = scope.spawn(|| {
            block_on(async {
                let send = talk::connect(&stage.client, at(stage, HTTP2)).await;
                Talk::begin(&send, "nobody").await.end().await.0
            })
        });
        asked.join().ok()
    });
    web.is_ok_and(|response| response.service() == "real")
        && tcp.is_ok()
        && answered.is_ok_and(|length| &answer[..length] == b"hello")
        && http2.as_deref() == Some("real")
}

#[test]
fn whoever_is_killed_the_pod_answers_by_itself_in_every_protocol() {
    let stage = stage();
    let udp = stage.client.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    udp.connect(at(&stage, UDP)).unwrap();
    udp.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    for round in 0..fault_rounds() {
        for victim in ["supervisor", "server", "agent", "app"] {
            let session = steal_all(&stage);
            let here = Footprint::of(session.pid(), &[]);
            let agent = stage.agent().expect("the pod has an agent");
            wait_until("datagrams", || {
                udp.send(b"before").and_then(|_| udp.recv(&mut [0; 16])).is_ok()
            });
            block_on(async {
                let held = Held::begin(&stage).await;
                let pid = match victim {
                    "supervisor" => here.supervisor,
                    "server" => here.server,
                    "agent" => agent,
                    _ => here.app,
                };
                let begun = Instant::now();
                tests::processes::signal(pid, Signal::KILL).unwrap();
                held.end().await;
                let known = begun.elapsed();
                wait_until("the real services", || is_real(&stage, &udp));
                let real = begun.elapsed();
                println!(
                    "kill -9 of the {victim}, round {round}: clients know after {known:.0?}, real again after {real:.0?}"
                );
                assert!(known <= LIMIT, "clients knew only after {known:?}");
                assert!(real <= LIMIT, "the pod answered by itself only after {real:?}");
            });
            drop(session.wait());
            here.wait_until_gone();
            stage.wait_for_own_rules();
        }
    }
    stage.assert_well();
}
