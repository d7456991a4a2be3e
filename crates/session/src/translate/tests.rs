//! A client of HTTP/2, and local apps that speak HTTP/1 as they please.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use h2::client::SendRequest;
use http::HeaderMap;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

#[path = "routed_tests.rs"]
mod routed;

const LARGE: usize = 24 << 20;
/// More than all windows and buffers on the way.
const ENDLESS: usize = 256 << 20;
const A_WHILE: Duration = Duration::from_secs(60);
/// Long enough for what moves at all to move.
const STALLED: Duration = Duration::from_millis(500);

/// One connection that the app has taken.
struct Taken {
    socket: BufReader<TcpStream>,
    /// How many it has taken before.
    number: usize,
}

impl Taken {
    /// `None` at its end.
    async fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.socket.read_line(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        Some(head)
    }

    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.expect("a client");
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.socket.read_line(&mut line).await.expect("a line");
        line.trim_end().to_owned()
    }

    /// A chunked body's length, and its trailers.
    async fn chunks(&mut self) -> (usize, Vec<String>) {
        let mut total = 0;
        loop {
            let size = usize::from_str_radix(&self.line().await, 16).expect("a chunk's size");
            if size == 0 {
                break;
            }
            let mut chunk = vec![0; size];
            self.socket.read_exact(&mut chunk).await.expect("a chunk");
            assert!(chunk.iter().all(|byte| *byte == b'x'));
            total += size;
            assert_eq!(self.line().await, "");
        }
        let mut trailers = Vec::new();
        loop {
            match self.line().await {
                line if line.is_empty() => return (total, trailers),
                line => trailers.push(line),
            }
        }
    }

    /// Whatever comes until the client ends or breaks the connection.
    async fn end(&mut self) {
        let mut buffer = vec![0; 1 << 16];
        while !matches!(self.socket.read(&mut buffer).await, Ok(0) | Err(_)) {}
    }
}

/// An app that does so with each connection.
async fn app<R: Future<Output = ()> + Send + 'static>(each: impl Fn(Taken) -> R + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        for number in 0.. {
            let (socket, _) = listener.accept().await.expect("a client");
            let socket = BufReader::new(socket);
            tokio::spawn(each(Taken { socket, number }));
        }
    });
    address
}

struct Client {
    requests: SendRequest<Bytes>,
    translation: JoinHandle<io::Result<()>>,
    warned: Arc<Mutex<Vec<String>>>,
}

struct Got {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Client {
    async fn new(app: SocketAddr) -> Self {
        let (near, far) = tokio::io::duplex(1 << 16);
        let warned = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&warned);
        let warn: Warn = Arc::new(move |what| told.lock().unwrap().push(what));
        let translation =
            tokio::spawn(async move { translate(far, Arc::new(app), None, warn, &Underway::default()).await });
        let mut builder = h2::client::Builder::new();
        builder.data_frame_budget(DATA_FRAMES).enable_push(false);
        let (requests, connection) = builder.handshake(near).await.expect("a handshake");
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Self {
            requests,
            translation,
            warned,
        }
    }

    fn start(&mut self, request: http::request::Builder, end: bool) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let request = request.version(http::Version::HTTP_2).body(()).expect("a request");
        self.requests.send_request(request, end).expect("a connection")
    }

    async fn ask(&mut self, request: http::request::Builder) -> Result<Got, h2::Error> {
        let (answer, _) = self.start(request, true);
        got(answer).await
    }
}

async fn got(answer: h2::client::ResponseFuture) -> Result<Got, h2::Error> {
    let answer = timeout(A_WHILE, answer).await.expect("an answer")?;
    let (head, mut stream) = answer.into_parts();
    let mut body = Vec::new();
    while let Some(bytes) = timeout(A_WHILE, stream.data()).await.expect("more") {
        let bytes = bytes?;
        body.extend_from_slice(&bytes);
        stream.flow_control().release_capacity(bytes.len())?;
    }
    Ok(Got {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
        trailers: stream.trailers().await?,
    })
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("https://a.test{path}"))
}

fn x(length: usize) -> Bytes {
    Bytes::from(vec![b'x'; length])
}

fn reason<T>(result: Result<T, h2::Error>) -> Option<Reason> {
    result.err().expect("no answer").reason()
}

