//! UDP of a pod's port, copied and stolen, over both families and from inside the pod as well.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::{CLIENT, POD, Session, Spawned, World, in_time, until, world};
use rules::Term;
use wire::message::{
    Bytes, Claim, ClaimMode, ClaimState, Counts, Datagram, Datagrams, Open, ReplyBody, RequestBody, SessionEntry,
};
use wire::{Stream, frame};

const PORT: u16 = 5353;
const POD6: &str = "fd77::2";
const CLIENT6: &str = "fd77::1";

/// The world with IPv6, and the real app: it answers with `real` before what it was sent.
fn stage() -> World {
    let world = world();
    let near = world.client.run(&["ip", "-o", "link", "show", "type", "veth"]);
    let near = near.split_whitespace().nth(1).unwrap().split('@').next().unwrap();
    world
        .client
        .run(&["ip", "addr", "add", &format!("{CLIENT6}/64"), "dev", near, "nodad"]);
    world
        .pod
        .run(&["ip", "addr", "add", &format!("{POD6}/64"), "dev", "eth0", "nodad"]);
    let app = world.pod.within(|| UdpSocket::bind(("::", PORT)).unwrap());
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, client)) = app.recv_from(&mut buffer) {
            let answer = [&b"real "[..], &buffer[..length]].concat();
            let _ = app.send_to(&answer, client);
        }
    });
    world
}

/// A client of `PORT` at an address, for as long as one question takes.
fn client(of: &Spawned, to: &str) -> UdpSocket {
    let to = SocketAddr::new(to.parse().unwrap(), PORT);
    of.within(move || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(common::DEADLINE)).unwrap();
        socket
    })
}

/// The answer to a datagram; its source is checked by the kernel, since the socket is connected.
fn ask(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    socket.send(question).unwrap();
    let mut answer = vec![0; 65_536];
    let length = socket.recv(&mut answer).unwrap();
    answer.truncate(length);
    answer
}

/// Everywhere a datagram can come from: who asks, and where.
fn ways(world: &World) -> [(&Spawned, &'static str, &'static str); 6] {
    let (client, pod) = (&world.client, &world.pod);
    [
        (client, POD, CLIENT),
        (client, POD6, CLIENT6),
        (pod, "127.0.0.1", "127.0.0.1"),
        (pod, "::1", "::1"),
        (pod, POD, POD),
        (pod, POD6, POD6),
    ]
}

fn claim(mode: ClaimMode) -> Claim {
    common::claim(PORT, mode)
}

/// A claim in force, and its stream.
async fn hold(session: &mut Session, mode: ClaimMode) -> Stream {
    let states = session.claims(vec![claim(mode)]).await;
    assert_eq!(states, [ClaimState::Active { older: 0 }]);
    let (open, stream) = in_time(session.acceptor.next()).await.unwrap().unwrap();
    assert_eq!(open, Open::Datagrams(Datagrams { mode, port: PORT }));
    stream
}

/// Answers stolen datagrams in the session's place: `local`, whose it was, and where it went.
fn answer(stream: Stream) {
    tokio::spawn(async move {
        let (mut reader, mut writer) = stream.split();
        while let Ok(Some(mut datagram)) = frame::next_message::<Datagram, _>(&mut reader).await {
            let text = format!("local {} {} ", datagram.client, datagram.server);
            datagram.data = Bytes([text.as_bytes(), &datagram.data.0].concat());
            if frame::write_message(&mut writer, &datagram).await.is_err() {
                return;
            }
        }
    });
}

async fn next(stream: &mut Stream) -> Datagram {
    in_time(frame::read_message(stream)).await.unwrap()
}

fn rules(world: &World) -> String {
    world.pod.run(&["nft", "list", "ruleset"])
}

