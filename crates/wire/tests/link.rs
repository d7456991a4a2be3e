//! Links over an in-memory duplex: how they begin, carry, stall and end.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;
use wire::message::{
    Bytes, Destination, Dial, Event, FileAnswer, FileOperation, FileReply, FileRequest, Open, Reply, ReplyBody,
    Request, RequestBody, ToSession,
};
use wire::{Acceptor, ControlClient, FilesClient, Hello, Link, LinkError, Stream, frame};

const DEADLINE: Duration = Duration::from_secs(60);

fn hello() -> Hello {
    Hello::new([7; 16], [9; 16], "ada@workshop")
}

async fn linked_over(size: usize) -> ((Link, Acceptor), (Link, Acceptor)) {
    let (ours, theirs) = duplex(size);
    let (session, agent) = tokio::join!(wire::connect(ours, hello()), wire::accept(theirs, |_| hello()));
    let (link, acceptor, _) = session.unwrap();
    let (agent_link, agent_acceptor, peer) = agent.unwrap();
    assert_eq!(peer, hello());
    ((link, acceptor), (agent_link, agent_acceptor))
}

fn tcp() -> Open {
    Open::Dial(Dial {
        destination: Destination::Tcp("10.0.0.1:80".parse().unwrap()),
        timeout_ms: 0,
    })
}

/// A stream's two ends.
async fn pair(link: &Link, acceptor: &mut Acceptor) -> (Stream, Stream) {
    let near = link.open(&tcp(), b"").await.unwrap();
    let (open, far) = acceptor.next().await.unwrap().unwrap();
    assert_eq!(open, tcp());
    (near, far)
}

async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future).await.expect("it took too long")
}

#[tokio::test]
async fn early_data_comes_with_the_header() {
    let ((link, _a), (_agent, mut acceptor)) = linked_over(1 << 16).await;
    let mut near = link.open(&tcp(), b"hello").await.unwrap();
    let (_, mut far) = in_time(acceptor.next()).await.unwrap().unwrap();
    let mut got = [0; 5];
    in_time(far.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"hello");
    far.write_all(b"world").await.unwrap();
    in_time(near.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"world");
}

#[tokio::test]
async fn half_close_leaves_the_other_direction_open() {
    let ((link, _a), (_agent, mut acceptor)) = linked_over(1 << 16).await;
    let (mut near, mut far) = pair(&link, &mut acceptor).await;
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut all = Vec::new();
    in_time(far.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"question");
    far.write_all(b"answer").await.unwrap();
    far.shutdown().await.unwrap();
    drop(far);
    let mut all = Vec::new();
    in_time(near.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"answer");
}

