use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use capture::{Closed, Config, Interfaces, Reason};

use crate::recorder::*;
use crate::world::*;

/// One exchange: the client sends and closes, the server reads all.
fn send(listener: &TcpListener, mut client: TcpStream, bytes: &[u8]) {
    client.write_all(bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut read = Vec::new();
    server.read_to_end(&mut read).unwrap();
    assert_eq!(read, bytes);
}

#[test]
fn loopback_is_seen_only_when_asked_for_and_then_once() {
    let world = World::new();
    let listener = world.pod.within(|| listen(APP));
    for (interfaces, outside, inside) in [
        (Interfaces::Outside, true, false),
        (Interfaces::All, true, true),
        (Interfaces::Named(vec!["lo".into()]), false, true),
        (
            Interfaces::Named(vec!["eth0".into(), "lo".into(), "lo".into()]),
            true,
            true,
        ),
    ] {
        let mut recorder = Recorder::open(
            &world.pod,
            &Config {
                interfaces: interfaces.clone(),
                ..config()
            },
        );
        let mut expect = Vec::new();
        for ip in [POD[0], POD[1], "127.0.0.1", "::1"] {
            let client = world.pod.within(|| connect(address(ip, APP)));
            expect.extend(inside.then_some((client.local_addr().unwrap(), ip.as_bytes().to_vec())));
            send(&listener, client, ip.as_bytes());
        }
        for ip in POD {
            let client = world.peer.within(|| connect(address(ip, APP)));
            expect.extend(outside.then_some((client.local_addr().unwrap(), b"outside".to_vec())));
            send(&listener, client, b"outside");
        }
        recorder.until("all connections", |it| it.closed() == expect.len());
        recorder.settle();
        let mut seen: Vec<_> = recorder
            .seen
            .values()
            .map(|seen| (seen.client, seen.bytes.clone()))
            .collect();
        seen.sort();
        expect.sort();
        assert_eq!(seen, expect, "{interfaces:?}");
        let stats = recorder.stats();
        assert_eq!(
            (stats.older, stats.finished),
            (0, expect.len() as u64),
            "{interfaces:?}"
        );
    }
}

#[test]
fn the_pod_s_own_connections_to_such_a_port_elsewhere_are_not_incoming() {
    let world = World::new();
    let elsewhere = world.peer.within(|| listen(APP));
    let listener = world.pod.within(|| listen(APP));
    let mut recorder = Recorder::open(&world.pod, &config());
    for ip in PEER {
        send(&elsewhere, world.pod.within(|| connect(address(ip, APP))), b"outgoing");
    }
    send(
        &listener,
        world.peer.within(|| connect(address(POD[0], APP))),
        b"incoming",
    );
    recorder.until("the incoming one", |it| it.closed() == 1);
    recorder.settle();
    assert_eq!(recorder.seen.len(), 1);
    assert_eq!(recorder.stats().older, 0);
}

#[test]
fn connections_older_than_the_capture_are_counted_and_left_out() {
    let world = World::new();
    let listener = world.pod.within(|| listen(APP));
    let mut older: Vec<_> = POD
        .iter()
        .map(|ip| world.peer.within(|| connect(address(ip, APP))))
        .collect();
    let _accepted: Vec<_> = older.iter().map(|_| listener.accept().unwrap()).collect();
    let mut recorder = Recorder::open(&world.pod, &config());
    for _ in 0..3 {
        older
            .iter_mut()
            .for_each(|client| client.write_all(b"later data").unwrap());
    }
    send(&listener, world.peer.within(|| connect(address(POD[0], APP))), b"new");
    recorder.until("the new one", |it| it.closed() == 1);
    assert_eq!((recorder.seen.len(), recorder.stats().older), (1, 2));
}

#[test]
fn resets_of_either_side_and_refusals() {
    let world = World::new();
    let listener = world.pod.within(|| listen(APP));
    let mut recorder = Recorder::open(
        &world.pod,
        &Config {
            ports: [APP, APP + 1].into(),
            ..config()
        },
    );
    for (by_client, number) in [(true, 1), (false, 2)] {
        let mut client = world.peer.within(|| connect(address(POD[0], APP)));
        client.write_all(b"request").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.read_exact(&mut [0; 7]).unwrap();
        let reset = if by_client { client } else { server };
        socket2::SockRef::from(&reset)
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
        drop(reset);
        recorder.until("the reset", |it| it.closed() == number);
    }
    for seen in recorder.seen.values() {
        assert_eq!(
            (seen.bytes.as_slice(), seen.closed),
            (&b"request"[..], Some(Closed::Reset))
        );
    }
    let refused = world.peer.within(|| TcpStream::connect(address(POD[0], APP + 1)));
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    recorder.settle();
    assert_eq!(recorder.seen.len(), 2);
}

#[test]
fn ports_change_while_running_and_a_reader_can_give_up() {
    let world = World::new();
    let (one, other) = world.pod.within(|| (listen(APP), listen(APP + 1)));
    let mut recorder = Recorder::open(
        &world.pod,
        &Config {
            ports: [].into(),
            ..config()
        },
    );
    send(&one, world.peer.within(|| connect(address(POD[0], APP))), b"before");
    recorder.capture.set_ports(&[APP].into()).unwrap();
    let mut open = world.peer.within(|| connect(address(POD[0], APP)));
    open.write_all(b"first").unwrap();
    recorder.until("the open one", |it| it.seen.values().any(|seen| seen.bytes == b"first"));
    recorder.capture.set_ports(&[APP + 1].into()).unwrap();
    open.write_all(b"second").unwrap();
    send(
        &other,
        world.peer.within(|| connect(address(POD[1], APP + 1))),
        b"other",
    );
    recorder.until("both", |it| it.closed() == 2);
    let seen: Vec<_> = recorder
        .seen
        .values()
        .map(|seen| (seen.bytes.as_slice(), seen.closed.unwrap()))
        .collect();
    assert_eq!(
        seen,
        [
            (&b"first"[..], Closed::Dropped(Reason::Stopped)),
            (b"other", Closed::Finished)
        ]
    );

    let mut client = world.peer.within(|| connect(address(POD[0], APP + 1)));
    client.write_all(b"wanted").unwrap();
    recorder.until("the third", |it| it.seen.values().any(|seen| seen.bytes == b"wanted"));
    let id = *recorder.seen.keys().last().unwrap();
    recorder.capture.abandon(id);
    client.write_all(b"unwanted").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    recorder.settle();
    assert_eq!(
        (recorder.seen[&id].bytes.as_slice(), recorder.seen[&id].closed),
        (&b"wanted"[..], None)
    );
    assert_eq!((recorder.stats().abandoned, recorder.stats().older), (2, 0));
}

#[test]
fn marked_packets_are_not_seen() {
    let world = World::new();
    let listener = world.pod.within(|| listen(APP));
    let mark = (0x1d0d_0000, 0xffff_0000);
    let config = Config {
        interfaces: Interfaces::All,
        ignore_mark: Some(mark),
        ..config()
    };
    let mut recorder = Recorder::open(&world.pod, &config);
    for (value, bytes) in [(0x1d0d_0005, &b"ours"[..]), (0x1d0e_0005, b"another's")] {
        let client = world.pod.within(|| {
            let to = address(POD[0], APP);
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_mark(value).unwrap();
            socket.connect(&to.into()).unwrap();
            socket.into()
        });
        send(&listener, client, bytes);
    }
    recorder.until("the other's", |it| it.closed() == 1);
    recorder.settle();
    let seen: Vec<_> = recorder.seen.values().map(|seen| seen.bytes.as_slice()).collect();
    assert_eq!(seen, [b"another's"]);
}
