//! TCP of a target with both families (`process/PID` in a network of its own): stolen, passed on and mirrored, with clients'
//! addresses as they are.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use playground::Playground;
use tests::network::Network;
use tests::{Session, shop, wait_until};

const PORT: u16 = 8081;
/// Where clients come from, and what they ask for.
const WAYS: [(&str, &str); 5] = [
    ("fd77::30", "fd77::10"),
    ("::1", "::1"),
    (playground::CLIENT, playground::WEB),
    ("127.0.0.1", "127.0.0.1"),
    ("fd77::10", "fd77::10"),
];

struct Fixture {
    network: Network,
    real: Child,
    playground: Playground,
}

impl Fixture {
    fn new(name: &str) -> Self {
        let playground = tests::playground(name);
        let network = Network::of_process(playground.pid());
        let real = network.enter(|| {
            for address in ["fd77::10/64", "fd77::30/64"] {
                let added = Command::new("ip")
                    .args(["-6", "address", "add", address, "dev", "lo", "nodad"])
                    .status();
                assert!(added.unwrap().success());
            }
            Command::new(shop())
                .args(["web", &format!("[::]:{PORT}")])
                .env("SERVICE", "real")
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        });
        let fixture = Self {
            network,
            real,
            playground,
        };
        wait_until("the real service", || fixture.connect(WAYS[0]).is_some());
        fixture
    }

    fn connect(&self, (from, to): (&str, &str)) -> Option<TcpStream> {
        let address = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
        let (from, to) = (address(from, 0), address(to, PORT));
        let connect = async move {
            let socket = if from.is_ipv4() {
                tokio::net::TcpSocket::new_v4()?
            } else {
                tokio::net::TcpSocket::new_v6()?
            };
            socket.bind(from)?;
            socket.connect(to).await?.into_std()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let stream = self.network.enter(|| runtime.block_on(connect)).ok()?;
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Some(stream)
    }

    /// Who has answered, and whether that one has seen the client's own address.
    fn ask(&self, way: (&str, &str), user: &str) -> (String, bool) {
        let mut stream = self.connect(way).expect("somebody listens");
        let own = stream.local_addr().unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: shop\r\nX-User: {user}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let line = |name: &str| {
            answer
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
                .to_owned()
        };
        let seen: SocketAddr = line("client=").parse().unwrap();
        (line("service="), seen.ip().to_canonical() == own.ip())
    }

    fn session(&self, flags: &[&str]) -> Session {
        let shop = shop().display().to_string();
        let program = ["env", "SERVICE=local", &shop, "web", &format!("[::]:{PORT}")];
        let mut session = Session::start(&format!("process/{}", self.playground.pid()), flags, &program);
        session.wait_for_claim(PORT);
        session
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = self.real.kill();
        let _ = self.real.wait();
    }
}

#[test]
fn each_family_is_stolen_and_passed_on_with_its_addresses() {
    let fixture = Fixture::new("dual-steal");
    let real = ("real".to_owned(), true);
    for way in WAYS {
        assert_eq!(fixture.ask(way, "me"), real, "{way:?}");
    }
    for flags in [&["--steal", "--header", "X-User=me"][..], &["--steal"]] {
        let session = fixture.session(flags);
        for way in WAYS {
            assert_eq!(fixture.ask(way, "me"), ("local".to_owned(), true), "{way:?}");
            if flags.len() > 1 {
                assert_eq!(fixture.ask(way, "you"), real, "{way:?}");
            }
        }
        drop(session);
        for way in WAYS {
            assert_eq!(fixture.ask(way, "me"), real, "{way:?}");
        }
    }
}

#[test]
fn each_family_is_mirrored() {
    let fixture = Fixture::new("dual-mirror");
    let session = fixture.session(&[]);
    for way in WAYS {
        assert_eq!(fixture.ask(way, "me"), ("real".to_owned(), true), "{way:?}");
    }
    let count = || {
        let mut local = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        local
            .write_all(b"GET /count HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        local.read_to_string(&mut answer).unwrap();
        answer.lines().last().unwrap().parse::<usize>().unwrap()
    };
    // Each look is a request as well.
    let mut looks = 0;
    wait_until("all copies", || {
        looks += 1;
        count() - looks >= WAYS.len()
    });
    drop(session);
}
