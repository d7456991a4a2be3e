//! Real sockets on loopback: what only a kernel can show.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use http_route::{End, Options, SessionId, Summary, Upstream, Upstreams, route};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::harness::decide;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const GET1: &[u8] = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Far beyond what anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Addresses {
    pub real: SocketAddr,
    pub session: SocketAddr,
}

impl Upstreams for Addresses {
    type Real = TcpStream;
    type Session = TcpStream;

    async fn real(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.real).await
    }

    async fn session(&self, _: SessionId) -> io::Result<TcpStream> {
        TcpStream::connect(self.session).await
    }
}

pub async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address where nobody listens: bound, so that nobody else can take it.
fn refused() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Plays `client` against a router in front of `real` and `session`.
async fn play<C: Future<Output = ()>>(
    addresses: Addresses,
    client: impl FnOnce(TcpStream) -> C,
    servers: impl Future<Output = ()>,
) -> Summary {
    let (front, address) = listener().await;
    let router = async {
        let (downstream, _) = front.accept().await.unwrap();
        route(downstream, &addresses, &decide, &Options::default()).await
    };
    let client = async { client(TcpStream::connect(address).await.unwrap()).await };
    let all = async { tokio::join!(router, client, servers).0 };
    timeout(PATIENCE, all).await.expect("it hangs")
}

pub async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(got.escape_ascii().to_string(), bytes.escape_ascii().to_string());
}

#[tokio::test]
async fn a_reset_upstream_resets_the_client() {
    const BEGUN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    let (listener, real) = listener().await;
    let (seen, wait) = tokio::sync::oneshot::channel();
    let server = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        expect(&mut stream, GET).await;
        stream.write_all(BEGUN).await.unwrap();
        wait.await.unwrap();
        stream.set_zero_linger().unwrap();
    };
    let client = |mut stream: TcpStream| async move {
        stream.write_all(GET).await.unwrap();
        expect(&mut stream, BEGUN).await;
        seen.send(()).unwrap();
        let error = stream.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    };
    let summary = play(Addresses { real, session: real }, client, server).await;
    assert_eq!(summary.end, End::UpstreamBroke { reset: true });
}

#[tokio::test]
async fn a_reset_client_resets_the_upstream() {
    let (listener, session) = listener().await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        expect(&mut stream, GET1).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nbegun").await.unwrap();
        let error = stream.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    };
    let client = |mut stream: TcpStream| async move {
        stream.write_all(GET1).await.unwrap();
        expect(&mut stream, b"HTTP/1.1 200 OK\r\n\r\nbegun").await;
        stream.set_zero_linger().unwrap();
    };
    let summary = play(Addresses { real: session, session }, client, server).await;
    assert_eq!(summary.end, End::ClientReset);
}

#[tokio::test]
async fn refused_session_falls_back_and_refused_real_resets() {
    let (_held, nobody) = refused();
    let (listener, real) = listener().await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        expect(&mut stream, GET1).await;
        stream.write_all(OK).await.unwrap();
        assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
    };
    let client = |mut stream: TcpStream| async move {
        stream.write_all(GET1).await.unwrap();
        expect(&mut stream, OK).await;
    };
    let summary = play(Addresses { real, session: nobody }, client, server).await;
    assert_eq!((summary.fallbacks, summary.end), (1, End::ClientClosed));
    let client = |mut stream: TcpStream| async move {
        stream.write_all(GET).await.unwrap();
        let error = stream.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    };
    let summary = play(
        Addresses {
            real: nobody,
            session: nobody,
        },
        client,
        async {},
    )
    .await;
    assert_eq!(summary.end, End::RealUnreachable(ErrorKind::ConnectionRefused));
}

/// A response must survive although the request was never read to its end.
#[tokio::test]
async fn an_early_answer_is_not_reset_away() {
    const ANSWER: &[u8] = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!";
    let (listener, real) = listener().await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        expect(&mut stream, b"POST / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n").await;
        stream.write_all(ANSWER).await.unwrap();
    };
    let client = |stream: TcpStream| async move {
        let (mut read, mut write) = stream.into_split();
        let send = async {
            let _ = write
                .write_all(b"POST / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n")
                .await;
            let piece = vec![b'x'; 65536];
            while write.write_all(&piece).await.is_ok() {}
        };
        let receive = async {
            let mut got = vec![0; ANSWER.len()];
            read.read_exact(&mut got).await.unwrap();
            assert_eq!(got, ANSWER);
        };
        tokio::select! { () = send => panic!("the connection broke before the answer came"), () = receive => {} }
    };
    let summary = play(Addresses { real, session: real }, client, server).await;
    assert!(
        matches!(summary.end, End::Closed | End::UpstreamBroke { .. }),
        "{summary:?}"
    );
}

/// The claim ends while a keep-alive client stays: each request is judged at its time and none is lost.
#[tokio::test]
async fn a_steal_comes_and_goes() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let (listener, real) = listener().await;
    let (stolen, session) = self::listener().await;
    let serve = |listener: TcpListener, name: &'static str| async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = vec![0; GET1.len()];
            while stream.read_exact(&mut got).await.is_ok() {
                assert_eq!(got, GET1);
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    };
    let count = AtomicU64::new(0);
    let router = |_: &http_route::RequestHead<'_>| match count.fetch_add(1, Ordering::Relaxed) / 100 {
        1 | 3 => Upstream::Session(SessionId(1)),
        _ => Upstream::Real,
    };
    let (front, address) = self::listener().await;
    let addresses = Addresses { real, session };
    let options = Options::default();
    let router = async {
        let (downstream, _) = front.accept().await.unwrap();
        route(downstream, &addresses, &router, &options).await
    };
    let client = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        for request in 0..500 {
            stream.write_all(GET1).await.unwrap();
            let name = if matches!(request / 100, 1 | 3) {
                "local"
            } else {
                "real"
            };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            expect(&mut stream, answer.as_bytes()).await;
        }
    };
    let both = async { tokio::join!(router, client).0 };
    tokio::select! {
        summary = timeout(PATIENCE, both) => {
            let summary = summary.expect("it hangs");
            assert_eq!((summary.requests, summary.matched, summary.passed), (500, 200, 300));
        }
        () = serve(listener, "real") => {}
        () = serve(stolen, "local") => {}
    }
}
