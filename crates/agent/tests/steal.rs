//! Stealing from a real app: who gets which request, whose address is seen, what is left when it ends.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use common::http::{answer, ask};
use common::{CLIENT, POD, World, in_time, until, world};
use rules::Term;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::message::{Claim, ClaimMode, ClaimState, Open, Probe, RequestBody};

const PORT: u16 = 8080;

/// Answers each request with `who`, the client's address and the request line; keeps connections alive.
fn app(world: &World) {
    let listener = world.pod.listen(&format!("0.0.0.0:{PORT}"));
    tokio::spawn(async move {
        while let Ok((socket, peer)) = listener.accept().await {
            tokio::spawn(answer(socket, format!("real {}", peer.ip())));
        }
    });
}

/// Answers stolen connections in the session's place.
fn local(mut acceptor: wire::Acceptor, who: &'static str) {
    tokio::spawn(async move {
        while let Some(opened) = acceptor.next().await {
            if let Ok((Open::Incoming(incoming), stream)) = opened {
                assert_eq!((incoming.mode, incoming.port), (ClaimMode::Steal, PORT));
                tokio::spawn(answer(stream, format!("{who} {}", incoming.client.ip())));
            }
        }
    });
}

async fn ask_once(world: &World, request: &str) -> String {
    ask(&mut world.client.connect(&format!("{POD}:{PORT}")).unwrap(), request).await
}

fn claim(header: Option<(&str, &str)>) -> Claim {
    let exact = |(name, value): (&str, &str)| Term::Is(format!("{name}={value}"));
    let probe = Probe::Http {
        port: PORT,
        path: "/healthz".to_owned(),
        headers: vec![],
    };
    Claim {
        filter: header.map(exact).into_iter().collect(),
        probes: vec![probe],
        ..common::claim(PORT, ClaimMode::Steal)
    }
}

fn rules(world: &World) -> String {
    world.pod.run(&["nft", "list", "ruleset"])
}