#[tokio::test]
async fn requests_of_a_client_share_a_connection() {
    let app = app(|mut taken| async move {
        while let Some(head) = taken.head().await {
            let head = head.replace("\r\n", "|");
            let answer = match head.split(' ').nth(1) {
                Some("/head") => "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n".to_owned(),
                Some("/empty") => "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n".to_owned(),
                Some("/same") => "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n".to_owned(),
                Some("/old") => {
                    taken.say("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
                    return;
                }
                _ => {
                    let length = head.len() + 2;
                    format!(
                        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: {length}\r\n\r\n{} {head}",
                        taken.number
                    )
                }
            };
            taken.say(answer).await;
        }
    })
    .await;
    let mut client = Client::new(app).await;
    for _ in 0..3 {
        let asked = request("GET", "/a?b").header("cookie", "a=1").header("cookie", "b=2");
        let got = client.ask(asked).await.expect("an answer");
        assert_eq!((got.status, got.headers.get("connection")), (200, None));
        let expect = "0 GET /a?b HTTP/1.1|host: a.test|cookie: a=1; b=2||";
        assert_eq!(String::from_utf8_lossy(&got.body), expect);
    }
    for (method, path, status, length) in [
        ("HEAD", "/head", 200, Some("7")),
        ("GET", "/empty", 204, None),
        ("GET", "/same", 304, Some("9")),
    ] {
        let got = client.ask(request(method, path)).await.expect("an answer");
        let said = got
            .headers
            .get("content-length")
            .map(|value| value.to_str().expect("text"));
        assert_eq!((got.status, said, got.body.len()), (status, length, 0), "{path}");
    }
    let got = client.ask(request("GET", "/old")).await.expect("an answer");
    assert_eq!(got.body, b"until the end");
    let got = client.ask(request("POST", "/")).await.expect("an answer");
    assert_eq!(
        String::from_utf8_lossy(&got.body),
        "1 POST / HTTP/1.1|host: a.test|content-length: 0||"
    );
    let connect = Request::builder().method("CONNECT").uri("a.test:80");
    assert_eq!(client.ask(connect).await.expect("an answer").status, 501);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_any_size_go_both_ways() {
    let app = app(|mut taken| async move {
        while let Some(head) = taken.head().await {
            let length = if head.contains("transfer-encoding: chunked") {
                taken.chunks().await.0
            } else {
                assert!(head.contains(&format!("content-length: {LARGE}\r\n")), "{head}");
                let mut body = vec![0; LARGE];
                taken.socket.read_exact(&mut body).await.expect("a body");
                body.len()
            };
            let body = x(length);
            if head.contains("/chunked") {
                taken.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                for chunk in body.chunks(100_000) {
                    taken.say(format!("{:x}\r\n", chunk.len())).await;
                    taken.say(chunk).await;
                    taken.say("\r\n").await;
                }
                taken.say("0\r\n\r\n").await;
            } else {
                taken
                    .say(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))
                    .await;
                taken.say(body).await;
            }
        }
    })
    .await;
    let mut client = Client::new(app).await;
    for path in ["/chunked", "/length"] {
        for length in [Some(LARGE.to_string()), None] {
            let mut asked = request("POST", path);
            if let Some(length) = &length {
                asked = asked.header("content-length", length);
            }
            let (answer, mut body) = client.start(asked, false);
            send_data(&mut body, x(LARGE), true).await.expect("taken");
            let got = got(answer).await.expect("an answer");
            assert_eq!((got.status, got.body.len()), (200, LARGE), "{path} {length:?}");
            assert!(got.body.iter().all(|byte| *byte == b'x'));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_sent_more_than_the_other_takes() {
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let app = app(|mut taken| async move {
        let head = taken.head().await.expect("a request");
        if head.starts_with("GET") {
            taken.say("HTTP/1.1 200 OK\r\n\r\n").await;
            while taken.socket.write_all(&[b'x'; 1 << 16]).await.is_ok() {
                WRITTEN.fetch_add(1 << 16, Ordering::Relaxed);
            }
        }
        // The body is not read.
        pending::<()>().await;
    })
    .await;
    let mut client = Client::new(app).await;
    let (_answer, mut body) = client.start(request("POST", "/"), false);
    let mut sent = 0;
    let _ = timeout(STALLED * 2, async {
        while sent < ENDLESS {
            send_data(&mut body, x(1 << 16), false).await.expect("a connection");
            sent += 1 << 16;
        }
    })
    .await;
    assert!(sent < ENDLESS / 4, "{sent} bytes were taken for an app that takes none");
    let (answer, _) = client.start(request("GET", "/"), true);
    let answer = answer.await.expect("an answer");
    let mut before = usize::MAX;
    while WRITTEN.load(Ordering::Relaxed) != before {
        before = WRITTEN.load(Ordering::Relaxed);
        tokio::time::sleep(STALLED).await;
    }
    assert!(
        before < ENDLESS / 4,
        "{before} bytes were taken from an app for a client that takes none"
    );
    drop(answer);
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let app = app(|mut taken| async move {
        let head = taken.head().await.expect("a request");
        for line in ["te: trailers", "connection: te", "trailer: x-sum"] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
        }
        let (length, trailers) = taken.chunks().await;
        let trailers = trailers.join(",");
        taken
            .say(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Got: {length} {trailers}\r\n\r\n"
            ))
            .await;
    })
    .await;
    let mut client = Client::new(app).await;
    let asked = request("POST", "/").header("te", "trailers").header("trailer", "x-sum");
    let (answer, mut body) = client.start(asked.header("content-length", "5"), false);
    send_data(&mut body, x(5), false).await.expect("taken");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "5x".parse().expect("a value"));
    body.send_trailers(trailers).expect("taken");
    let got = got(answer).await.expect("an answer");
    assert_eq!(got.body, b"x");
    assert_eq!(got.trailers.expect("trailers")["x-got"], "5 x-sum: 5x");
}

#[tokio::test]
async fn answers_before_the_answer_are_handed_on() {
    let app = app(|mut taken| async move {
        let head = taken.head().await.expect("a request");
        assert!(head.contains("expect: 100-continue\r\n"), "{head}");
        taken.say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
        taken.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(taken.chunks().await.0, 3);
        taken.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    let mut client = Client::new(app).await;
    let (mut answer, mut body) = client.start(request("POST", "/").header("expect", "100-continue"), false);
    for (status, link) in [(103, Some("</a>")), (100, None)] {
        let early = timeout(A_WHILE, poll_fn(|cx| answer.poll_informational(cx))).await;
        let early = early.expect("an early answer").expect("one").expect("one");
        let said = early.headers().get("link").map(|value| value.to_str().expect("text"));
        assert_eq!((early.status().as_u16(), said), (status, link));
    }
    send_data(&mut body, x(3), true).await.expect("taken");
    assert_eq!(got(answer).await.expect("an answer").status, 200);
}

#[tokio::test]
async fn streams_have_connections_of_their_own_which_end_when_they_are_idle() {
    const MANY: usize = 60;
    static OPEN: AtomicUsize = AtomicUsize::new(0);
    let all = Arc::new(Barrier::new(MANY));
    let app = app(move |mut taken| {
        let all = Arc::clone(&all);
        async move {
            OPEN.fetch_add(1, Ordering::Relaxed);
            while taken.head().await.is_some() {
                // Nobody is answered before all have asked.
                all.wait().await;
                taken.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx").await;
            }
            OPEN.fetch_sub(1, Ordering::Relaxed);
        }
    })
    .await;
    let mut client = Client::new(app).await;
    let answers: Vec<_> = (0..MANY).map(|_| client.start(request("GET", "/"), true).0).collect();
    for answer in answers {
        assert_eq!(got(answer).await.expect("an answer").body, b"x");
    }
    let idle = async {
        while OPEN.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(A_WHILE, idle).await.expect("none is left open");
    assert!(!client.translation.is_finished(), "the client's own stays");
}

#[tokio::test]
async fn a_stream_that_the_client_resets_is_broken_off() {
    let (over, mut told) = mpsc::unbounded_channel();
    let app = app(move |mut taken| {
        let over = over.clone();
        async move {
            let head = taken.head().await.expect("a request");
            if head.contains("/answering") {
                taken.say("HTTP/1.1 200 OK\r\n\r\nx").await;
            }
            over.send("begun").expect("a test");
            taken.end().await;
            over.send("over").expect("a test");
        }
    })
    .await;
    let mut client = Client::new(app).await;
    for (path, end) in [
        ("/waiting", true),
        ("/sending", false),
        ("/answering", true),
        ("/both/answering", false),
    ] {
        let (answer, mut body) = client.start(request("POST", path), end);
        let answer = tokio::spawn(answer);
        if !end {
            send_data(&mut body, x(10), false).await.expect("taken");
        }
        assert_eq!(told.recv().await, Some("begun"));
        let kept = path.contains("answering").then_some(answer);
        let kept = match kept {
            Some(answer) => Some(answer.await.expect("a task").expect("an answer")),
            None => None,
        };
        body.send_reset(Reason::CANCEL);
        let ended = timeout(A_WHILE, told.recv()).await.expect("an end");
        assert_eq!(ended, Some("over"), "{path}");
        drop(kept);
    }
}

#[tokio::test]
async fn an_app_that_ends_early_is_seen() {
    let app = app(|mut taken| async move {
        let head = taken.head().await.expect("a request");
        match head.split(' ').nth(1) {
            Some("/half") => taken.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await,
            Some("/chunk") => {
                taken
                    .say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf")
                    .await;
            }
            Some("/nonsense") => taken.say("SSH-2.0-none\r\n\r\n").await,
            Some("/refuses") => {
                taken
                    .say("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
                    .await;
            }
            _ => {}
        }
    })
    .await;
    let mut client = Client::new(app).await;
    for path in ["/half", "/chunk", "/", "/nonsense"] {
        let got = client.ask(request("GET", path)).await;
        assert_eq!(reason(got), Some(Reason::INTERNAL_ERROR), "{path}");
    }
    let warned = client.warned.lock().unwrap().clone();
    assert!(warned.len() == 1 && warned[0].contains("cannot be read"), "{warned:?}");
    // What it said before it left counts, also when it has not read the request.
    for _ in 0..20 {
        let (answer, mut body) = client.start(request("POST", "/refuses"), false);
        let send = async {
            let mut sent = 0;
            while sent < ENDLESS && send_data(&mut body, x(1 << 16), false).await.is_ok() {
                sent += 1 << 16;
            }
            assert!(sent < ENDLESS, "the client goes on");
        };
        let (got, ()) = tokio::join!(got(answer), send);
        let got = got.expect("an answer");
        assert_eq!((got.status, &got.body[..]), (413, &b"no"[..]));
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_app_has_closed_costs_no_request() {
    let app = app(|mut taken| async move {
        taken.head().await.expect("a request");
        taken.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx").await;
        // The next one is not answered.
        taken.head().await;
    })
    .await;
    let mut client = Client::new(app).await;
    for _ in 0..5 {
        assert_eq!(client.ask(request("GET", "/")).await.expect("an answer").body, b"x");
    }
    // Whether it was done is not known.
    assert_eq!(
        reason(client.ask(request("POST", "/")).await),
        Some(Reason::INTERNAL_ERROR)
    );
}

#[tokio::test]
async fn an_app_that_is_down_refuses_streams_and_the_client_begins_anew() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = gone.local_addr().expect("an address");
    drop(gone);
    let mut client = Client::new(address).await;
    assert_eq!(
        reason(client.ask(request("GET", "/")).await),
        Some(Reason::REFUSED_STREAM)
    );
    let ended = timeout(A_WHILE, client.translation).await.expect("an end");
    // How the client leaves is its own affair.
    let _ = ended.expect("a task");
}

#[tokio::test]
async fn the_connection_that_is_open_already_is_the_first_to_be_used() {
    let app = app(|mut taken| async move {
        while taken.head().await.is_some() {
            let number = taken.number;
            taken
                .say(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}"))
                .await;
        }
    })
    .await;
    let first = TcpStream::connect(app).await.expect("the app");
    let (near, far) = tokio::io::duplex(1 << 16);
    let warn: Warn = Arc::new(|_| {});
    tokio::spawn(async move { translate(far, Arc::new(app), Some((first, ())), warn, &Underway::default()).await });
    let (mut requests, connection) = h2::client::handshake(near).await.expect("a handshake");
    tokio::spawn(connection);
    let asked = request("GET", "/").body(()).expect("a request");
    let (answer, _) = requests.send_request(asked, true).expect("a connection");
    assert_eq!(got(answer).await.expect("an answer").body, b"0");
}

#[tokio::test]
async fn websockets_are_upgraded() {
    let (ended, end) = oneshot::channel();
    let ended = Arc::new(Mutex::new(Some(ended)));
    let app = app(move |mut taken| {
        let ended = Arc::clone(&ended);
        async move {
            let head = taken.head().await.expect("a request");
            if !head.starts_with("GET /ws ") {
                taken.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").await;
                return;
            }
            for line in ["connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: "] {
                assert!(head.contains(&format!("\r\n{line}")), "{head}");
            }
            taken
                .say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nhello ")
                .await;
            let mut said = [0; 3];
            taken.socket.read_exact(&mut said).await.expect("three bytes");
            taken.say(said).await;
            taken.end().await;
            let ended = ended.lock().unwrap().take();
            ended.expect("one").send(()).expect("a test");
        }
    })
    .await;
    let mut client = Client::new(app).await;
    // Its server has to have said that it knows them.
    assert_eq!(client.ask(request("GET", "/")).await.expect("an answer").status, 200);
    assert!(client.requests.is_extended_connect_protocol_enabled());
    let ask = |path| {
        let asked = request("CONNECT", path).header("sec-websocket-version", "13");
        asked.extension(Protocol::from_static("websocket"))
    };
    assert_eq!(client.ask(ask("/other")).await.expect("an answer").status, 502);
    let (answer, mut up) = client.start(ask("/ws"), false);
    let answer = timeout(A_WHILE, answer).await.expect("an answer").expect("an answer");
    assert_eq!((answer.status(), answer.headers().len()), (StatusCode::OK, 0));
    send_data(&mut up, x(3), false).await.expect("taken");
    let mut down = answer.into_body();
    let mut heard = Vec::new();
    while heard.len() < 9 {
        let bytes = timeout(A_WHILE, down.data())
            .await
            .expect("more")
            .expect("more")
            .expect("more");
        heard.extend_from_slice(&bytes);
    }
    assert_eq!(heard, b"hello xxx");
    send_data(&mut up, Bytes::new(), true).await.expect("taken");
    timeout(A_WHILE, end).await.expect("an end").expect("an end");
}
