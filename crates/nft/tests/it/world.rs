//! Two network namespaces joined by a veth pair: `pod` with the app and the agent, `peer` with the clients.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub const APP: u16 = 8080;
pub const LISTENER: u16 = 15100;
pub const POD: [&str; 2] = ["10.231.0.1", "fd77::1"];
/// Several clients of each family.
pub const PEER4: [&str; 2] = ["10.231.0.2", "10.231.0.3"];
pub const PEER6: [&str; 2] = ["fd77::2", "fd77::3"];
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub pod: Namespace,
    pub peer: Namespace,
}

impl World {
    pub fn new() -> World {
        let (pod, peer) = (Namespace::new("pod"), Namespace::new("peer"));
        run(
            "ip",
            &[
                "-n", &pod.name, "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", &peer.name,
            ],
        );
        for (namespace, addresses) in [(&pod, POD.to_vec()), (&peer, [PEER4, PEER6].concat())] {
            for device in ["lo", "eth0"] {
                run("ip", &["-n", &namespace.name, "link", "set", device, "up"]);
            }
            for address in addresses {
                let (length, extra) = if address.contains(':') {
                    (64, &["nodad"][..])
                } else {
                    (24, &[][..])
                };
                let address = format!("{address}/{length}");
                let fixed = ["-n", &namespace.name, "address", "add", &address, "dev", "eth0"];
                run("ip", &[&fixed[..], extra].concat());
            }
        }
        World { pod, peer }
    }

    /// The real app and the agent's listener, in the pod.
    pub fn servers(&self) -> (TcpListener, TcpListener) {
        self.pod.within(|| (listen(APP), listen(LISTENER)))
    }
}

pub struct Namespace {
    pub name: String,
}

impl Namespace {
    fn new(role: &str) -> Namespace {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nft-test-{}-{number}-{role}", std::process::id());
        run("ip", &["netns", "add", &name]);
        Namespace { name }
    }

    /// Runs something on a thread that lives in this namespace. Sockets made there stay in it.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.name);
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Adds rules in nft's language.
    pub fn load(&self, rules: &str) {
        run("ip", &["netns", "exec", &self.name, "nft", rules]);
    }

    pub fn ruleset(&self) -> String {
        run("ip", &["netns", "exec", &self.name, "nft", "list", "ruleset"])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

pub fn enter(name: &str) {
    let file = std::fs::File::open(format!("/run/netns/{name}")).expect("the namespace exists");
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
        .expect("entering a network namespace needs root");
}

/// Runs a command that has to succeed.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| {
        panic!("{program}: {error}; these tests need root: apt-get install iproute2 nftables");
    });
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {args:?}: {error} (these tests need root and network namespaces)"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A dual-stack listener on all addresses.
pub fn listen(port: u16) -> TcpListener {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket
        .bind(&SockAddr::from(format!("[::]:{port}").parse::<SocketAddr>().unwrap()))
        .unwrap();
    socket.listen(128).unwrap();
    socket.into()
}

/// What a connection is made with.
#[derive(Default, Clone, Copy)]
pub struct From<'a> {
    pub ip: Option<&'a str>,
    pub port: u16,
    pub mark: Option<nft::Mark>,
    /// What the packets' hop limit starts with, if not the usual.
    pub hops: Option<u32>,
}

pub fn try_connect(to: SocketAddr, from: From<'_>, patience: Duration) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(mark) = from.mark {
        socket.set_mark(mark.get())?;
    }
    if let Some(hops) = from.hops {
        match to {
            SocketAddr::V4(_) => socket.set_ttl_v4(hops)?,
            SocketAddr::V6(_) => socket.set_unicast_hops_v6(hops)?,
        }
    }
    if from.ip.is_some() || from.port != 0 {
        let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
        let ip: IpAddr = from.ip.unwrap_or(any).parse().unwrap();
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(ip, from.port).into())?;
    }
    socket.connect_timeout(&to.into(), patience)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

pub fn connect(to: SocketAddr, from: From<'_>) -> TcpStream {
    try_connect(to, from, PATIENCE).unwrap_or_else(|error| panic!("connecting to {to}: {error}"))
}

pub fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// Accepts within the patience.
pub fn accept(listener: &TcpListener) -> TcpStream {
    try_accept(listener, PATIENCE).expect("a connection arrives")
}

pub fn try_accept(listener: &TcpListener, patience: Duration) -> Option<TcpStream> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec {
        tv_sec: patience.as_secs().cast_signed(),
        tv_nsec: patience.subsec_nanos().into(),
    };
    if poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout)).unwrap() == 0 {
        return None;
    }
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Some(stream)
}

/// The address as the accepting side sees it.
pub fn peer_of(stream: &TcpStream) -> SocketAddr {
    let peer = stream.peer_addr().unwrap();
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// Bytes go through in both directions.
pub fn talk(one: &mut TcpStream, other: &mut TcpStream) {
    for (from, to) in [(0, 1), (1, 0)] {
        let pair = [&mut *one, &mut *other];
        pair[from].write_all(b"hello, intercept").unwrap();
        let mut read = [0; 16];
        pair[to].read_exact(&mut read).unwrap();
        assert_eq!(&read, b"hello, intercept");
    }
}

pub fn config() -> nft::Config {
    nft::Config {
        listener: LISTENER,
        ..nft::Config::default()
    }
}