#[tokio::test]
async fn a_dropped_stream_is_a_reset_even_after_our_own_close() {
    let ((link, _a), (_agent, mut acceptor)) = linked_over(1 << 16).await;
    let (mut near, mut far) = pair(&link, &mut acceptor).await;
    near.shutdown().await.unwrap();
    far.write_all(b"half an ans").await.unwrap();
    far.flush().await.unwrap();
    drop(far);
    let mut all = Vec::new();
    let error = in_time(near.read_to_end(&mut all)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(all, b"half an ans");
}

#[tokio::test]
async fn a_reader_that_went_away_ends_the_writer() {
    let ((link, _a), (_agent, mut acceptor)) = linked_over(1 << 16).await;
    let (mut near, mut far) = pair(&link, &mut acceptor).await;
    far.shutdown().await.unwrap();
    drop(far);
    // More than any window: without the reset this would wait for ever.
    let data = vec![1; 4 << 20];
    let error = in_time(near.write_all(&data)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_stalled_stream_stalls_nothing_else() {
    let ((link, _a), (_agent, mut acceptor)) = linked_over(1 << 16).await;
    let (mut stalled, _unread) = pair(&link, &mut acceptor).await;
    let writer = tokio::spawn(async move { stalled.write_all(&vec![0; 8 << 20]).await });
    for _ in 0..20 {
        let (mut near, mut far) = pair(&link, &mut acceptor).await;
        let echo = tokio::spawn(async move {
            let (mut reader, mut writer) = far.split();
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
            far = reader.unsplit(writer);
            drop(far);
        });
        near.write_all(b"still here").await.unwrap();
        near.shutdown().await.unwrap();
        let mut all = Vec::new();
        in_time(near.read_to_end(&mut all)).await.unwrap();
        assert_eq!(all, b"still here");
        in_time(echo).await.unwrap();
    }
    assert!(!writer.is_finished(), "8 MiB that nobody reads were taken");
    writer.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_directions_of_a_tight_transport_saturated() {
    let ((link, mut session_acceptor), (agent, mut acceptor)) = linked_over(4096).await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(pump(pair(&link, &mut acceptor).await));
        tasks.push(pump(pair(&agent, &mut session_acceptor).await));
    }
    for task in tasks {
        in_time(task).await.unwrap();
    }
}

/// Sends 4 MiB each way at once and checks them.
fn pump((near, far): (Stream, Stream)) -> tokio::task::JoinHandle<()> {
    const SIZE: usize = 4 << 20;
    let mut all = Vec::new();
    for stream in [near, far] {
        let (mut reader, mut writer) = stream.split();
        all.push(tokio::spawn(async move {
            let data: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
            writer.write_all(&data).await.unwrap();
            writer.shutdown().await.unwrap();
        }));
        all.push(tokio::spawn(async move {
            let mut data = Vec::new();
            reader.read_to_end(&mut data).await.unwrap();
            assert_eq!(data.len(), SIZE);
            assert!(data.iter().enumerate().all(|(at, &byte)| byte == (at % 251) as u8));
        }));
    }
    tokio::spawn(async move {
        for task in all {
            task.await.unwrap();
        }
    })
}

#[tokio::test]
async fn written_without_flush_is_sent_by_reading() {
    let ((link, _a), (_agent, mut acceptor)) = linked_over(1 << 16).await;
    let (mut near, mut far) = pair(&link, &mut acceptor).await;
    // Eight full chunks: with the stream's header just beyond the first window, so that the last one is cut.
    let size = 8 * (32 * 1024 - 2);
    near.write_all(&vec![3; size]).await.unwrap();
    let reader = tokio::spawn(async move {
        let mut got = [0; 1];
        near.read_exact(&mut got).await.unwrap();
    });
    let mut got = vec![0; size];
    in_time(far.read_exact(&mut got)).await.unwrap();
    far.write_all(b"!").await.unwrap();
    in_time(reader).await.unwrap();
}

#[tokio::test]
async fn more_than_256_streams_that_never_answer() {
    let ((link, _a), (_agent, mut acceptor)) = linked_over(1 << 16).await;
    let mut held = Vec::new();
    for _ in 0..1000 {
        held.push(in_time(link.open(&tcp(), b"x")).await.unwrap());
        held.push(in_time(acceptor.next()).await.unwrap().unwrap().1);
    }
}

#[tokio::test]
async fn a_lost_transport_ends_streams_with_an_error_and_says_why() {
    let (ours, theirs) = duplex(1 << 16);
    let (mut cut, agent_side) = duplex(1 << 16);
    let relay = tokio::spawn(async move {
        let mut theirs = theirs;
        let _ = tokio::io::copy_bidirectional(&mut theirs, &mut cut).await;
    });
    let (session, agent) = tokio::join!(wire::connect(ours, hello()), wire::accept(agent_side, |_| hello()));
    let (link, _acceptor, _) = session.unwrap();
    let (agent_link, mut agent_acceptor, _) = agent.unwrap();
    let (mut near, mut far) = pair(&link, &mut agent_acceptor).await;
    near.shutdown().await.unwrap();
    let mut all = Vec::new();
    in_time(far.read_to_end(&mut all)).await.unwrap();
    relay.abort();
    let reason = in_time(link.closed()).await;
    assert!(matches!(reason, LinkError::Closed | LinkError::Io { .. }), "{reason:?}");
    in_time(agent_link.closed()).await;
    let mut all = Vec::new();
    assert!(
        in_time(near.read_to_end(&mut all)).await.is_err(),
        "a cut link is no end of a stream"
    );
    assert!(
        in_time(far.read_to_end(&mut all)).await.is_ok(),
        "what was sent before the cut was sent"
    );
    assert!(in_time(far.write_all(b"x")).await.is_err());
    assert!(link.open(&tcp(), b"").await.is_err());
    assert!(in_time(agent_acceptor.next()).await.is_none());
}

#[tokio::test]
async fn closing_writes_what_was_handed_over() {
    let ((link, _a), (agent, mut acceptor)) = linked_over(1 << 10).await;
    let (mut near, mut far) = pair(&link, &mut acceptor).await;
    near.write_all(&vec![5; 100_000]).await.unwrap();
    near.shutdown().await.unwrap();
    link.close();
    let mut all = Vec::new();
    in_time(far.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all.len(), 100_000);
    assert!(matches!(in_time(agent.closed()).await, LinkError::Closed));
    assert!(matches!(in_time(link.closed()).await, LinkError::ClosedHere));
}

#[tokio::test]
async fn a_link_that_nobody_holds_closes() {
    let ((link, acceptor), (agent, _agent_acceptor)) = linked_over(1 << 16).await;
    drop((link, acceptor));
    assert!(matches!(in_time(agent.closed()).await, LinkError::Closed));
}

#[tokio::test]
async fn versions_without_overlap_are_an_error_on_both_ends() {
    let (ours, theirs) = duplex(1 << 16);
    let newer = Hello {
        versions: (8, 9),
        build: "9.9.9".to_owned(),
        ..hello()
    };
    let (session, agent) = tokio::join!(wire::connect(ours, newer), wire::accept(theirs, |_| hello()));
    let session = session.unwrap_err().to_string();
    assert!(
        session.contains("versions 8 to 9") && session.contains("version 1"),
        "{session}"
    );
    let agent = agent.unwrap_err().to_string();
    assert!(agent.contains("9.9.9") && agent.contains("versions 8 to 9"), "{agent}");
}

async fn stranger(bytes: &'static [u8]) -> LinkError {
    let (ours, mut theirs) = duplex(1 << 16);
    theirs.write_all(bytes).await.unwrap();
    theirs.shutdown().await.unwrap();
    let error = in_time(wire::connect(ours, hello())).await.unwrap_err();
    drop::<DuplexStream>(theirs);
    error
}

#[tokio::test]
async fn a_stranger_is_quoted() {
    let error = stranger(b"sh: /tmp/agent: not found\n").await.to_string();
    assert!(
        error.contains("not an inpod agent") && error.contains("/tmp/agent: not found"),
        "{error}"
    );
    let error = stranger(b"in").await.to_string();
    assert!(error.contains("it said: in"), "{error}");
    assert!(matches!(stranger(b"").await, LinkError::Ended { .. }));
    assert!(matches!(
        stranger(b"inpod\x00\x01\n\xff\xff\xff\xff").await,
        LinkError::TooLong { .. }
    ));
    assert!(matches!(
        stranger(b"inpod\x00\x01\n\x00\x00\x00\x02\x01\x01").await,
        LinkError::Decode { .. }
    ));
    assert!(matches!(
        stranger(b"inpod\x00\x01\n\x00\x00\x00\x09\x01").await,
        LinkError::Ended { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn silence_says_what_was_waited_for() {
    let (ours, _theirs) = duplex(1 << 16);
    let error = wire::connect(ours, hello()).await.unwrap_err();
    assert_eq!(error.to_string(), "waited 15 s for the agent's hello");
    let (_ours, theirs) = duplex(1 << 16);
    let error = wire::accept(theirs, |_| hello()).await.unwrap_err();
    assert_eq!(error.to_string(), "waited 15 s for the session's hello");
}

#[tokio::test]
async fn an_oversized_message_is_refused_before_it_is_read() {
    let ((link, _a), (_agent, mut acceptor)) = linked_over(1 << 16).await;
    let (mut near, mut far) = pair(&link, &mut acceptor).await;
    near.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    let error = in_time(frame::read_message::<Request, _>(&mut far)).await.unwrap_err();
    assert!(matches!(error, LinkError::TooLong { .. }), "{error}");
    let large = FileRequest {
        id: 1,
        body: FileOperation::ReadLink(Bytes(vec![0; 2 << 20])),
    };
    assert!(matches!(
        frame::write_message(&mut near, &large).await,
        Err(LinkError::TooLong { .. })
    ));
}

#[tokio::test]
async fn calls_are_answered_in_any_order_and_events_pass() {
    let ((link, _a), (_agent, mut acceptor)) = linked_over(1 << 16).await;
    let (client, mut events) = ControlClient::new(link.open(&Open::Control, b"").await.unwrap());
    let (_, mut far) = in_time(acceptor.next()).await.unwrap().unwrap();
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.call(RequestBody::Env).await }
    });
    let env: Request = in_time(frame::read_message(&mut far)).await.unwrap();
    let second = tokio::spawn({
        let client = client.clone();
        async move { client.call(RequestBody::Goodbye).await }
    });
    let goodbye: Request = in_time(frame::read_message(&mut far)).await.unwrap();
    assert_eq!((&env.body, &goodbye.body), (&RequestBody::Env, &RequestBody::Goodbye));
    let event = ToSession::Event(Event::Warning("careful".to_owned()));
    frame::write_message(&mut far, &event).await.unwrap();
    for (id, body) in [(goodbye.id, ReplyBody::Pong), (env.id, ReplyBody::Env(vec![]))] {
        frame::write_message(&mut far, &ToSession::Reply(Reply { id, body }))
            .await
            .unwrap();
    }
    assert_eq!(in_time(second).await.unwrap().unwrap(), ReplyBody::Pong);
    assert_eq!(in_time(first).await.unwrap().unwrap(), ReplyBody::Env(vec![]));
    assert_eq!(in_time(events.recv()).await, Some(Event::Warning("careful".to_owned())));
}

#[tokio::test]
async fn a_lost_link_fails_pending_calls_with_the_reason() {
    let ((link, _a), (agent, mut acceptor)) = linked_over(1 << 16).await;
    let client = FilesClient::open(&link).await.unwrap();
    let (_, mut far) = in_time(acceptor.next()).await.unwrap().unwrap();
    let done = client.call(FileOperation::StatFs);
    let answer = async {
        let request: FileRequest = frame::read_message(&mut far).await.unwrap();
        frame::write_message(
            &mut far,
            &FileReply {
                id: request.id,
                body: FileAnswer::Closed,
            },
        )
        .await
        .unwrap();
    };
    assert_eq!(
        in_time(async { tokio::join!(done, answer) }).await.0.unwrap(),
        FileAnswer::Closed
    );
    let pending = tokio::spawn({
        let client = client.clone();
        async move { client.call(FileOperation::StatFs).await }
    });
    let _: FileRequest = in_time(frame::read_message(&mut far)).await.unwrap();
    agent.close();
    assert!(matches!(in_time(pending).await.unwrap(), Err(LinkError::Closed)));
    assert!(matches!(
        client.call(FileOperation::StatFs).await,
        Err(LinkError::Closed)
    ));
}

#[tokio::test(start_paused = true)]
async fn unanswered_heartbeats_end_the_link() {
    let ((link, _a), (_agent, mut acceptor)) = linked_over(1 << 16).await;
    let (_client, _events) = ControlClient::new(link.open(&Open::Control, b"").await.unwrap());
    let (_, _silent) = acceptor.next().await.unwrap().unwrap();
    let start = tokio::time::Instant::now();
    let reason = link.closed().await;
    assert_eq!(reason.to_string(), "waited 15 s for the agent's answer to a heartbeat");
    assert!(start.elapsed() < Duration::from_secs(21), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn answered_heartbeats_keep_both_ends_up() {
    let ((link, _a), (agent, mut acceptor)) = linked_over(1 << 16).await;
    let (client, _events) = ControlClient::new(link.open(&Open::Control, b"").await.unwrap());
    let (_, mut far) = acceptor.next().await.unwrap().unwrap();
    agent.expect_life("the session", wire::control::SILENCE);
    let server = tokio::spawn(async move {
        let mut answered = 0;
        while let Ok(Some(request)) = frame::next_message::<Request, _>(&mut far).await {
            let reply = Reply {
                id: request.id,
                body: ReplyBody::Pong,
            };
            frame::write_message(&mut far, &ToSession::Reply(reply)).await.unwrap();
            answered += 1;
        }
        answered
    });
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(link.reason().is_none() && agent.reason().is_none());
    drop((client, link, _a));
    let answered: u32 = server.await.unwrap();
    assert!((55..=61).contains(&answered), "{answered} heartbeats in 300 s");
}

#[tokio::test(start_paused = true)]
async fn the_agent_notices_a_dead_transport() {
    let ((_link, _a), (agent, _acceptor)) = linked_over(1 << 16).await;
    agent.expect_life("the session's heartbeat", wire::control::SILENCE);
    assert_eq!(
        agent.closed().await.to_string(),
        "waited 15 s for the session's heartbeat"
    );
}

#[tokio::test]
async fn datagrams_keep_their_borders() {
    let ((link, _a), (_agent, mut acceptor)) = linked_over(1 << 16).await;
    let (mut near, mut far) = pair(&link, &mut acceptor).await;
    let datagrams: [Vec<u8>; 4] = [b"one".to_vec(), vec![], vec![7; 65_535], b"last".to_vec()];
    let sent = datagrams.clone();
    let writer = tokio::spawn(async move {
        let mut scratch = Vec::new();
        for datagram in &sent {
            wire::datagram::write(&mut near, datagram, &mut scratch).await.unwrap();
        }
        assert!(
            wire::datagram::write(&mut near, &[0; 65_536], &mut scratch)
                .await
                .is_err()
        );
        near.shutdown().await.unwrap();
        near
    });
    let mut datagram = Vec::new();
    for expected in &datagrams {
        assert!(in_time(wire::datagram::read(&mut far, &mut datagram)).await.unwrap());
        assert_eq!(&datagram, expected);
    }
    assert!(!in_time(wire::datagram::read(&mut far, &mut datagram)).await.unwrap());
    in_time(writer).await.unwrap();
}

/// Sanity, not a benchmark: a window that does not grow would give 256 KiB a round trip, 2.5 MB/s here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_fills_a_distant_transport() {
    let (ours, near_end) = duplex(1 << 20);
    let (far_end, theirs) = duplex(1 << 20);
    delayed(near_end, far_end, Duration::from_millis(50));
    let (session, agent) = tokio::join!(wire::connect(ours, hello()), wire::accept(theirs, |_| hello()));
    let (link, _a, _) = session.unwrap();
    let (_agent, mut acceptor, _) = agent.unwrap();
    let (mut near, mut far) = pair(&link, &mut acceptor).await;
    let size = 96 << 20;
    let writer = tokio::spawn(async move {
        let chunk = vec![0; 1 << 20];
        for _ in 0..size >> 20 {
            near.write_all(&chunk).await.unwrap();
        }
        near.shutdown().await.unwrap();
        near
    });
    let start = Instant::now();
    let mut buffer = vec![0; 1 << 17];
    let mut total = 0;
    loop {
        let count = in_time(far.read(&mut buffer)).await.unwrap();
        if count == 0 {
            break;
        }
        total += count;
    }
    assert_eq!(total, size);
    let rate = size as f64 / 1e6 / start.elapsed().as_secs_f64();
    println!("one stream at 100 ms: {rate:.0} MB/s");
    assert!(rate > 25.0, "one stream at 100 ms carries {rate:.1} MB/s");
    drop(writer.await.unwrap());
}

/// Joins two transports with a delay each way; as much as arrives is under way.
fn delayed(a: DuplexStream, b: DuplexStream, delay: Duration) {
    let (a_read, a_write) = tokio::io::split(a);
    let (b_read, b_write) = tokio::io::split(b);
    for (mut from, mut to) in [(a_read, b_write), (b_read, a_write)] {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(count @ 1..) = from.read(&mut buffer).await {
                let _ = sender.send((tokio::time::Instant::now() + delay, buffer[..count].to_vec()));
            }
        });
        tokio::spawn(async move {
            while let Some((due, bytes)) = receiver.recv().await {
                tokio::time::sleep_until(due).await;
                if to.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        });
    }
}
