//! HTTP/2 with prior knowledge between a client and servers of another implementation.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use fixture::http2::{DATA_FRAMES, give};
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_route::{End, Options, SessionId, Summary, Upstreams, route};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::Decide;
use crate::tcp::{Addresses, PATIENCE, listener};

/// What came of a request: who answered, its body, and the sum in its trailers.
type Answer = Result<(String, Vec<u8>, String), h2::Error>;

/// Echoes, see [`fixture::http2`].
async fn serve(listener: TcpListener, name: &'static str, window: u32) {
    fixture::http2::serve(listener, HeaderValue::from_static(name), window, |_, _| ()).await;
}

async fn take(mut body: RecvStream) -> Result<(Vec<u8>, String), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        bytes.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let sum = trailers.get("x-sum").map(|sum| sum.to_str().unwrap().to_owned());
    Ok((bytes, sum.unwrap_or_default()))
}

async fn ask(send: SendRequest<Bytes>, path: &str, body: Vec<u8>) -> Answer {
    let mut send = send.ready().await?;
    let uri = format!("http://shop.test{path}");
    let request = Request::post(uri).header("x-secret", "s").body(()).unwrap();
    let (response, mut stream) = send.send_request(request, false)?;
    drop(send);
    let sending = async {
        give(&mut stream, body.into()).await?;
        stream.send_data(Bytes::new(), true)
    };
    let receiving = async {
        let response = response.await?;
        let from = response.headers()["x-from"].to_str().unwrap().to_owned();
        let (body, sum) = take(response.into_body()).await?;
        Ok((from, body, sum))
    };
    let (sent, received) = tokio::join!(sending, receiving);
    received.and_then(|received| sent.map(|()| received))
}

/// A request whose body is still to come.
async fn begin(send: SendRequest<Bytes>, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
    let request = Request::post(format!("http://a{path}")).body(()).unwrap();
    send.ready().await.unwrap().send_request(request, false).unwrap()
}

async fn connected(address: SocketAddr, window: Option<u32>) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.data_frame_budget(DATA_FRAMES);
    if let Some(window) = window {
        builder
            .initial_window_size(window)
            .initial_connection_window_size(window);
    }
    let (send, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send
}

/// One routed connection; `client` is given its address.
async fn play<T, C: Future<Output = T>>(
    upstreams: impl Upstreams,
    client: impl FnOnce(SocketAddr) -> C,
) -> (Summary, T) {
    let (front, address) = listener().await;
    let options = Options {
        head: Duration::from_millis(500),
        ..Options::default()
    };
    let router = async {
        let (downstream, _) = front.accept().await.unwrap();
        downstream.set_nodelay(true).unwrap();
        route(downstream, &upstreams, &Decide::default(), &options).await
    };
    let all = async { tokio::join!(router, client(address)) };
    timeout(PATIENCE, all).await.expect("it hangs")
}

struct Servers {
    addresses: Addresses,
    tasks: JoinSet<()>,
}

async fn servers(window: u32) -> Servers {
    let (real_listener, real) = listener().await;
    let (session_listener, session) = listener().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(real_listener, "real", window));
    tasks.spawn(serve(session_listener, "session", window));
    Servers {
        addresses: Addresses { real, session },
        tasks,
    }
}

#[tokio::test]
async fn streams_go_to_whom_they_belong() {
    // The smallest windows there are in use, and large ones; clients and servers.
    for (client_window, server_window) in [
        (None, 65_535),
        (Some(1 << 20), 65_535),
        (Some(65_535), 1 << 20),
        (Some(70_000), 3000),
    ] {
        let servers = servers(server_window).await;
        let (summary, ()) = play(servers.addresses, |address| async move {
            let send = connected(address, client_window).await;
            let mut asked = JoinSet::new();
            for number in 0..60_usize {
                let send = send.clone();
                asked.spawn(async move {
                    let stolen = number % 3 == 0;
                    let path = if stolen {
                        format!("/1/{number}")
                    } else {
                        format!("/{}", number + 900)
                    };
                    // Paths that begin with 1 or 2 are the session's.
                    let path = if stolen { path } else { path.replace("/1", "/9") };
                    let body: Vec<u8> = (0..number * 3000).map(|at| (at % 251) as u8).collect();
                    let (from, answer, sum) = ask(send, &path, body.clone()).await.unwrap();
                    assert_eq!(from, if stolen { "session" } else { "real" });
                    assert!(answer == body, "the body changed");
                    assert_eq!(sum, body.len().to_string());
                });
            }
            while let Some(done) = asked.join_next().await {
                done.unwrap();
            }
        })
        .await;
        assert_eq!((summary.requests, summary.matched, summary.passed), (60, 20, 40));
        assert_eq!(summary.raw, None);
    }
}

