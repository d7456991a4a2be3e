//! Copies of a client's bytes, handed to real servers on loopback.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

const ONE: &[u8] = b"POST /one HTTP/1.1\r\nhost:  a\r\ncontent-length: 3\r\n\r\nabc";
const TWO: &[u8] = b"GET /two HTTP/1.1\r\nX-Two: 2\r\n\r\n";
const THREE: &[u8] = b"GET /three HTTP/1.0\r\n\r\n";

/// Where the app listens, if it does.
#[derive(Default)]
struct At(Mutex<Option<SocketAddr>>);

impl App for At {
    type Connection = TcpStream;
    type Kept = ();

    async fn connect(&self) -> io::Result<(TcpStream, ())> {
        let address = *self.0.lock().unwrap();
        Ok((
            TcpStream::connect(address.ok_or(io::ErrorKind::NotConnected)?).await?,
            (),
        ))
    }
}

struct Stage {
    listener: TcpListener,
    app: &'static At,
    client: DuplexStream,
    /// How many requests were lost.
    handed: JoinHandle<io::Result<u64>>,
}

async fn stage() -> Stage {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app: &'static At = Box::leak(Box::default());
    *app.0.lock().unwrap() = Some(listener.local_addr().unwrap());
    let (client, copy) = tokio::io::duplex(1 << 16);
    let handed = tokio::spawn(async move {
        let count = AtomicU64::new(0);
        let lost = |_: &str| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        hand_over(b"", copy, app, &lost).await?;
        Ok(count.into_inner())
    });
    Stage {
        listener,
        app,
        client,
        handed,
    }
}

impl Stage {
    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// The copy ends; says how many requests were lost.
    async fn end(self) -> u64 {
        drop(self.client);
        in_time(self.handed).await.unwrap().unwrap()
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    let deadline = Duration::from_secs(60);
    tokio::time::timeout(deadline, what).await.expect("it hangs")
}

async fn reads(app: &mut TcpStream, expect: &[u8]) {
    let mut read = vec![0; expect.len()];
    in_time(app.read_exact(&mut read)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(expect));
}

/// The app's end has arrived at this machine's other end.
async fn close(app: TcpStream) {
    drop(app);
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn an_app_that_closes_behind_each_answer_gets_every_request() {
    let mut stage = stage().await;
    for request in [ONE, TWO, THREE] {
        stage.client.write_all(request).await.unwrap();
        let mut app = stage.accept().await;
        reads(&mut app, request).await;
        app.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        close(app).await;
    }
    assert_eq!(stage.end().await, 0);
}

#[tokio::test]
async fn an_app_that_keeps_its_connection_gets_the_bytes_as_they_are() {
    let mut stage = stage().await;
    let all = [ONE, TWO, THREE, ONE].concat();
    for byte in &all {
        stage.client.write_all(&[*byte]).await.unwrap();
    }
    let mut app = stage.accept().await;
    for request in [ONE, TWO, THREE, ONE] {
        reads(&mut app, request).await;
        app.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    }
    // What is cut off is the app's, too.
    stage.client.write_all(b"GET /cut").await.unwrap();
    drop(stage.client);
    reads(&mut app, b"GET /cut").await;
    assert_eq!(in_time(app.read(&mut [0; 8])).await.unwrap(), 0);
    drop(app);
    assert_eq!(in_time(stage.handed).await.unwrap().unwrap(), 0);
}

/// The client may have its answer, from the real app, long before.
#[tokio::test]
async fn no_request_goes_to_an_app_that_is_about_to_close() {
    let mut stage = stage().await;
    stage.client.write_all(&[ONE, TWO].concat()).await.unwrap();
    let mut first = stage.accept().await;
    reads(&mut first, ONE).await;
    let early = tokio::time::timeout(Duration::from_millis(50), first.read(&mut [0; 1])).await;
    assert!(early.is_err(), "{early:?}");
    first
        .write_all(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    let mut second = stage.accept().await;
    reads(&mut second, TWO).await;
    drop((first, second));
    assert_eq!(stage.end().await, 0);
}

#[tokio::test]
async fn an_app_that_was_started_again_gets_what_comes_from_then_on() {
    let mut stage = stage().await;
    stage.client.write_all(ONE).await.unwrap();
    let mut app = stage.accept().await;
    reads(&mut app, ONE).await;
    let address = stage.app.0.lock().unwrap().take();
    close(app).await;
    stage.client.write_all(TWO).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    *stage.app.0.lock().unwrap() = address;
    let mut app = stage.accept().await;
    reads(&mut app, TWO).await;
    close(app).await;
    // It is away for longer.
    *stage.app.0.lock().unwrap() = None;
    stage.client.write_all(&[ONE, TWO].concat()).await.unwrap();
    tokio::time::sleep(LISTENS * 2).await;
    *stage.app.0.lock().unwrap() = address;
    stage.client.write_all(THREE).await.unwrap();
    let mut app = stage.accept().await;
    reads(&mut app, THREE).await;
    close(app).await;
    assert_eq!(stage.end().await, 2, "those that came when it did not listen");
}

#[tokio::test]
async fn a_body_that_is_not_taken_to_its_end_costs_no_later_request() {
    let mut stage = stage().await;
    let head = b"POST /long HTTP/1.1\r\ncontent-length: 300000\r\n\r\n";
    stage.client.write_all(head).await.unwrap();
    let mut app = stage.accept().await;
    reads(&mut app, head).await;
    close(app).await;
    in_time(stage.client.write_all(&vec![b'x'; 300_000])).await.unwrap();
    stage.client.write_all(TWO).await.unwrap();
    let mut app = stage.accept().await;
    reads(&mut app, TWO).await;
    close(app).await;
    assert_eq!(stage.end().await, 1);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_there_all_the_same() {
    let stage = stage().await;
    drop(stage.client);
    let mut app = stage.listener.accept().await.unwrap().0;
    assert_eq!(in_time(app.read(&mut [0; 8])).await.unwrap(), 0);
    drop(app);
    assert_eq!(in_time(stage.handed).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn what_is_not_http_ends_with_the_app_s_connection() {
    for begun in [
        &b"\x01binary"[..],
        b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x01a",
    ] {
        let mut stage = stage().await;
        stage.client.write_all(begun).await.unwrap();
        let mut app = stage.accept().await;
        reads(&mut app, begun).await;
        drop(app);
        assert_eq!(in_time(stage.handed).await.unwrap().unwrap(), 0);
    }
}
