//! What an agent tells of its sessions, what it has counted for them, and how one ends another.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{POD, Session, World, attach, in_time, serve, until, world};
use rules::Term;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::Hello;
use wire::hello::feature;
use wire::message::{Claim, ClaimMode, ClaimState, Counts, Event, Open, Probe, ReplyBody, RequestBody, SessionEntry};

const PORT: u16 = 8080;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Answers whatever comes with [`ANSWER`].
async fn answer(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {
        if stream.write_all(ANSWER).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

fn app(world: &World) {
    let listener = world.pod.listen(&format!("0.0.0.0:{PORT}"));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket));
        }
    });
}

/// An app in a pod, and an agent that serves there.
struct Stage {
    world: World,
    socket: PathBuf,
    _place: tempfile::TempDir,
    _agent: tokio::process::Child,
}

async fn stage() -> Stage {
    let world = world();
    app(&world);
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    Stage {
        _agent: serve(&world, &socket, "60").await,
        world,
        socket,
        _place: place,
    }
}

/// The session's app.
fn local(acceptor: wire::Acceptor) {
    let mut acceptor = acceptor;
    tokio::spawn(async move {
        while let Some(Ok((Open::Incoming(_), stream))) = acceptor.next().await {
            tokio::spawn(answer(stream));
        }
    });
}

/// Says it, and waits for all answers.
async fn ask(world: &World, said: &str) {
    let mut socket = world.client.connect(&format!("{POD}:{PORT}")).unwrap();
    socket.write_all(said.as_bytes()).await.unwrap();
    let requests = said.matches("\r\n\r\n").count().max(1);
    in_time(socket.read_exact(&mut vec![0; ANSWER.len() * requests]))
        .await
        .unwrap();
}

fn request(user: &str) -> String {
    format!("GET / HTTP/1.1\r\nX-User: {user}\r\n\r\n")
}

fn claim(mode: ClaimMode, user: Option<&str>) -> Claim {
    let exact = |value: &str| Term::Is(format!("X-User={value}"));
    Claim {
        filter: user.map(exact).into_iter().collect(),
        probes: vec![Probe::Tcp {
            port: PORT,
            nodes: Vec::new(),
        }],
        ..common::claim(PORT, mode)
    }
}

async fn hold(session: &Session, claims: Vec<Claim>) {
    let count = claims.len();
    assert_eq!(
        session.claims(claims).await,
        vec![ClaimState::Active { older: 0 }; count]
    );
}

/// Who has an answer is listed.
async fn attached(socket: &Path, owner: &str) -> Session {
    let session = attach(socket, owner).await;
    assert_eq!(session.call(RequestBody::Ping).await, ReplyBody::Pong);
    session
}

async fn visitor(socket: &Path) -> Session {
    let hello = Hello {
        features: feature::VISITOR,
        ..common::hello("eve@elsewhere")
    };
    common::linked(common::attach_command(socket), hello).await
}

async fn list(visitor: &Session) -> Vec<SessionEntry> {
    match visitor.call(RequestBody::Sessions).await {
        ReplyBody::Sessions(entries) => entries,
        other => panic!("{other:?}"),
    }
}

