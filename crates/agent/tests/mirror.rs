//! Mirroring a real app: it keeps answering, and the session gets the same bytes.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::time::Duration;

use common::{CLIENT, POD, attach, in_time, serve, until, world};
use rules::Term;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::message::{Claim, ClaimMode, ClaimState, Incoming, Open, Probe, ReplyBody, RequestBody};

const PORT: u16 = 8080;

fn claim(header: Option<&str>) -> Claim {
    let exact = |value: &str| Term::Is(format!("X-User={value}"));
    Claim {
        filter: header.map(exact).into_iter().collect(),
        ..common::claim(PORT, ClaimMode::Mirror)
    }
}

async fn claims(session: &common::Session, claims: Vec<Claim>) {
    let states = session.claims(claims).await;
    assert!(matches!(states[..], [ClaimState::Active { older: 0 }]), "{states:?}");
}

/// Sends everything, reads the answer: as many bytes as were received.
async fn exchange(world: &common::World, bytes: Vec<u8>) -> u64 {
    let mut socket = world.client.connect(&format!("{POD}:{PORT}")).unwrap();
    socket.write_all(&bytes).await.unwrap();
    socket.shutdown().await.unwrap();
    in_time(socket.read_u64()).await.unwrap()
}

/// The next copy, to its end.
async fn next_copy(session: &mut common::Session) -> (Incoming, Vec<u8>) {
    let (open, mut stream) = in_time(session.acceptor.next()).await.unwrap().unwrap();
    let Open::Incoming(incoming) = open else {
        panic!("{open:?}")
    };
    let mut got = Vec::new();
    in_time(stream.read_to_end(&mut got)).await.unwrap();
    (incoming, got)
}

fn app(world: &common::World) {
    let listener = world.pod.listen(&format!("0.0.0.0:{PORT}"));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let count = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await.unwrap();
                let _ = socket.write_u64(count).await;
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_copy_is_the_same_bytes() {
    let world = world();
    app(&world);
    let mut session = common::direct(world.pod.pid).await;
    claims(&session, vec![claim(None)]).await;
    let sent: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 249) as u8).collect();
    assert_eq!(exchange(&world, sent.clone()).await, sent.len() as u64);
    let (incoming, got) = next_copy(&mut session).await;
    assert_eq!((incoming.mode, incoming.port), (ClaimMode::Mirror, PORT));
    assert_eq!(incoming.client.ip().to_string(), CLIENT);
    assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
    claims_end(&session, &world).await;
}

/// Without claims nothing reads packets any more.
async fn claims_end(session: &common::Session, world: &common::World) {
    assert!(packets(world), "the capture was open");
    claims_nothing(session).await;
    until("the capture is closed", async || !packets(world)).await;
}

fn packets(world: &common::World) -> bool {
    world.pod.run(&["cat", "/proc/net/packet"]).lines().count() > 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_copies_only_what_matches() {
    let world = world();
    app(&world);
    let mut session = common::direct(world.pod.pid).await;
    claims(&session, vec![claim(Some("ada"))]).await;
    let wanted = "POST /a HTTP/1.1\r\nX-User: ada\r\nContent-Length: 5\r\n\r\nhello";
    let other = "POST /b HTTP/1.1\r\nX-User: bob\r\nContent-Length: 3\r\n\r\nabc";
    exchange(&world, other.into()).await;
    exchange(&world, [wanted, other, wanted].concat().into()).await;
    let (_, got) = next_copy(&mut session).await;
    assert_eq!(got, [wanted, wanted].concat().as_bytes());
}

/// A connection with a health check, as the kubelet makes it.
fn grpc_probe() -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let field = |index: &[u8], value: &str| {
        let length = u8::try_from(value.len()).unwrap();
        [index, &[length], value.as_bytes()].concat()
    };
    // `:method POST`, `:scheme http`, `:path`, `user-agent`: the static table of RFC 7541.
    let path = field(&[4], "/grpc.health.v1.Health/Check");
    let agent = field(&[0x0f, 58 - 15], "kube-probe/1.34 grpc-go/1.72");
    let block = [&[0x83, 0x86], path.as_slice(), &agent].concat();
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        frame(4, 0, 0, &[]).as_slice(),
        &frame(1, 4, 1, &block),
        &frame(0, 1, 1, &[0; 5]),
    ]
    .concat()
}

