use std::net::{SocketAddr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use capture::{Arrival, Datagrams};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::world::*;

const MARK: u32 = 0x1d0d_0001;

fn open(pod: &Namespace) -> Datagrams {
    pod.within(|| Datagrams::open(&[APP].into(), Some((0x1d0d_0000, 0xffff_0000))))
        .unwrap()
}

fn socket(namespace: &Namespace, ip: &str) -> UdpSocket {
    namespace.within(|| UdpSocket::bind(address(ip, 0))).unwrap()
}

/// The next arrival.
fn next<T>(datagrams: &Datagrams, read: impl FnOnce(Arrival<'_>) -> T) -> T {
    let (mut buffer, begun) = (Vec::new(), Instant::now());
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    loop {
        if let Some(arrival) = datagrams.next(&mut buffer).unwrap() {
            return read(arrival);
        }
        assert!(begun.elapsed() < PATIENCE, "nothing comes");
        poll(&mut [PollFd::new(datagrams, PollFlags::IN)], Some(&second)).unwrap();
    }
}

fn all(datagrams: &Datagrams) -> (SocketAddr, SocketAddr, Vec<Vec<u8>>) {
    next(datagrams, |arrival| {
        assert!(arrival.whole);
        let data = arrival.datagrams().map(<[u8]>::to_vec).collect();
        (arrival.client, arrival.server, data)
    })
}

fn is_quiet(datagrams: &Datagrams) -> bool {
    std::thread::sleep(Duration::from_millis(100));
    datagrams.next(&mut Vec::new()).unwrap().is_none()
}

#[test]
fn each_comes_once_from_outside_and_from_the_pod_itself() {
    let world = World::new();
    let datagrams = open(&world.pod);
    for (namespace, from, to) in [
        (&world.peer, PEER[0], POD[0]),
        (&world.peer, PEER[1], POD[1]),
        (&world.pod, "127.0.0.1", "127.0.0.1"),
        (&world.pod, "::1", "::1"),
        (&world.pod, POD[0], POD[0]),
        (&world.pod, POD[1], POD[1]),
    ] {
        let client = socket(namespace, from);
        for data in [&b"hello"[..], b"", &noise(7, 1400)] {
            client.send_to(data, address(to, APP)).unwrap();
            let expect = (client.local_addr().unwrap(), address(to, APP), vec![data.to_vec()]);
            assert_eq!(all(&datagrams), expect, "{to}");
        }
        client.send_to(b"another port", address(to, APP + 1)).unwrap();
    }
    // What the pod sends to such a port elsewhere is not incoming, and neither is what is marked.
    socket(&world.pod, POD[0])
        .send_to(b"out", address(PEER[0], APP))
        .unwrap();
    let marked = socket(&world.pod, "127.0.0.1");
    socket2::SockRef::from(&marked).set_mark(MARK).unwrap();
    marked.send_to(b"ours", address("127.0.0.1", APP)).unwrap();
    assert!(is_quiet(&datagrams));
    assert_eq!(datagrams.lost().unwrap(), 0);
}

#[test]
fn fragments_of_ipv4_come_whole_and_those_of_ipv6_are_told() {
    let world = World::new();
    let datagrams = open(&world.pod);
    let long = noise(1, 60_000);
    let client = socket(&world.peer, PEER[0]);
    client.send_to(&long, address(POD[0], APP)).unwrap();
    assert_eq!(all(&datagrams).2, std::slice::from_ref(&long));
    let client = socket(&world.peer, PEER[1]);
    client.send_to(&long, address(POD[1], APP)).unwrap();
    next(&datagrams, |arrival| {
        assert!(!arrival.whole);
        assert_eq!(
            (arrival.client, arrival.server),
            (client.local_addr().unwrap(), address(POD[1], APP))
        );
    });
    assert!(is_quiet(&datagrams));
}

/// `UDP_SEGMENT`, linux/udp.h: the kernel passes what was sent as one on as one.
#[test]
fn what_is_sent_as_one_is_taken_apart() {
    let world = World::new();
    let datagrams = open(&world.pod);
    for (from, to) in PEER.into_iter().zip(POD) {
        let script = "import socket,sys; s=socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM); \
                      s.bind((sys.argv[1],0)); s.setsockopt(17,103,100); s.sendto(b'x'*950,(sys.argv[2],int(sys.argv[3])))";
        let sent = std::process::Command::new("ip")
            .args([
                "netns",
                "exec",
                &world.peer.name,
                "python3",
                "-c",
                script,
                from,
                to,
                &APP.to_string(),
            ])
            .status();
        assert!(sent.unwrap().success());
        let lengths: Vec<_> = all(&datagrams).2.iter().map(Vec::len).collect();
        assert_eq!(lengths, [[100; 9].as_slice(), &[50]].concat(), "{to}");
    }
}

#[test]
fn link_local_clients_have_their_interface() {
    let world = World::new();
    let near = |namespace: &Namespace, ip: &str| {
        let address = format!("{ip}/64");
        run(
            "ip",
            &[
                "-n",
                &namespace.name,
                "address",
                "add",
                &address,
                "dev",
                "eth0",
                "nodad",
            ],
        );
        namespace.within(|| {
            let any = UdpSocket::bind("[::]:0").unwrap();
            rustix::net::netdevice::name_to_index(&any, "eth0").unwrap()
        })
    };
    let (here, there) = (near(&world.pod, "fe80::77:1"), near(&world.peer, "fe80::77:2"));
    let scoped = |ip: &str, port, scope| SocketAddr::from(SocketAddrV6::new(ip.parse().unwrap(), port, 0, scope));
    let datagrams = open(&world.pod);
    let client = world
        .peer
        .within(|| UdpSocket::bind(scoped("fe80::77:2", 0, there)).unwrap());
    client.send_to(b"near", scoped("fe80::77:1", APP, there)).unwrap();
    let port = client.local_addr().unwrap().port();
    let expect = (
        scoped("fe80::77:2", port, here),
        scoped("fe80::77:1", APP, here),
        vec![b"near".to_vec()],
    );
    assert_eq!(all(&datagrams), expect);
}
