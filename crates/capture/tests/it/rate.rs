//! Requests at a steady rate, none lost. `CAPTURE_TEST_SECONDS` makes it longer than the usual 4.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use capture::Closed;

use crate::recorder::*;
use crate::world::*;

const CLIENTS: usize = 10;
const PER_SECOND: usize = 500;

fn seconds() -> usize {
    std::env::var("CAPTURE_TEST_SECONDS").map_or(4, |text| text.parse().unwrap())
}

fn request(number: usize) -> Vec<u8> {
    let body = noise(number, (number * 37) % 20_000);
    let head = format!(
        "POST /{number} HTTP/1.1\r\nHost: app\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// Reads one request; false at the end of the connection.
fn read_request(stream: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = std::str::from_utf8(&bytes[..head]).unwrap();
            let length: usize = text.rsplit(' ').next().unwrap().parse().unwrap();
            if bytes.len() == head + 4 + length {
                return true;
            }
        }
        match stream.read(&mut buffer).unwrap() {
            0 => return false,
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

fn serve(listener: &std::net::TcpListener) {
    for _ in 0..CLIENTS {
        let listener = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                std::thread::spawn(move || {
                    while read_request(&mut stream) {
                        stream
                            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                            .unwrap();
                    }
                });
            }
        });
    }
}

/// Half of the clients open a connection for each request, the others keep theirs for 50. What each connection sent.
fn client(number: usize, start: Instant, requests: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut sent = Vec::new();
    let mut open: Option<TcpStream> = None;
    for index in 0..requests {
        let due = start + Duration::from_secs(1) * u32::try_from(index * CLIENTS + number).unwrap() / PER_SECOND as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let keep = if number.is_multiple_of(2) { 1 } else { 50 };
        if index % keep == 0 {
            open = None;
        }
        let stream = open.get_or_insert_with(|| {
            let stream = connect(address(POD[number / 2 % 2], APP));
            sent.push((stream.local_addr().unwrap(), Vec::new()));
            stream
        });
        let bytes = request(index * CLIENTS + number);
        stream.write_all(&bytes).unwrap();
        let mut answer = [0; 40];
        stream.read_exact(&mut answer).unwrap();
        sent.last_mut().unwrap().1.extend(bytes);
    }
    sent
}

#[test]
fn requests_at_500_a_second_are_all_mirrored() {
    let world = World::new();
    let listener = world.pod.within(|| listen(APP));
    serve(&listener);
    let mut recorder = Recorder::open(&world.pod, &config());
    let requests = PER_SECOND * seconds() / CLIENTS;
    let start = Instant::now();
    let sent: Vec<_> = std::thread::scope(|scope| {
        let world = &world;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn(move || {
                    world.peer.enter();
                    client(number, start, requests)
                })
            })
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            recorder.step();
        }
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let took = start.elapsed();
    recorder.until("all connections", |it| it.closed() == sent.len());
    let stats = recorder.stats();
    println!(
        "{} requests, {} connections in {took:?}: {stats:?}",
        requests * CLIENTS,
        sent.len()
    );
    // A client's port may come again: then its connections are in order.
    let mut seen: HashMap<SocketAddr, Vec<_>> = HashMap::new();
    for connection in recorder.seen.into_values() {
        assert_eq!(connection.closed, Some(Closed::Finished), "{}", connection.client);
        seen.entry(connection.client).or_default().push(connection.bytes);
    }
    for (client, bytes) in sent {
        let connections = seen.get_mut(&client).expect("captured");
        let found = connections
            .iter()
            .position(|candidate| *candidate == bytes)
            .expect("byte for byte");
        connections.remove(found);
    }
    assert!(seen.values().all(Vec::is_empty), "more was captured than sent");
    assert_eq!((stats.dropped_kernel, stats.older), (0, 0));
}