async fn steal(world: &World, claim: Claim, older: u32) -> (common::Session, ClaimState) {
    let mut session = common::direct(world.pod.pid).await;
    let states = session.claims(vec![claim]).await;
    assert_eq!(states, [ClaimState::Active { older }]);
    local(session.take_acceptor().await, "local");
    (session, states.into_iter().next().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_stolen_but_probes_and_older_connections() {
    let world = world();
    app(&world);
    let mut older = world.client.connect(&format!("{POD}:{PORT}")).unwrap();
    assert_eq!(
        ask(&mut older, "GET /old HTTP/1.1").await,
        format!("real {CLIENT} GET /old HTTP/1.1")
    );
    let (session, _) = steal(&world, claim(None), 1).await;
    assert_eq!(
        ask_once(&world, "GET /a HTTP/1.1").await,
        format!("local {CLIENT} GET /a HTTP/1.1")
    );
    assert_eq!(
        ask(&mut older, "GET /old HTTP/1.1").await,
        format!("real {CLIENT} GET /old HTTP/1.1")
    );
    let probe = "GET /healthz HTTP/1.1\r\nUser-Agent: kube-probe/1.34";
    assert_eq!(
        ask_once(&world, probe).await,
        format!("real {CLIENT} GET /healthz HTTP/1.1")
    );
    // From inside the pod as well.
    let mut inside = world.pod.connect(&format!("127.0.0.1:{PORT}")).unwrap();
    assert_eq!(
        ask(&mut inside, "GET /in HTTP/1.1").await,
        "local 127.0.0.1 GET /in HTTP/1.1"
    );
    // Again the same: declarative.
    assert_eq!(
        session.claims(vec![claim(None)]).await,
        [ClaimState::Active { older: 1 }]
    );

    // An orderly end: connections that are open go on, now with the real app.
    let mut open = world.client.connect(&format!("{POD}:{PORT}")).unwrap();
    assert_eq!(
        ask(&mut open, "GET /1 HTTP/1.1").await,
        format!("local {CLIENT} GET /1 HTTP/1.1")
    );
    session.call(RequestBody::Goodbye).await;
    assert_eq!(
        ask_once(&world, "GET /b HTTP/1.1").await,
        format!("real {CLIENT} GET /b HTTP/1.1")
    );
    assert_eq!(
        ask(&mut open, "GET /2 HTTP/1.1").await,
        format!("real {CLIENT} GET /2 HTTP/1.1")
    );
    assert!(
        rules(&world).contains("table inet inpod"),
        "the rules stay for the open connection"
    );
    drop((open, inside));
    until("the rules go with the last connection", async || {
        rules(&world).is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_takes_only_what_matches() {
    let world = world();
    app(&world);
    let (session, _) = steal(&world, claim(Some(("X-User", "ada"))), 0).await;
    let mut client = world.client.connect(&format!("{POD}:{PORT}")).unwrap();
    for _ in 0..3 {
        let got = ask(&mut client, "GET /a HTTP/1.1\r\nx-user: ada").await;
        assert_eq!(got, format!("local {CLIENT} GET /a HTTP/1.1"));
        let got = ask(&mut client, "GET /b HTTP/1.1\r\nX-User: bob").await;
        assert_eq!(
            got,
            format!("real {CLIENT} GET /b HTTP/1.1"),
            "with the client's own address"
        );
    }
    // What is not HTTP goes to the real app.
    let mut other = world.client.connect(&format!("{POD}:{PORT}")).unwrap();
    assert_eq!(
        ask(&mut other, "\x01\x02nonsense").await,
        format!("real {CLIENT} \x01\x02nonsense")
    );
    drop(session);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_http_reach_the_session_that_has_the_port() {
    let world = world();
    app(&world);
    let mut session = common::direct(world.pod.pid).await;
    assert_eq!(
        session.claims(vec![claim(None)]).await,
        [ClaimState::Active { older: 0 }]
    );
    let mut client = world.client.connect(&format!("{POD}:{PORT}")).unwrap();
    // The client waits: the server speaks first.
    let (open, mut stream) = in_time(session.acceptor.next()).await.unwrap().unwrap();
    let Open::Incoming(incoming) = open else {
        panic!("{open:?}")
    };
    assert_eq!(incoming.client, client.local_addr().unwrap());
    assert_eq!(incoming.server.to_string(), format!("{POD}:{PORT}"));
    stream.write_all(b"220 hello\r\n").await.unwrap();
    let mut line = [0; 11];
    in_time(client.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"220 hello\r\n");
    client.write_all(b"QUIT").await.unwrap();
    client.shutdown().await.unwrap();
    let mut all = Vec::new();
    in_time(stream.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"QUIT");
    // The app refuses the connection, or dies: the client sees a reset.
    drop(stream);
    let error = in_time(client.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// Also the second time: an app may be started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_from_before_are_closed_where_that_is_wanted() {
    let world = world();
    let listener = world.pod.listen(&format!("0.0.0.0:{PORT}"));
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            // The kernel's clock is to tell who spoke last.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            socket.write_all(b"hello").await.unwrap();
            kept.push(socket);
        }
    });
    let session = common::direct(world.pod.pid).await;
    for _ in 0..2 {
        let mut older = world.client.connect(&format!("{POD}:{PORT}")).unwrap();
        in_time(older.read_exact(&mut [0; 5])).await.unwrap();
        let wanted = Claim {
            reconnect: true,
            ..claim(None)
        };
        let states = session.claims(vec![wanted]).await;
        assert_eq!(states, [ClaimState::Active { older: 1 }]);
        let ended = in_time(older.read_u8()).await.unwrap_err();
        assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
        session.claims(vec![]).await;
        until("the packet rules' end", async || !rules(&world).contains("inpod")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_that_overlap_are_refused_naming_the_holder() {
    let world = world();
    app(&world);
    let (_session, _) = steal(&world, claim(None), 0).await;
    // Another agent in the same network namespace: the table is its lock.
    let other = common::direct(world.pod.pid).await;
    let states = other.claims(vec![claim(None)]).await;
    assert!(
        matches!(&states[..], [ClaimState::Refused(why)] if why.contains("held by another process")),
        "{states:?}"
    );
    let bad = Claim {
        filter: Term::read("re:("),
        ..claim(None)
    };
    let states = other.claims(vec![bad]).await;
    assert!(
        matches!(&states[..], [ClaimState::Refused(why)] if why.contains("regular expression")),
        "{states:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_session_or_agent_leaves_nothing() {
    let world = world();
    app(&world);
    for kill_agent in [false, true] {
        let (mut session, _) = steal(&world, claim(None), 0).await;
        let mut open = world.client.connect(&format!("{POD}:{PORT}")).unwrap();
        assert!(ask(&mut open, "GET /1 HTTP/1.1").await.starts_with("local"));
        if kill_agent {
            session.agent.start_kill().unwrap();
        } else {
            // What a killed session leaves: an end of the transport without any goodbye.
            session.link.fail(wire::LinkError::Closed);
        }
        until("the real app answers", async || {
            // Who asks at that very moment may be cut off, as the clients in flight are.
            let asked = async {
                let mut socket = world.client.connect(&format!("{POD}:{PORT}"))?;
                socket.write_all(b"GET /2 HTTP/1.1\r\n\r\n").await?;
                let mut first = [0; 60];
                let count = in_time(socket.read(&mut first)).await?;
                Ok::<_, std::io::Error>(String::from_utf8_lossy(&first[..count]).contains("real"))
            };
            asked.await.unwrap_or(false)
        })
        .await;
        if kill_agent {
            let ended = in_time(open.read(&mut [0; 1])).await;
            assert!(ended.map_or(true, |count| count == 0), "the client in flight is told");
        } else {
            assert!(
                ask(&mut open, "GET /3 HTTP/1.1").await.starts_with("real"),
                "the agent keeps the connection"
            );
            drop(open);
        }
        in_time(session.agent.wait()).await.unwrap();
        until("the rules are gone", async || rules(&world).is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_at_the_listener_is_kept_away() {
    let world = world();
    app(&world);
    let (_session, _) = steal(&world, claim(None), 0).await;
    let listening = world.pod.run(&["ss", "-Hltn"]);
    let mut ports = listening
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3)?.rsplit(':').next()?.parse::<u16>().ok());
    let own = ports.find(|port| *port != PORT).expect("the intercept listener");
    let connected = world.client.within(move || {
        let address = format!("{POD}:{own}").parse().unwrap();
        std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(300))
    });
    assert_eq!(connected.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

/// A probe is accepted before it could say anything: the kernel itself has to refuse it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tcp_probe_is_refused_while_the_real_app_does_not_listen() {
    let world = world();
    let address = format!("{POD}:{PORT}");
    let probed = |header| Claim {
        probes: vec![Probe::Tcp {
            port: PORT,
            nodes: vec![CLIENT.parse().unwrap()],
        }],
        ..claim(header)
    };
    let (session, _) = steal(&world, probed(None), 0).await;
    let refused = |world: &World| world.client.connect(&address).err().map(|error| error.kind());
    assert_eq!(refused(&world), Some(std::io::ErrorKind::ConnectionRefused));
    let states = session.claims(vec![probed(Some(("X-User", "ada")))]).await;
    assert_eq!(states, [ClaimState::Active { older: 0 }]);
    assert_eq!(refused(&world), Some(std::io::ErrorKind::ConnectionRefused));
    // Who has come through the node needs no real app.
    let mut forwarded = world
        .client
        .connect_with(&address, |socket| socket.set_ttl_v4(63))
        .unwrap();
    assert_eq!(
        ask(&mut forwarded, "GET /a HTTP/1.1\r\nX-User: ada").await,
        format!("local {CLIENT} GET /a HTTP/1.1")
    );
    app(&world);
    until("the real app takes the probe", async || refused(&world).is_none()).await;
    until("its requests are looked at again", async || {
        ask_once(&world, "GET /a HTTP/1.1\r\nX-User: ada").await == format!("local {CLIENT} GET /a HTTP/1.1")
    })
    .await;
    assert_eq!(
        ask_once(&world, "GET /b HTTP/1.1").await,
        format!("real {CLIENT} GET /b HTTP/1.1")
    );
}