#[tokio::test]
async fn short_messages_of_many_streams_all_arrive() {
    let servers = servers(65_535).await;
    let (summary, ()) = play(servers.addresses, |address| async move {
        let send = connected(address, None).await;
        let mut talks = JoinSet::new();
        for number in 0..200 {
            let send = send.clone();
            talks.spawn(async move {
                let path = if number % 3 == 0 { "/1" } else { "/" };
                let (response, mut up) = begin(send, path).await;
                let mut down = response.await.unwrap().into_body();
                for _ in 0..10 {
                    up.send_data(Bytes::from_static(b"hi"), false).unwrap();
                    assert_eq!(down.data().await.unwrap().unwrap(), "hi");
                    down.flow_control().release_capacity(2).unwrap();
                }
                up.send_data(Bytes::new(), true).unwrap();
                assert_eq!(take(down).await.unwrap().1, "20");
            });
        }
        talks.join_all().await;
    })
    .await;
    assert_eq!((summary.requests, summary.fallbacks), (200, 0));
}

#[tokio::test]
async fn websockets_go_to_whom_they_belong() {
    let servers = servers(65_535).await;
    let (summary, ()) = play(servers.addresses, |address| async move {
        let send = connected(address, None).await;
        // With the first answer the server's settings are known.
        ask(send.clone(), "/", Vec::new()).await.unwrap();
        assert!(send.is_extended_connect_protocol_enabled());
        for (path, from) in [("/", "real"), ("/1", "session")] {
            let mut connect = Request::new(());
            *connect.method_mut() = Method::CONNECT;
            *connect.uri_mut() = format!("http://shop.test{path}").parse().unwrap();
            connect.extensions_mut().insert(Protocol::from_static("websocket"));
            let mut send = send.clone().ready().await.unwrap();
            let (response, mut up) = send.send_request(connect, false).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.headers()["x-from"], from);
            let mut down = response.into_body();
            for _ in 0..3 {
                up.send_data(Bytes::from_static(b"hi"), false).unwrap();
                assert_eq!(down.data().await.unwrap().unwrap(), "hi");
                down.flow_control().release_capacity(2).unwrap();
            }
            up.send_data(Bytes::new(), true).unwrap();
            assert_eq!(take(down).await.unwrap().1, "6");
        }
    })
    .await;
    assert_eq!((summary.requests, summary.matched, summary.raw), (3, 1, None));
}

#[tokio::test]
async fn who_is_to_leave_ends_what_it_has_begun() {
    let servers = servers(65_535).await;
    let (summary, ()) = play(servers.addresses, |address| async move {
        let send = connected(address, None).await;
        let (response, mut up) = begin(send.clone(), "/1").await;
        let mut down = response.await.unwrap().into_body();
        assert_eq!(ask(send.clone(), "/leave", b"abc".to_vec()).await.unwrap().1, b"abc");
        // The library learns of it with what it reads next.
        up.send_data(Bytes::from_static(b"hi"), false).unwrap();
        assert_eq!(down.data().await.unwrap().unwrap(), "hi");
        let refused = ask(send, "/", Vec::new()).await.unwrap_err();
        assert_eq!(refused.reason(), Some(Reason::NO_ERROR), "{refused}");
        down.flow_control().release_capacity(2).unwrap();
        up.send_data(Bytes::new(), true).unwrap();
        assert_eq!(take(down).await.unwrap().1, "2");
    })
    .await;
    assert_eq!((summary.requests, summary.raw), (2, None));
}

#[tokio::test]
async fn who_cannot_be_reached_loses_its_requests_to_the_app() {
    let mut servers = servers(65_535).await;
    let gone = listener().await.1;
    servers.addresses.session = gone;
    let (summary, ()) = play(servers.addresses, |address| async move {
        let send = connected(address, None).await;
        for path in ["/1", "/", "/2"] {
            let (from, body, _) = ask(send.clone(), path, b"abc".to_vec()).await.unwrap();
            assert_eq!((from.as_str(), body.as_slice()), ("real", &b"abc"[..]));
        }
    })
    .await;
    assert_eq!((summary.matched, summary.passed, summary.fallbacks), (0, 3, 2));
}

/// A session that takes its time and is gone then.
struct GoneSlowly(Addresses);

impl Upstreams for GoneSlowly {
    type Real = TcpStream;
    type Session = TcpStream;

    async fn real(&self) -> io::Result<TcpStream> {
        self.0.real().await
    }

    async fn session(&self, _: SessionId) -> io::Result<TcpStream> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Err(io::ErrorKind::NotConnected.into())
    }
}