async fn list(session: &Session) -> Vec<SessionEntry> {
    match session.call(RequestBody::Sessions).await {
        ReplyBody::Sessions(sessions) => sessions,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_gets_a_copy_and_the_real_app_answers() {
    let world = stage();
    let mut session = common::direct(world.pod.pid).await;
    let mut stream = hold(&mut session, ClaimMode::MirrorDatagrams).await;
    for (from, to, ip) in ways(&world) {
        let socket = client(from, to);
        assert_eq!(ask(&socket, b"question"), b"real question", "{to}");
        let copy = next(&mut stream).await;
        assert_eq!(
            copy.client,
            SocketAddr::new(ip.parse().unwrap(), socket.local_addr().unwrap().port())
        );
        assert_eq!(copy.server, socket.peer_addr().unwrap());
        assert_eq!(copy.data.0, b"question");
        // What it answers goes nowhere.
        frame::write_message(&mut stream, &copy).await.unwrap();
    }
    let socket = client(&world.client, POD);
    assert_eq!(ask(&socket, b"1"), b"real 1");
    assert_eq!(next(&mut stream).await.data.0, b"1");
    assert_eq!(rules(&world), "", "a mirror never touches the data path");
    let counts = list(&session).await[0].claims[0].counts;
    let (seen, mirrored) = (7, 7);
    assert_eq!(
        counts,
        Counts {
            seen,
            mirrored,
            ..Counts::default()
        }
    );
    session.claims(vec![]).await;
    until("the packet socket's end", async || {
        world.pod.run(&["cat", "/proc/net/packet"]).lines().count() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steal_answers_in_the_pod_s_name_until_it_ends() {
    let world = stage();
    let mut session = common::direct(world.pod.pid).await;
    let stream = hold(&mut session, ClaimMode::StealDatagrams).await;
    answer(stream);
    let sockets = ways(&world).map(|(from, to, ip)| (client(from, to), ip));
    let of = |socket: &UdpSocket, ip: &str| {
        let client = SocketAddr::new(ip.parse().unwrap(), socket.local_addr().unwrap().port());
        format!("local {client} {} ", socket.peer_addr().unwrap())
    };
    for (socket, ip) in &sockets {
        let expect = [of(socket, ip).as_bytes(), b"question"].concat();
        assert_eq!(ask(socket, b"question"), expect, "{ip}");
        assert_eq!(ask(socket, b""), of(socket, ip).as_bytes(), "{ip}");
    }
    // An answer that no packet carries whole; the question goes in fragments over IPv4.
    let long = vec![b'x'; 20_000];
    for at in [0, 2, 3] {
        let (socket, ip) = &sockets[at];
        let expect = [of(socket, ip).as_bytes(), &long].concat();
        assert!(ask(socket, &long) == expect, "{ip}");
    }
    session.claims(vec![]).await;
    for (socket, ip) in &sockets {
        assert_eq!(ask(socket, b"after"), b"real after", "{ip}");
    }
    assert_eq!(rules(&world), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_the_real_app_is_back() {
    let world = stage();
    let socket = client(&world.client, POD);
    for agent in [true, false] {
        let mut session = common::direct(world.pod.pid).await;
        answer(hold(&mut session, ClaimMode::StealDatagrams).await);
        assert!(ask(&socket, b"1").starts_with(b"local"));
        if agent {
            session.agent.start_kill().unwrap();
        } else {
            session.link.close();
        }
        let ended = Instant::now();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut buffer = [0; 99];
        loop {
            socket.send(b"2").unwrap();
            match socket.recv(&mut buffer) {
                Ok(length) if buffer[..length].starts_with(b"real") => break,
                _ => assert!(ended.elapsed() < Duration::from_secs(2), "agent: {agent}"),
            }
        }
        socket.set_read_timeout(Some(common::DEADLINE)).unwrap();
        // Answers to what was asked meanwhile.
        while socket.set_read_timeout(Some(Duration::from_millis(100))).is_ok() && socket.recv(&mut buffer).is_ok() {}
        socket.set_read_timeout(Some(common::DEADLINE)).unwrap();
        until("no rules", async || rules(&world).is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_session_steals_others_may_mirror() {
    let world = stage();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let _agent = common::serve(&world, &socket, "1000").await;
    let mut ada = common::attach(&socket, "ada").await;
    let mut bob = common::attach(&socket, "bob").await;
    let stolen = hold(&mut ada, ClaimMode::StealDatagrams).await;
    answer(stolen);
    let states = bob.claims(vec![claim(ClaimMode::StealDatagrams)]).await;
    let [ClaimState::Taken { session, why }] = &states[..] else {
        panic!("{states:?}")
    };
    assert_eq!(*session, common::hello("ada").session);
    assert!(why.starts_with(&format!("ada already steals port {PORT}/udp")), "{why}");
    let mut copies = hold(&mut bob, ClaimMode::MirrorDatagrams).await;
    let question = client(&world.client, POD);
    assert!(ask(&question, b"q").starts_with(b"local"));
    assert_eq!(next(&mut copies).await.data.0, b"q");
    // TCP of that number is another port.
    let connections = Claim {
        mode: ClaimMode::Steal,
        ..claim(ClaimMode::Steal)
    };
    let filtered = Claim {
        filter: vec![Term::Is("a=b".to_owned())],
        ..claim(ClaimMode::StealDatagrams)
    };
    let none = Claim {
        port: 0,
        ..claim(ClaimMode::MirrorDatagrams)
    };
    let states = bob.claims(vec![connections, filtered, none]).await;
    assert_eq!(states[0], ClaimState::Active { older: 0 });
    assert!(
        states[1..].iter().all(|state| matches!(state, ClaimState::Refused(_))),
        "{states:?}"
    );
    let entries = list(&bob).await;
    let held: Vec<_> = entries
        .iter()
        .flat_map(|entry| &entry.claims)
        .map(|claim| claim.mode)
        .collect();
    assert_eq!(held, [ClaimMode::StealDatagrams, ClaimMode::Steal]);
    let (seen, matched) = (1, 1);
    let counts = Counts {
        seen,
        matched,
        ..Counts::default()
    };
    assert_eq!(entries[0].claims[0].counts, counts);
    drop(ada);
    until("the end of the steal", async || {
        bob.claims(vec![claim(ClaimMode::StealDatagrams)]).await == [ClaimState::Active { older: 0 }]
    })
    .await;
}

/// Who does not take its datagrams loses some, and nobody else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_taken_is_dropped_and_counted() {
    const COUNT: u64 = 5000;
    let world = stage();
    let mut session = common::direct(world.pod.pid).await;
    let stream = hold(&mut session, ClaimMode::MirrorDatagrams).await;
    let socket = client(&world.client, POD);
    for _ in 0..COUNT {
        assert_eq!(ask(&socket, &[7; 1000]).len(), 1005);
    }
    let mut counts = Counts::default();
    until("all are counted", async || {
        counts = list(&session).await[0].claims[0].counts;
        counts.seen == COUNT
    })
    .await;
    assert_eq!(counts.mirrored + counts.dropped, COUNT);
    assert!(counts.dropped > COUNT / 4, "{counts:?}");
    assert!(counts.mirrored > 100, "{counts:?}");
    let warned = in_time(session.events.recv()).await;
    assert!(
        format!("{warned:?}").contains("5353/udp: datagrams are lost"),
        "{warned:?}"
    );
    drop(stream);
}
