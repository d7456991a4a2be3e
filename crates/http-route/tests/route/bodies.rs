//! Large bodies and slow readers: constant memory and back-pressure.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_route::{Options, RawReason, SessionId, Upstream, Upstreams, route};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::decide;
use crate::tcp::{Addresses, PATIENCE, expect, listener};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const SIZE: usize = 100 << 20;

/// Resident memory of this process, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends `head` and `SIZE` bytes in `pieces`, and lets the session count what arrives.
async fn upload(head: &str, piece: &[u8], tail: &[u8]) {
    let (front, address) = listener().await;
    let (stolen, session) = listener().await;
    let pieces = SIZE / piece.len();
    let total = head.len() + pieces * piece.len() + tail.len();
    let router = async {
        let (downstream, _) = front.accept().await.unwrap();
        route(
            downstream,
            &Addresses { real: session, session },
            &decide,
            &Options::default(),
        )
        .await
    };
    let server = async {
        let (mut stream, _) = stolen.accept().await.unwrap();
        let mut room = vec![0; 1 << 16];
        let (mut got, mut hash) = (0, 0_u64);
        let before = resident();
        while got < total {
            let count = stream.read(&mut room).await.unwrap();
            assert!(count > 0, "{got} of {total} bytes came");
            hash = room[..count]
                .iter()
                .fold(hash, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            got += count;
            let grown = resident().saturating_sub(before);
            assert!(got % 100 != 0 || grown < 16 << 10, "grew by {grown} KiB at {got}");
        }
        stream.write_all(OK).await.unwrap();
        hash
    };
    let client = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..pieces {
            stream.write_all(piece).await.unwrap();
        }
        stream.write_all(tail).await.unwrap();
        expect(&mut stream, OK).await;
    };
    let all = async { tokio::join!(router, server, client) };
    let (summary, hash, ()) = timeout(PATIENCE, all).await.expect("it hangs");
    assert_eq!((summary.matched, summary.raw), (1, None));
    let bytes = head
        .bytes()
        .chain((0..pieces).flat_map(|_| piece.iter().copied()))
        .chain(tail.iter().copied());
    let sent = bytes.fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
    assert_eq!(hash, sent, "the bytes are not those that were sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_with_a_length() {
    let piece: Vec<u8> = (0..1_u32 << 20)
        .map(|byte| byte.to_le_bytes()[1] ^ byte.to_le_bytes()[0])
        .collect();
    upload(
        &format!("POST /1 HTTP/1.1\r\nContent-Length: {SIZE}\r\n\r\n"),
        &piece,
        b"",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_in_chunks() {
    let mut piece = b"1ffF8;x=1\r\n".to_vec();
    piece.resize(piece.len() + 0x1fff8, b'\r');
    piece.extend_from_slice(b"\r\n");
    upload(
        "POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        &piece,
        b"0\r\nT: v\r\n\r\n",
    )
    .await;
}

/// One connection to the real app; sessions open but are dead.
struct Pipes(Mutex<Option<DuplexStream>>);
impl Upstreams for Pipes {
    type Real = DuplexStream;
    type Session = DuplexStream;

    async fn real(&self) -> io::Result<DuplexStream> {
        self.0
            .lock()
            .unwrap()
            .take()
            .ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
    }

    async fn session(&self, _: SessionId) -> io::Result<DuplexStream> {
        Ok(duplex(64).0)
    }
}

/// A client that does not read holds its upstream back.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_stops_the_sender() {
    struct Pipes(Mutex<Option<tokio::io::DuplexStream>>);
    impl http_route::Upstreams for Pipes {
        type Real = tokio::io::DuplexStream;
        type Session = tokio::io::DuplexStream;

        async fn real(&self) -> std::io::Result<Self::Real> {
            self.0
                .lock()
                .unwrap()
                .take()
                .ok_or_else(|| std::io::ErrorKind::ConnectionRefused.into())
        }

        async fn session(&self, _: http_route::SessionId) -> std::io::Result<Self::Session> {
            self.real().await
        }
    }
    let (mut client, downstream) = duplex(1024);
    let (upstream, mut server) = duplex(1024);
    let pipes = Pipes(Mutex::new(Some(upstream)));
    let sent = AtomicUsize::new(0);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
    let options = Options::default();
    let server = async {
        let mut request = [0; 18];
        server.read_exact(&mut request).await.unwrap();
        server.write_all(head.as_bytes()).await.unwrap();
        let piece = [b'x'; 1 << 10];
        for _ in 0..SIZE / piece.len() {
            server.write_all(&piece).await.unwrap();
            sent.fetch_add(piece.len(), Ordering::Relaxed);
        }
        server
    };
    let reader = async {
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        // The paused clock moves on when nobody can do anything more.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let ahead = sent.load(Ordering::Relaxed);
        assert!(
            (60 << 10..70 << 10).contains(&ahead),
            "{ahead} bytes were taken from the upstream"
        );
        let mut room = vec![0; 1 << 16];
        let mut left = head.len() + SIZE;
        while left > 0 {
            left -= client.read(&mut room).await.unwrap();
        }
        drop(client);
    };
    let (summary, _, ()) = tokio::join!(route(downstream, &pipes, &decide, &options), server, reader);
    assert_eq!(summary.passed, 1);
}

/// A session whose stream opens and is dead at the first byte: the request is whole, and the real app gets it.
#[tokio::test(start_paused = true)]
async fn a_dead_session_falls_back() {
    const POST: &[u8] = b"POST /1 HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
    let (mut client, downstream) = duplex(1024);
    let (upstream, mut server) = duplex(1024);
    let pipes = Pipes(Mutex::new(Some(upstream)));
    let options = Options::default();
    let talk = async {
        client.write_all(POST).await.unwrap();
        let mut request = vec![0; POST.len()];
        server.read_exact(&mut request).await.unwrap();
        assert_eq!(request, POST);
        server.write_all(OK).await.unwrap();
        let mut answer = vec![0; OK.len()];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, OK);
        drop(client);
    };
    let (summary, ()) = tokio::join!(route(downstream, &pipes, &decide, &options), talk);
    assert_eq!((summary.matched, summary.passed, summary.fallbacks), (0, 1, 1));
}

/// A head that no server takes: the real app gets all of it, and says so itself.
#[tokio::test]
async fn a_ten_megabyte_header_goes_raw() {
    let (front, address) = listener().await;
    let (server, real) = listener().await;
    let head = format!("GET /1 HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(10 << 20));
    let router = async {
        let (downstream, _) = front.accept().await.unwrap();
        route(
            downstream,
            &Addresses { real, session: real },
            &decide,
            &Options::default(),
        )
        .await
    };
    let server = async {
        let (mut stream, _) = server.accept().await.unwrap();
        let mut got = vec![0; head.len()];
        stream.read_exact(&mut got).await.unwrap();
        assert!(got == head.as_bytes(), "the real app got other bytes");
        stream.write_all(b"HTTP/1.1 431 Too Large\r\n\r\n").await.unwrap();
    };
    let client = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        expect(&mut stream, b"HTTP/1.1 431 Too Large\r\n\r\n").await;
    };
    let all = async { tokio::join!(router, server, client).0 };
    let summary = timeout(PATIENCE, all).await.expect("it hangs");
    assert_eq!(summary.raw, Some((RawReason::HeadTooLong, Upstream::Real)));
}
