//! Two network namespaces joined by a veth pair: `pod` with the server and the capture, `peer` with the clients.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub const APP: u16 = 8080;
pub const POD: [&str; 2] = ["10.232.0.1", "fd78::1"];
pub const PEER: [&str; 2] = ["10.232.0.2", "fd78::2"];
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
        for (namespace, addresses) in [(&pod, POD), (&peer, PEER)] {
            for device in ["lo", "eth0"] {
                run("ip", &["-n", &namespace.name, "link", "set", device, "up"]);
            }
            for (address, extra) in addresses.into_iter().zip([&[][..], &["nodad"]]) {
                let address = format!("{address}/{}", if extra.is_empty() { 24 } else { 64 });
                run(
                    "ip",
                    &[
                        &["-n", &namespace.name, "address", "add", &address, "dev", "eth0"][..],
                        extra,
                    ]
                    .concat(),
                );
            }
        }
        World { pod, peer }
    }
}

pub struct Namespace {
    pub name: String,
}

impl Namespace {
    fn new(role: &str) -> Namespace {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("capture-test-{}-{number}-{role}", std::process::id());
        run("ip", &["netns", "add", &name]);
        Namespace { name }
    }

    /// Runs something on a thread that lives in this namespace. Sockets made there stay in it.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread.
    pub fn enter(&self) {
        let file = std::fs::File::open(format!("/run/netns/{}", self.name)).expect("the namespace exists");
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
            .expect("entering a network namespace needs root");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

pub fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| {
        panic!("{program}: {error}; these tests need root: apt-get install iproute2");
    });
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {args:?}: {error} (these tests need root and network namespaces)"
    );
}

/// A dual-stack listener on all addresses.
pub fn listen(port: u16) -> TcpListener {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SockAddr::from(address("::", port))).unwrap();
    socket.listen(1024).unwrap();
    socket.into()
}

pub fn connect(to: SocketAddr) -> TcpStream {
    let stream =
        TcpStream::connect_timeout(&to, PATIENCE).unwrap_or_else(|error| panic!("connecting to {to}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// Bytes that are the same only for the same seed.
pub fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}
