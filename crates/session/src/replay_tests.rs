//! Copies of a client's bytes, played to a real HTTP/2 server.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Response, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

/// What reached the app: path and length of the body, or why it had no end.
type Seen = Vec<(String, Result<usize, Reason>)>;

struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Takes so many bytes of a stream before it reads on, and so many streams at a time; answers with 1 MiB.
    async fn start(window: u32, streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::new()));
        let told = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let mut builder = h2::server::Builder::new();
                builder
                    .initial_window_size(window)
                    .max_concurrent_streams(streams)
                    .data_frame_budget(DATA_FRAMES);
                let told = Arc::clone(&told);
                connections.spawn(async move {
                    let mut connection = builder.handshake::<_, Bytes>(socket).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let told = Arc::clone(&told);
                        tokio::spawn(async move {
                            let path = request.uri().path().to_owned();
                            let ok = Response::builder().status(StatusCode::OK).body(()).unwrap();
                            let mut answer = respond.send_response(ok, false).unwrap();
                            answer.send_data(Bytes::from(vec![b'a'; 1 << 20]), true).unwrap();
                            let mut body = request.into_body();
                            let mut length = 0;
                            let end = loop {
                                match body.data().await {
                                    None => break Ok(length),
                                    Some(Ok(data)) => {
                                        length += data.len();
                                        body.flow_control().release_capacity(data.len()).unwrap();
                                    }
                                    Some(Err(error)) => break Err(error.reason().unwrap()),
                                }
                            };
                            told.lock().unwrap().push((path, end));
                        });
                    }
                });
            }
        });
        Self { address, seen, task }
    }

    async fn seen(&self, count: usize) -> Seen {
        let begun = std::time::Instant::now();
        loop {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{:?}",
                self.seen.lock().unwrap()
            );
            let mut seen = self.seen.lock().unwrap().clone();
            if seen.len() >= count {
                seen.sort_by(|a, b| a.0.cmp(&b.0));
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// A client's bytes, made by a client that takes a server of wide windows for granted.
#[derive(Default)]
struct Client(Vec<u8>);

impl Client {
    fn new() -> Self {
        let mut client = Self(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec());
        client.frame(4, 0, 0, &[]);
        client
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0
            .extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
        self.0.extend_from_slice(&[kind, flags]);
        self.0.extend_from_slice(&stream.to_be_bytes());
        self.0.extend_from_slice(payload);
    }

    fn post(&mut self, stream: u32, path: &str, end: bool) {
        // `:method POST`, `:scheme http`, `:authority a`, and `:path` (RFC 7541 section 6.2.2).
        let block = [
            &b"\x83\x86\x01\x01a\x04"[..],
            &[u8::try_from(path.len()).unwrap()],
            path.as_bytes(),
        ]
        .concat();
        self.frame(1, 4 | u8::from(end), stream, &block);
    }
}

async fn played(client: &Client, app: SocketAddr) -> u64 {
    let (first, rest) = client.0.split_at(30);
    played_to(first, rest, &app).await
}

/// How many requests were lost.
async fn played_to(first: &[u8], copy: impl AsyncRead + Unpin, app: &impl App) -> u64 {
    let count = AtomicU64::new(0);
    let lost = |_: &str| {
        count.fetch_add(1, Ordering::Relaxed);
    };
    replay(first, copy, app, &lost).await.unwrap();
    count.into_inner()
}

#[tokio::test]
async fn what_the_app_allows_is_kept_to() {
    for (window, streams) in [(1, 100), (1000, 1), (65_535, 100)] {
        let server = Server::start(window, streams).await;
        let mut client = Client::new();
        client.post(1, "/a", false);
        client.post(3, "/b", true);
        client.post(5, "/c", false);
        let long = if window == 1 { 50 } else { 300_000 };
        client.frame(0, 0, 5, &vec![b'x'; long]);
        client.frame(0, 1, 1, b"abc");
        client.frame(0, 1, 5, b"end");
        // The client's business with the real app.
        client.frame(8, 0, 0, &[0, 0, 0, 9]);
        client.frame(4, 1, 0, &[]);
        client.frame(6, 1, 0, &[0; 8]);
        assert_eq!(played(&client, server.address).await, 0);
        let expect = [("/a", 3), ("/b", 0), ("/c", long + 3)].map(|(path, length)| (path.to_owned(), Ok(length)));
        assert_eq!(server.seen(3).await, expect, "{window} bytes, {streams} streams");
        server.task.abort();
    }
}

#[tokio::test]
async fn what_does_not_end_is_reset() {
    let server = Server::start(65_535, 100).await;
    let mut client = Client::new();
    client.post(1, "/a", false);
    client.frame(0, 0, 1, b"abc");
    client.frame(3, 0, 1, &8_u32.to_be_bytes());
    client.post(3, "/b", false);
    client.post(5, "/c", true);
    let (mut copy, near) = tokio::io::duplex(1 << 20);
    let play = played_to(&[], near, &server.address);
    let send = async {
        copy.write_all(&client.0).await.unwrap();
        server.seen(2).await;
        // The client ends its connection with a request that is not whole.
        drop(copy);
    };
    let (lost, ()) = tokio::join!(play, send);
    assert_eq!(lost, 0);
    let seen = server.seen(3).await;
    let expect = [("/a", Err(Reason::CANCEL)), ("/b", Err(Reason::CANCEL)), ("/c", Ok(0))];
    assert_eq!(seen, expect.map(|(path, end)| (path.to_owned(), end)));
}

#[tokio::test]
async fn an_app_that_takes_nothing_costs_no_more_than_the_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = Client::new();
    client.post(1, "/a", false);
    for _ in 0..3 * WAITING / 60_000 {
        client.frame(0, 0, 1, &[0; 60_000]);
    }
    client.post(3, "/b", true);
    let deaf = async {
        let (socket, _) = listener.accept().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop((socket, listener));
    };
    let (lost, ()) = tokio::join!(played(&client, address), deaf);
    assert!((1..=2).contains(&lost), "{lost}");
}

#[tokio::test]
async fn an_app_that_was_started_again_gets_what_comes_then() {
    let server = Server::start(65_535, 100).await;
    let last = Server::start(65_535, 100).await;
    struct Apps(Mutex<Vec<SocketAddr>>);
    impl App for Apps {
        type Connection = TcpStream;
        type Kept = ();
        async fn connect(&self) -> io::Result<(TcpStream, ())> {
            let next = self.0.lock().unwrap().pop();
            Ok((TcpStream::connect(next.unwrap()).await?, ()))
        }
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let apps = Apps(Mutex::new(vec![
        last.address,
        gone.local_addr().unwrap(),
        server.address,
    ]));
    let (mut copy, near) = tokio::io::duplex(1 << 20);
    drop(gone);
    let mut client = Client::new();
    client.post(1, "/a", true);
    let play = played_to(&[], near, &apps);
    let send = async {
        copy.write_all(&client.0).await.unwrap();
        assert_eq!(server.seen(1).await, [("/a".to_owned(), Ok(0))]);
        // Another app has its place.
        let mut more = Client::default();
        more.post(3, "/b", true);
        more.post(5, "/c", true);
        server.task.abort();
        tokio::time::sleep(Duration::from_millis(50)).await;
        copy.write_all(&more.0).await.unwrap();
        drop(copy);
    };
    let (lost, ()) = tokio::join!(play, send);
    assert_eq!(lost, 1, "what came while nobody listened");
    assert_eq!(last.seen(1).await, [("/c".to_owned(), Ok(0))]);
}