fn counts(entry: &SessionEntry) -> Vec<(u16, ClaimMode, Option<&str>, Counts)> {
    let claims = entry.claims.iter();
    claims
        .map(|claim| (claim.port, claim.mode, claim.filter.as_deref(), claim.counts))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_what_and_what_came_to_it() {
    let Stage { world, socket, .. } = &stage().await;
    let visitor = visitor(socket).await;
    assert_eq!(list(&visitor).await, []);

    let mut ada = attached(socket, "ada").await;
    let mut bob = attached(socket, "bob").await;
    let nothing = list(&visitor).await;
    let owners: Vec<&str> = nothing.iter().map(|entry| entry.owner.as_str()).collect();
    assert_eq!(owners, ["ada", "bob"], "the visitor is not among them");
    assert!(nothing.iter().all(|entry| entry.claims.is_empty()));

    hold(&ada, vec![claim(ClaimMode::Steal, Some("ada"))]).await;
    hold(&bob, vec![claim(ClaimMode::Steal, Some("bob"))]).await;
    local(std::mem::replace(&mut ada.acceptor, visitor_acceptor(socket).await));
    local(std::mem::replace(&mut bob.acceptor, visitor_acceptor(socket).await));
    for user in ["ada", "ada", "bob", "eve", "eve", "eve"] {
        ask(world, &request(user)).await;
    }
    // What is not HTTP is one connection, and the real app's.
    ask(world, "\x01\x02nonsense").await;
    // Several requests of one connection are several.
    ask(world, &[request("ada"), request("bob")].concat()).await;
    let of = |matched, passed| Counts {
        seen: 9,
        matched,
        passed,
        ..Counts::default()
    };
    until("all is counted", async || {
        list(&visitor)
            .await
            .iter()
            .all(|entry| entry.claims[0].counts.seen == 9)
    })
    .await;
    let entries = list(&visitor).await;
    assert_eq!(
        counts(&entries[0]),
        [(PORT, ClaimMode::Steal, Some("X-User=ada"), of(3, 4))]
    );
    assert_eq!(
        counts(&entries[1]),
        [(PORT, ClaimMode::Steal, Some("X-User=bob"), of(2, 4))]
    );

    // What was the other's is the real app's when he has left.
    ada.link.close();
    until("ada has left", async || list(&visitor).await.len() == 1).await;
    ask(world, &request("ada")).await;
    let entries = list(&visitor).await;
    assert_eq!(counts(&entries[0])[0].3, Counts { seen: 10, ..of(2, 5) });
    assert!(entries[0].age_ms < 60_000);
}

/// Something to leave in the place of what is taken.
async fn visitor_acceptor(socket: &Path) -> wire::Acceptor {
    visitor(socket).await.acceptor
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_ports_count_connections() {
    let Stage { world, socket, .. } = &stage().await;
    let mut ada = attached(socket, "ada").await;
    let bob = attached(socket, "bob").await;
    hold(&ada, vec![claim(ClaimMode::Steal, None)]).await;
    hold(&bob, vec![claim(ClaimMode::Mirror, None)]).await;
    local(std::mem::replace(&mut ada.acceptor, visitor_acceptor(socket).await));
    ask(world, "\x01\x02nonsense").await;
    ask(world, &request("ada")).await;
    ask(world, &[request("ada"), request("ada")].concat()).await;
    // As a TCP probe does, which is the real app's alone.
    let probe = world.client.connect(&format!("{POD}:{PORT}")).unwrap();
    drop(probe);
    until("all is counted", async || {
        let entries = list(&bob).await;
        entries[0].claims[0].counts.seen == 5 && entries[1].claims[0].counts.seen == 4
    })
    .await;
    let entries = list(&bob).await;
    let stolen = Counts {
        seen: 5,
        matched: 4,
        passed: 1,
        ..Counts::default()
    };
    assert_eq!(counts(&entries[0]), [(PORT, ClaimMode::Steal, None, stolen)]);
    let mirrored = Counts {
        seen: 4,
        mirrored: 3,
        ..Counts::default()
    };
    assert_eq!(counts(&entries[1]), [(PORT, ClaimMode::Mirror, None, mirrored)]);

    // A claim that ends and comes again goes on counting.
    hold(&bob, vec![]).await;
    assert!(list(&bob).await[1].claims.is_empty());
    hold(&bob, vec![claim(ClaimMode::Mirror, Some("ada"))]).await;
    ask(world, &[request("bob"), request("ada"), request("bob")].concat()).await;
    let filtered = Counts {
        seen: 7,
        mirrored: 4,
        ..Counts::default()
    };
    until("the requests are counted", async || {
        counts(&list(&bob).await[1]) == [(PORT, ClaimMode::Mirror, Some("X-User=ada"), filtered)]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_stopped_and_the_others_see_nothing() {
    let Stage { world, socket, .. } = &stage().await;
    let mut ada = attached(socket, "ada").await;
    let mut bob = attached(socket, "bob").await;
    for (session, user) in [(&ada, "ada"), (&bob, "bob")] {
        hold(session, vec![claim(ClaimMode::Steal, Some(user))]).await;
    }
    let visitor = visitor(socket).await;
    assert!(matches!(
        visitor.call(RequestBody::StopSession([9; 16])).await,
        ReplyBody::Failed(_)
    ));
    let name = list(&visitor).await[0].session;

    // It does not end by itself, so its link is closed; what it claims meanwhile it does not get.
    let stopping = visitor.call(RequestBody::StopSession(name));
    let told = async {
        let by = match in_time(ada.events.recv()).await {
            Some(Event::Stopped { by }) => by,
            other => panic!("{other:?}"),
        };
        let states = ada
            .call(RequestBody::Claims(vec![claim(ClaimMode::Steal, Some("ada"))]))
            .await;
        assert!(
            matches!(&states, ReplyBody::Claims(states) if matches!(states[..], [ClaimState::Refused(_)])),
            "{states:?}"
        );
        by
    };
    let (reply, by) = tokio::join!(stopping, told);
    assert_eq!((reply, by.as_str()), (ReplyBody::Stopped, "eve@elsewhere"));
    in_time(ada.link.closed()).await;
    assert!(in_time(ada.agent.wait()).await.unwrap().success());

    let entries = list(&visitor).await;
    assert_eq!((entries.len(), entries[0].owner.as_str()), (1, "bob"));
    ask(world, &request("ada")).await;
    let stream = {
        tokio::spawn({
            let mut socket = world.client.connect(&format!("{POD}:{PORT}")).unwrap();
            async move {
                socket.write_all(request("bob").as_bytes()).await.unwrap();
                in_time(socket.read_exact(&mut [0; ANSWER.len()])).await.unwrap();
            }
        });
        let opened = in_time(bob.acceptor.next()).await.unwrap().unwrap();
        opened.1
    };
    drop(stream);
    assert!(bob.events.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_do_not_keep_an_agent() {
    let world = world();
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let mut agent = serve(&world, &socket, "1").await;
    let mut ada = attached(&socket, "ada").await;
    drop((ada.link, ada.control, ada.acceptor));
    assert!(in_time(ada.agent.wait()).await.unwrap().success());
    let begin = Instant::now();
    let mut visits = 0;
    while agent.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < common::DEADLINE, "{visits} visitors have kept it");
        // It may end at any moment.
        let mut command = common::attach_command(&socket);
        let mut attach = command.spawn().unwrap();
        let stdio = tokio::io::join(attach.stdout.take().unwrap(), attach.stdin.take().unwrap());
        let hello = Hello {
            features: feature::VISITOR,
            ..common::hello("eve")
        };
        let linked = in_time(wire::connect(stdio, hello)).await;
        visits += usize::from(linked.is_ok());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(visits > 1 && begin.elapsed() >= Duration::from_millis(700), "{visits}");
}