#[tokio::test]
async fn who_is_given_up_late_is_the_apps_behind_later_requests() {
    let servers = servers(65_535).await;
    let (summary, ()) = play(GoneSlowly(servers.addresses), |address| async move {
        let send = connected(address, None).await;
        let mine = tokio::spawn(ask(send.clone(), "/1", vec![b'x'; 30_000]));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(ask(send, "/", Vec::new()).await.unwrap().0, "real");
        let (from, body, _) = mine.await.unwrap().unwrap();
        assert_eq!((from.as_str(), body.len()), ("real", 30_000));
    })
    .await;
    assert_eq!((summary.matched, summary.passed, summary.fallbacks), (0, 2, 1));
}

#[tokio::test]
async fn bodies_decide_however_they_arrive() {
    // A body that is whole at once, and many that come a byte at a time at once.
    let servers = servers(65_535).await;
    let (summary, ()) = play(servers.addresses, |address| async move {
        let send = connected(address, None).await;
        let mut talks = JoinSet::new();
        for number in 0..60_usize {
            let send = send.clone();
            talks.spawn(async move {
                let (body, from) = [("me", "session"), ("no", "real"), ("", "real")][number % 3];
                if number % 2 == 0 {
                    let answer = ask(send, "/by-body", body.into()).await.unwrap();
                    assert_eq!((answer.0.as_str(), answer.1.as_slice()), (from, body.as_bytes()));
                    return;
                }
                let (response, mut up) = begin(send, "/by-body").await;
                for byte in body.as_bytes().chunks(1) {
                    up.send_data(Bytes::copy_from_slice(byte), false).unwrap();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("x", HeaderValue::from_static("y"));
                up.send_trailers(trailers).unwrap();
                let response = response.await.unwrap();
                assert_eq!(response.headers()["x-from"], from);
                assert_eq!(take(response.into_body()).await.unwrap().0, body.as_bytes());
            });
        }
        talks.join_all().await;
    })
    .await;
    assert_eq!((summary.requests, summary.matched, summary.passed), (60, 20, 40));
}

#[tokio::test]
async fn bodies_that_do_not_come_whole_decide_nothing() {
    let servers = servers(65_535).await;
    let (summary, ()) = play(servers.addresses, |address| async move {
        let send = connected(address, Some(1 << 20)).await;
        let mut long = JoinSet::new();
        for _ in 0..10 {
            let body = vec![b'x'; 300_000];
            long.spawn(ask(send.clone(), "/by-body", body));
        }
        // It waits for the answer before it says more.
        let (response, mut up) = begin(send.clone(), "/by-body").await;
        up.send_data(Bytes::from_static(b"m"), false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers()["x-from"], "real");
        up.send_data(Bytes::from_static(b"e"), true).unwrap();
        assert_eq!(take(response.into_body()).await.unwrap().0, b"me");
        for answer in long.join_all().await {
            let (from, body, _) = answer.unwrap();
            assert_eq!((from.as_str(), body.len()), ("real", 300_000));
        }
        // One that is given up before it is decided.
        let (_, mut up) = begin(send.clone(), "/by-body").await;
        up.send_data(Bytes::from_static(b"m"), false).unwrap();
        up.send_reset(Reason::CANCEL);
        assert_eq!(ask(send, "/by-body", b"me".to_vec()).await.unwrap().0, "session");
    })
    .await;
    assert_eq!((summary.matched, summary.passed), (1, 11));
}

#[tokio::test]
async fn a_session_that_dies_takes_only_its_own_streams() {
    let (real_listener, real) = listener().await;
    let (session_listener, session) = listener().await;
    let mut real_server = JoinSet::new();
    real_server.spawn(serve(real_listener, "real", 65_535));
    let mut session_server = JoinSet::new();
    session_server.spawn(serve(session_listener, "session", 65_535));
    let (summary, ()) = play(Addresses { real, session }, |address| async move {
        let send = connected(address, None).await;
        let (mine, _mine) = begin(send.clone(), "/1").await;
        let (theirs, mut their_body) = begin(send.clone(), "/").await;
        let mut mine = mine.await.unwrap().into_body();
        let theirs = theirs.await.unwrap().into_body();
        session_server.shutdown().await;
        assert_eq!(
            mine.data().await.unwrap().unwrap_err().reason(),
            Some(Reason::INTERNAL_ERROR)
        );
        their_body.send_data(Bytes::from_static(b"still there"), true).unwrap();
        assert_eq!(take(theirs).await.unwrap().0, b"still there");
        assert_eq!(ask(send, "/1", Vec::new()).await.unwrap().0, "real");
    })
    .await;
    assert_eq!((summary.matched, summary.fallbacks), (1, 1));
}

#[tokio::test]
async fn an_app_that_leaves_lets_a_sessions_stream_end() {
    let servers = servers(65_535).await;
    let (_, ()) = play(servers.addresses, |address| async move {
        let send = connected(address, None).await;
        let (mine, mut body) = begin(send.clone(), "/1").await;
        let mine = mine.await.unwrap().into_body();
        assert_eq!(ask(send.clone(), "/last", Vec::new()).await.unwrap().0, "real");
        body.send_data(Bytes::from_static(b"to the end"), true).unwrap();
        assert_eq!(take(mine).await.unwrap().0, b"to the end");
    })
    .await;
    drop(servers.tasks);
}

#[tokio::test]
async fn what_the_client_grants_at_once_is_not_lost() {
    const LENGTH: usize = 100_000;
    let (real_listener, real) = listener().await;
    let (session_listener, session) = listener().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(real_listener, "real", 65_535));
    tasks.spawn(async move {
        let (stream, _) = session_listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                give(&mut send, vec![b'x'; LENGTH].into()).await?;
                send.send_data(Bytes::new(), true)
            });
        }
    });
    let (_, ()) = play(Addresses { real, session }, |address| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // GET /1 on stream 1, and a megabyte more for the connection and for the stream.
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
            \0\0\x0a\x01\x05\0\0\0\x01\x82\x86\x04\x02/1\x01\x02ab\
            \0\0\x04\x08\0\0\0\0\0\0\x10\0\0\0\0\x04\x08\0\0\0\0\x01\0\x10\0\0";
        stream.write_all(hello).await.unwrap();
        let mut got = 0;
        while got < LENGTH {
            let (head, payload) = frame(&mut stream).await;
            if head[3] == 0 {
                got += payload.len();
            }
        }
        stream.shutdown().await.unwrap();
    })
    .await;
}

