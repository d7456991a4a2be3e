//! Large bodies, many connections, both families, byte for byte.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use capture::Closed;

use crate::recorder::*;
use crate::world::*;

const CONNECTIONS: usize = 24;
/// Bytes that are sent before they are read from the ring, by all clients together: a veth pair is faster than any
/// network, and the reader of a busy machine may not run for a while.
const AHEAD: usize = 4 << 20;

fn length(number: usize) -> usize {
    // From a few bytes to several MB.
    [17, 3_000, 65_536, 700_001, 4_000_000, 9_000_003][number % 6]
}

#[test]
fn every_byte_of_many_large_uploads_arrives_in_order() {
    let world = World::new();
    let listener = world.pod.within(|| listen(APP));
    let mut recorder = Recorder::open(&world.pod, &config());
    let (sent, read) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..CONNECTIONS {
                let (mut stream, _) = listener.accept().unwrap();
                scope.spawn(move || {
                    // Echoes, so that the other direction is as busy.
                    std::io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap();
                });
            }
        });
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let (world, sent, read) = (&world, &sent, &read);
                scope.spawn(move || {
                    world.peer.enter();
                    let mut stream = connect(address(POD[number % 2], APP));
                    let body = noise(number, length(number));
                    let mut reader = stream.try_clone().unwrap();
                    let echo = std::thread::spawn(move || {
                        let mut back = Vec::new();
                        reader.read_to_end(&mut back).unwrap();
                        back
                    });
                    let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
                    for chunk in body.chunks(64 * 1024) {
                        sent.fetch_add(chunk.len(), Relaxed);
                        stream.write_all(chunk).unwrap();
                        let since = Instant::now();
                        while sent.load(Relaxed) > read.load(Relaxed) + AHEAD {
                            assert!(since.elapsed() < PATIENCE, "the ring's reader is behind");
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                    stream.shutdown(Shutdown::Write).unwrap();
                    assert!(echo.join().unwrap() == body);
                    (local, remote, body)
                })
            })
            .collect();
        recorder.until("all connections", |it| {
            read.store(it.seen.values().map(|seen| seen.bytes.len()).sum(), Relaxed);
            it.closed() == CONNECTIONS
        });
        for client in clients {
            let (client, server, body) = client.join().unwrap();
            let seen = recorder
                .seen
                .values()
                .find(|seen| seen.client == client)
                .expect("captured");
            assert_eq!((seen.server, seen.closed), (server, Some(Closed::Finished)));
            assert!(
                seen.bytes == body,
                "{client}: {} of {} bytes",
                seen.bytes.len(),
                body.len()
            );
        }
    });
    let total: usize = (0..CONNECTIONS).map(length).sum();
    let stats = recorder.stats();
    println!("{stats:?}");
    assert_eq!((stats.delivered, stats.finished), (total as u64, CONNECTIONS as u64));
    assert_eq!((stats.dropped_kernel, stats.older, stats.unusable), (0, 0, 0));
    // Without merged frames there would be one for each 1448 bytes, and this test would not show what it should.
    assert!(
        stats.seen * 1448 < stats.delivered,
        "{} frames for {} bytes",
        stats.seen,
        stats.delivered
    );
}

#[test]
fn under_overload_connections_are_whole_or_dropped() {
    let world = World::new();
    let listener = world.pod.within(|| listen(APP));
    let config = capture::Config {
        ring_bytes: 1 << 20,
        gap_timeout: Duration::from_millis(500),
        ..config()
    };
    let mut recorder = Recorder::open(&world.pod, &config);
    let mut bodies = Vec::new();
    let mut send = |recorder: &mut Recorder, number: usize, length: usize, read: bool| {
        let body = noise(number, length);
        std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                assert_eq!(std::io::copy(&mut stream, &mut std::io::sink()).unwrap(), length as u64);
                stream
            });
            let mut stream = world.peer.within(|| connect(address(POD[0], APP)));
            // The first half while somebody reads, so that the connection is known; then maybe nobody does.
            stream.write_all(&body[..1000]).unwrap();
            let local = stream.local_addr().unwrap();
            recorder.until("the connection", |it| it.seen.values().any(|seen| seen.client == local));
            stream.write_all(&body[1000..]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            // The server's end comes when there is room in the ring again, and tells what it has received.
            let stream = server.join().unwrap();
            recorder.settle();
            drop(stream);
            if read {
                recorder.until("its end", |it| {
                    it.seen
                        .values()
                        .any(|seen| seen.client == local && seen.closed.is_some())
                });
            }
            bodies.push((local, body));
        });
    };
    send(&mut recorder, 1, 500_000, true);
    // 20 MB into a ring of 1 MB that nobody reads: held by neither, and the server is not slowed down.
    send(&mut recorder, 2, 20_000_000, false);
    // The ring has lost its last segments: that the server has seen more shows it.
    recorder.until("the end of the second", |it| it.closed() == 2);
    // What comes after is whole again.
    send(&mut recorder, 3, 500_000, true);
    for (client, body) in &bodies {
        let seen = recorder
            .seen
            .values()
            .find(|seen| seen.client == *client)
            .expect("captured");
        assert!(body.starts_with(&seen.bytes), "what is given is a prefix");
        assert_eq!(seen.closed == Some(Closed::Finished), seen.bytes.len() == body.len());
    }
    let stats = recorder.stats();
    println!("{stats:?}");
    assert_eq!(
        (stats.finished, stats.dropped_gap + stats.dropped_overload),
        (2, 1),
        "the second was dropped as a whole"
    );
    assert!(stats.dropped_kernel > 0);
}