/// The kubelet's probes are the real app's alone; what is not HTTP is copied as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_are_not_copied() {
    let world = world();
    app(&world);
    let mut session = common::direct(world.pod.pid).await;
    let http = Probe::Http {
        port: PORT,
        path: "/healthz".to_owned(),
        headers: vec![],
    };
    let tcp = Probe::Tcp {
        port: PORT,
        nodes: vec![],
    };
    let probe = "GET /healthz HTTP/1.1\r\nUser-Agent: kube-probe/1.34\r\n\r\n";
    let request = "GET /healthz HTTP/1.1\r\nUser-Agent: curl/8\r\n\r\n";
    // One by one: what is of one kind is no probe where the pod has another.
    for (kind, probe) in [
        (http, probe.as_bytes().to_vec()),
        (tcp, vec![]),
        (Probe::Grpc { port: PORT }, grpc_probe()),
    ] {
        let probed = Claim {
            probes: vec![kind.clone()],
            ..claim(None)
        };
        claims(&session, vec![probed]).await;
        for (sent, copied) in [
            (probe.clone(), None),
            (request.into(), Some(request)),
            (b"PING".to_vec(), Some("PING")),
            // No more comes of it.
            (b"GET /he".to_vec(), Some("GET /he")),
        ] {
            exchange(&world, sent).await;
            if let Some(copied) = copied {
                let (_, got) = next_copy(&mut session).await;
                let expected = copied.as_bytes().escape_ascii().to_string();
                assert_eq!(got.escape_ascii().to_string(), expected, "{kind:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_short_connections_are_all_copied() {
    const COUNT: usize = 2000;
    let world = world();
    app(&world);
    let mut session = common::direct(world.pod.pid).await;
    claims(&session, vec![claim(None)]).await;
    let taker = tokio::spawn(async move {
        let mut got = std::collections::BTreeSet::new();
        while got.len() < COUNT {
            let (_, bytes) = next_copy(&mut session).await;
            assert!(got.insert(bytes), "copied twice");
        }
        session
    });
    let sender = tokio::task::spawn_blocking({
        let network = world.client.network();
        move || {
            use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
            use std::io::{Read, Write};
            use std::os::fd::AsFd;
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            for number in 0..COUNT {
                let mut socket = std::net::TcpStream::connect((POD, PORT)).unwrap();
                write!(socket, "GET /{number} HTTP/1.1\r\n\r\n").unwrap();
                socket.shutdown(std::net::Shutdown::Write).unwrap();
                socket.read_exact(&mut [0; 8]).unwrap();
            }
        }
    });
    sender.await.unwrap();
    taker.await.unwrap();
}

/// A session whose app does not go on takes nothing from another's copies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_takes_nothing_disturbs_no_other() {
    let world = world();
    app(&world);
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let _agent = serve(&world, &socket, "60").await;
    let (ada, mut bob) = (attach(&socket, "ada").await, attach(&socket, "bob").await);
    for session in [&ada, &bob] {
        claims(session, vec![claim(None)]).await;
    }
    // 24 MB: more than may wait for all together.
    let sent = vec![b'x'; 2_000_000];
    for _ in 0..12 {
        exchange(&world, sent.clone()).await;
        let (_, got) = next_copy(&mut bob).await;
        assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
    }
}

/// A connection whose copy is more than can wait is dropped with what waits, and later ones are copied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_dropped_makes_room() {
    let world = world();
    app(&world);
    let mut session = common::direct(world.pod.pid).await;
    claims(&session, vec![claim(None)]).await;
    exchange(&world, vec![b'x'; 20_000_000]).await;
    let (_, mut broken) = in_time(session.acceptor.next()).await.unwrap().unwrap();
    // One or another may be lost to a busy machine.
    until("a later connection is copied", async || {
        exchange(&world, vec![b'y'; 2_000_000]).await;
        let next = tokio::time::timeout(Duration::from_secs(1), session.acceptor.next());
        let Ok(Some(Ok((_, mut copy)))) = next.await else {
            return false;
        };
        let mut got = Vec::new();
        in_time(copy.read_to_end(&mut got)).await.is_ok() && got.len() == 2_000_000
    })
    .await;
    let mut got = Vec::new();
    assert!(
        in_time(broken.read_to_end(&mut got)).await.is_err(),
        "cut off is not the end"
    );
}

/// What comes from inside of the pod is copied while another steals from the port: its packets are for the agent's listener.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steal_hides_nothing_from_a_mirror() {
    let world = world();
    app(&world);
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let _agent = serve(&world, &socket, "60").await;
    let steal = || Claim {
        mode: ClaimMode::Steal,
        ..claim(Some("ada"))
    };
    for stolen_first in [false, true] {
        let (ada, mut bob) = (attach(&socket, "ada").await, attach(&socket, "bob").await);
        if stolen_first {
            claims(&ada, vec![steal()]).await;
            claims(&bob, vec![claim(None)]).await;
        } else {
            claims(&bob, vec![claim(None)]).await;
            claims(&ada, vec![steal()]).await;
        }
        for number in 0..60 {
            if number == 40 {
                claims_nothing(&ada).await;
            }
            let (from, to) = match number % 3 {
                0 => (&world.pod, "127.0.0.1"),
                1 => (&world.pod, POD),
                _ => (&world.client, POD),
            };
            let to = format!("{to}:{PORT}");
            let sent = format!("GET /{number} HTTP/1.1\r\n\r\n").into_bytes();
            let mut socket = from.connect(&to).unwrap();
            let client = socket.local_addr().unwrap();
            socket.write_all(&sent).await.unwrap();
            socket.shutdown().await.unwrap();
            assert_eq!(in_time(socket.read_u64()).await.unwrap(), sent.len() as u64);
            let (incoming, got) = next_copy(&mut bob).await;
            assert_eq!((incoming.server.to_string(), incoming.client), (to, client), "{number}");
            assert_eq!(got, sent);
        }
        claims_nothing(&bob).await;
    }
}

async fn claims_nothing(session: &common::Session) {
    let reply = session.call(RequestBody::Claims(vec![])).await;
    assert_eq!(reply, ReplyBody::Claims(vec![]));
}
