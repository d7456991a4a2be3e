//! A real agent on a real target: facts, environment, outgoing flows, files.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use common::{POD, in_time, until, world};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::message::{Bytes, Destination, Dial, Dialed, Open, ReplyBody, RequestBody};
use wire::{Stream, frame};

async fn dial(session: &common::Session, destination: Destination, timeout_ms: u32) -> (Dialed, Stream) {
    let open = Open::Dial(Dial {
        destination,
        timeout_ms,
    });
    let mut stream = in_time(session.link.open(&open, &[])).await.unwrap();
    let dialed = in_time(frame::read_message(&mut stream)).await.unwrap();
    (dialed, stream)
}

fn tcp(address: &str) -> Destination {
    Destination::Tcp(address.parse().unwrap())
}

async fn connected(session: &common::Session, destination: Destination) -> Stream {
    match dial(session, destination, 0).await {
        (Dialed::Ok { .. }, stream) => stream,
        (failed, _) => panic!("{failed:?}"),
    }
}

async fn failure(session: &common::Session, destination: Destination, timeout_ms: u32) -> i32 {
    match dial(session, destination, timeout_ms).await.0 {
        Dialed::Failed(fault) => fault.errno,
        ok @ Dialed::Ok { .. } => panic!("{ok:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_and_environment_are_the_targets() {
    let world = world();
    let session = common::direct(world.pod.pid).await;
    let facts = session.facts().await;
    assert_eq!(facts.hostname, "shop-7d9f");
    assert_eq!(
        facts
            .addresses
            .iter()
            .filter(|it| it.is_ipv4())
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        [POD]
    );
    assert_eq!(facts.cwd, Bytes(b"/srv".to_vec()));
    for volume in ["/mnt", "/srv"] {
        assert!(
            facts.volumes.contains(&Bytes(volume.into())),
            "{volume} in {:?}",
            facts.volumes
        );
    }
    assert!(
        !facts.volumes.iter().any(|path| path.0.starts_with(b"/proc")),
        "{:?}",
        facts.volumes
    );
    assert!(facts.root.contains(&(Bytes(b"etc".to_vec()), true)));
    assert_eq!((facts.uid, facts.gid), (0, 0));
    assert_eq!(facts.limits, wire::message::Limits::default());
    let ReplyBody::Env(env) = session.call(RequestBody::Env).await else {
        panic!()
    };
    for (name, value) in [("DATABASE_URL", "postgres://db/shop"), ("EMPTY", ""), ("ODD", "a=b\nc")] {
        assert!(env.contains(&(Bytes(name.into()), Bytes(value.into()))), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_from_inside_with_half_close_and_truthful_errors() {
    let world = world();
    let session = common::direct(world.pod.pid).await;
    let listener = world.pod.listen("127.0.0.1:7000");
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        socket.read_to_end(&mut all).await.unwrap();
        all.reverse();
        socket.write_all(&all).await.unwrap();
        listener
    });
    let mut stream = connected(&session, tcp("127.0.0.1:7000")).await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 253) as u8).collect();
    stream.write_all(&sent).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut got = Vec::new();
    in_time(stream.read_to_end(&mut got)).await.unwrap();
    got.reverse();
    assert!(got == sent);
    let listener = in_time(server).await.unwrap();

    // A reset at the far end is a reset here.
    let mut stream = connected(&session, tcp("127.0.0.1:7000")).await;
    let (socket, _) = in_time(listener.accept()).await.unwrap();
    socket.set_zero_linger().unwrap();
    drop(socket);
    let error = in_time(stream.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    // And a dropped stream is a reset there.
    let stream = connected(&session, tcp("127.0.0.1:7000")).await;
    let (mut socket, _) = in_time(listener.accept()).await.unwrap();
    drop(stream);
    let error = in_time(socket.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    drop(listener);
    // A child that another test has just forked holds it until exec.
    let refused = async || match dial(&session, tcp("127.0.0.1:7000"), 0).await.0 {
        Dialed::Failed(fault) => {
            assert_eq!(fault.errno, libc::ECONNREFUSED);
            true
        }
        Dialed::Ok { .. } => false,
    };
    until("nobody listens", refused).await;
    assert_eq!(failure(&session, tcp("192.0.2.1:80"), 0).await, libc::ENETUNREACH);
    // Nobody has this address on the wire: the neighbour does not answer.
    assert_eq!(failure(&session, tcp("10.77.0.9:80"), 0).await, libc::EHOSTUNREACH);
    world.pod.run(&[
        "ip",
        "neigh",
        "add",
        "10.77.0.8",
        "lladdr",
        "02:00:00:00:00:01",
        "dev",
        "eth0",
    ]);
    assert_eq!(failure(&session, tcp("10.77.0.8:80"), 100).await, libc::ETIMEDOUT);
    world
        .pod
        .run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/tcp_syn_retries"]);
    assert_eq!(failure(&session, tcp("10.77.0.8:80"), 0).await, libc::ETIMEDOUT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_keeps_its_borders() {
    let world = world();
    let session = common::direct(world.pod.pid).await;
    let socket = world
        .pod
        .within(|| std::net::UdpSocket::bind("127.0.0.1:5353").unwrap());
    let echo = std::thread::spawn(move || {
        let mut buffer = [0; 70_000];
        for _ in 0..4 {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..length], from).unwrap();
        }
    });
    let mut stream = connected(&session, Destination::Udp("127.0.0.1:5353".parse().unwrap())).await;
    let (mut scratch, mut got) = (Vec::new(), Vec::new());
    for sent in [b"one".to_vec(), vec![], vec![9; 60_000], b"two".to_vec()] {
        wire::datagram::write(&mut stream, &sent, &mut scratch).await.unwrap();
        assert!(in_time(wire::datagram::read(&mut stream, &mut got)).await.unwrap());
        assert_eq!(got, sent);
    }
    echo.join().unwrap();
    // Refused by ICMP: as silent as it is to a program that does not look.
    wire::datagram::write(&mut stream, b"nobody", &mut scratch)
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    assert!(!in_time(wire::datagram::read(&mut stream, &mut got)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unix_sockets_of_the_target() {
    let world = world();
    let session = common::direct(world.pod.pid).await;
    let listener = tokio::net::UnixListener::bind(world.pod.path("/srv/app.sock")).unwrap();
    let mut stream = connected(&session, Destination::Unix(b"/srv/app.sock".to_vec())).await;
    let (mut socket, _) = in_time(listener.accept()).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut got = [0; 4];
    in_time(socket.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"ping");
    socket.write_all(b"pong").await.unwrap();
    drop(socket);
    let mut all = Vec::new();
    in_time(stream.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"pong");
    assert_eq!(
        failure(&session, Destination::Unix(b"/srv/none".to_vec()), 0).await,
        libc::ENOENT
    );
    assert_eq!(
        failure(&session, Destination::Unix(b"/srv/token".to_vec()), 0).await,
        libc::ECONNREFUSED
    );
    drop(listener);
    assert_eq!(
        failure(&session, Destination::Unix(b"/srv/app.sock".to_vec()), 0).await,
        libc::ECONNREFUSED
    );
    let abstract_name = world.pod.within(|| {
        use std::os::linux::net::SocketAddrExt;
        let name = std::os::unix::net::SocketAddr::from_abstract_name("shop").unwrap();
        std::os::unix::net::UnixListener::bind_addr(&name).unwrap()
    });
    connected(&session, Destination::Unix(b"\0shop".to_vec())).await;
    drop(abstract_name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_ends_with_its_session() {
    let world = world();
    let mut session = common::direct(world.pod.pid).await;
    assert_eq!(session.call(RequestBody::Goodbye).await, ReplyBody::Pong);
    session.link.close();
    assert!(in_time(session.agent.wait()).await.unwrap().success());

    let mut session = common::direct(world.pod.pid).await;
    let listener = world.pod.listen("127.0.0.1:7000");
    let _stream = connected(&session, tcp("127.0.0.1:7000")).await;
    let (mut socket, _) = in_time(listener.accept()).await.unwrap();
    let id = session.agent.id().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(id as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    in_time(session.agent.wait()).await.unwrap();
    in_time(session.link.closed()).await;
    assert!(matches!(in_time(socket.read(&mut [0; 1])).await, Ok(0) | Err(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_work_says_why() {
    let mut command = common::agent_command();
    command
        .args(["direct", "--target-pid", "2000000000"])
        .stderr(std::process::Stdio::piped());
    let output = in_time(command.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no process with pid 2000000000"));

    let world = world();
    let mut command = common::agent_command();
    command
        .args(["direct", "--target-pid", &world.pod.pid.to_string()])
        .stderr(std::process::Stdio::piped());
    let mut agent = command.spawn().unwrap();
    agent
        .stdin
        .take()
        .unwrap()
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let output = in_time(agent.wait_with_output()).await.unwrap();
    assert_eq!(output.status.code(), Some(76));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("not an inpod session; it said: GET / HTTP"), "{stderr}");
}