/// The next frame: its head and its payload.
async fn frame(stream: &mut TcpStream) -> ([u8; 9], Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut payload).await.unwrap();
    (head, payload)
}

#[tokio::test]
async fn what_is_malformed_is_refused_also_behind_a_sessions_answer() {
    let servers = servers(65_535).await;
    let (_, ()) = play(servers.addresses, |address| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // GET /1 on stream 1.
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
            \0\0\x0a\x01\x05\0\0\0\x01\x82\x86\x04\x02/1\x01\x02ab";
        stream.write_all(hello).await.unwrap();
        // Up to the answer's trailers.
        while frame(&mut stream).await.0[3..5] != [1, 5] {}
        // A PRIORITY of four bytes.
        stream.write_all(b"\0\0\x04\x02\0\0\0\0\x01abcd").await.unwrap();
        let reset = loop {
            let (head, payload) = frame(&mut stream).await;
            if head[3] == 3 {
                break payload;
            }
        };
        assert_eq!(reset, [0, 0, 0, 6], "FRAME_SIZE_ERROR");
        stream.shutdown().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_app_without_http2_answers_as_it_does() {
    const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    let (listener, real) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 24]).await.unwrap();
        stream.write_all(REFUSAL).await.unwrap();
        stream.shutdown().await.unwrap();
        while stream.read(&mut [0; 1024]).await.is_ok_and(|count| count > 0) {}
    });
    let (summary, ()) = play(Addresses { real, session: real }, |address| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        assert_eq!(said.escape_ascii().to_string(), REFUSAL.escape_ascii().to_string());
    })
    .await;
    server.await.unwrap();
    assert_eq!(summary.end, End::RawEnded);
}

#[tokio::test]
async fn what_breaks_the_rules_is_the_apps_to_judge() {
    // A frame on no stream, one that is too long, an index that is none, and a block that is interrupted.
    let broken: [&[u8]; 4] = [
        b"\0\0\x01\0\0\0\0\0\0x",
        b"\xff\xff\xff\x01\x04\0\0\0\x01",
        b"\0\0\x01\x01\x05\0\0\0\x01\xff",
        b"\0\0\x01\x01\0\0\0\0\x01\x82\0\0\x08\x06\0\0\0\0\0abcdefgh",
    ];
    for bytes in broken {
        let servers = servers(65_535).await;
        let real = servers.addresses.real;
        let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], bytes].concat();
        let said = |address| {
            let hello = hello.clone();
            async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(&hello).await.unwrap();
                let mut said = Vec::new();
                // What is left unread resets the connection: how it ends is the kernel's.
                let _ = stream.read_to_end(&mut said).await;
                said
            }
        };
        let directly = said(real).await;
        let (_, routed) = play(servers.addresses, said).await;
        assert_eq!(goaway(&routed), goaway(&directly), "{}", bytes.escape_ascii());
        assert!(goaway(&routed).is_some());
    }
}

/// The error of the first GOAWAY among frames.
fn goaway(mut frames: &[u8]) -> Option<u8> {
    while let Some((head, rest)) = frames.split_at_checked(9) {
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        if head[3] == 7 {
            return rest.get(7).copied();
        }
        frames = rest.get(length..)?;
    }
    None
}
