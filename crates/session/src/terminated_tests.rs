//! Decrypted connections, as an agent would hand them over, and local apps of each kind.

use guest::channel::Channel;
use guest::protocol::FromServer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use wire::Hello as LinkHello;
use wire::message::{ClaimMode, Incoming, Open};

use super::*;

const PORT: u16 = 8443;

/// The agent's end of the link, the session's streams, and what the session says.
struct Fixture {
    link: wire::Link,
    acceptor: wire::Acceptor,
    ports: TerminatedPorts,
    said: Channel,
    identity: (String, String),
}

impl Fixture {
    async fn new(app: &str) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let hello = || LinkHello::new([1; 16], [2; 16], "ada");
        let (session, agent) = tokio::join!(wire::connect(ours, hello()), wire::accept(theirs, |_| hello()));
        let (link, _, _) = agent.expect("a link");
        let (own, acceptor, _) = session.expect("a link");
        let files = FilesClient::open(&own).await.expect("streams");
        let (channel, said) = Channel::pair().expect("a channel");
        let (guests, _) = crate::guests::split(channel).expect("a thread");
        let made = rcgen::generate_simple_self_signed(["app.test".to_owned()]).expect("a certificate");
        let wanted = TlsPort {
            certificate: Pem::Pod("/tls.crt".into()),
            key: Pem::Pod("/tls.key".into()),
            plain: app == "plain",
            client_ca: None,
            client_identity: None,
        };
        let ports = load(&[(PORT, wanted)].into(), &files, &guests).await;
        Self {
            link,
            acceptor,
            ports: ports.unwrap_or_else(|error| panic!("{error}")),
            said,
            identity: (made.cert.pem(), made.signing_key.serialize_pem()),
        }
    }

    fn termination(&self) -> tls::Termination {
        let identity = Identity::from_pem(self.identity.0.as_bytes(), self.identity.1.as_bytes()).expect("usable");
        tls::Termination::new(&identity, None).expect("usable")
    }

    /// A client's stream, as the agent and the session have it.
    async fn stream(&mut self) -> (Stream, Stream) {
        let (client, server) = ("10.0.0.2:1".parse(), "10.0.0.1:8443".parse());
        let incoming = Incoming {
            mode: ClaimMode::Steal,
            port: PORT,
            client: client.expect("an address"),
            server: server.expect("an address"),
        };
        let ours = self.link.open(&Open::Incoming(incoming), &[]).await.expect("a stream");
        let (_, theirs) = self.acceptor.next().await.expect("the link").expect("a stream");
        (ours, theirs)
    }

    /// What a client gets who says `question`, and how the session sees the end.
    async fn ask(&mut self, listener: &TcpListener, protocol: Option<&str>) -> (io::Result<String>, io::Result<()>) {
        let (mut stream, theirs) = self.stream().await;
        let app = listener.local_addr().expect("an address");
        let client = async {
            stream.write_all(b"question").await?;
            stream.shutdown().await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        let (hello, underway) = (hello(protocol), Underway::default());
        tokio::join!(client, self.ports.join(PORT, &hello, app, theirs, &underway))
    }

    /// What a client of HTTP/2 is answered.
    async fn ask_http2(&mut self, app: impl App<Connection = TcpStream>) -> Result<String, h2::Error> {
        let (stream, theirs) = self.stream().await;
        let hello = hello(Some("h2"));
        let client = async {
            let (mut requests, connection) = h2::client::handshake(stream).await?;
            let talk = async {
                let request = http::Request::builder().uri("https://app.test/a").body(());
                let (answer, _) = requests.send_request(request.expect("a request"), true)?;
                let mut body = answer.await?.into_body();
                let mut said = Vec::new();
                while let Some(bytes) = body.data().await {
                    said.extend_from_slice(&bytes?);
                }
                Ok(String::from_utf8(said).expect("text"))
            };
            tokio::select! {
                said = talk => said,
                ended = connection => Err(ended.err().unwrap_or_else(|| h2::Reason::CANCEL.into())),
            }
        };
        tokio::select! {
            said = client => said,
            joined = async {
                let joined = self.ports.join(PORT, &hello, app, theirs, &Underway::default()).await;
                // What was said last is still on its way.
                tokio::time::sleep(HANDSHAKE).await;
                joined
            } => panic!("{joined:?}"),
        }
    }

    fn warning(&self) -> String {
        match self.said.receive() {
            Ok((FromServer::Event(Event::Warning { message }), _)) => message,
            other => panic!("{other:?}"),
        }
    }
}

fn hello(protocol: Option<&str>) -> Hello {
    Hello {
        server_name: Some("app.test".to_owned()),
        protocols: protocol.map(|protocol| protocol.into()).into_iter().collect(),
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("loopback")
}

/// Answers with what it was told of the client, and what that has said until its end.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, of: &str) {
    let mut question = String::new();
    stream.read_to_string(&mut question).await.expect("a question");
    stream
        .write_all(format!("{of} {question}").as_bytes())
        .await
        .expect("a client");
    stream.shutdown().await.expect("a client");
}

#[tokio::test]
async fn an_app_with_tls_gets_the_clients_hello() {
    let mut fixture = Fixture::new("tls").await;
    let (listener, termination) = (listen().await, fixture.termination());
    let app = async {
        let waiting = tls::accept(listener.accept().await.expect("a client").0)
            .await
            .expect("a hello");
        let hello = waiting.hello();
        assert_eq!(hello.protocols, [&b"h2"[..], b"http/1.1"]);
        let stream = waiting.answer(&termination, Some(b"h2")).await.expect("agreed");
        answer(stream, &hello.server_name.expect("a name")).await;
    };
    let ((), (answered, ended)) = tokio::join!(app, fixture.ask(&listener, Some("h2")));
    assert_eq!(answered.expect("an answer"), "app.test question");
    ended.expect("an end in order");
}

#[tokio::test]
async fn a_plain_app_gets_what_was_decrypted() {
    let mut fixture = Fixture::new("plain").await;
    let listener = listen().await;
    let app = async { answer(listener.accept().await.expect("a client").0, "plain").await };
    let ((), (answered, ended)) = tokio::join!(app, fixture.ask(&listener, None));
    assert_eq!(answered.expect("an answer"), "plain question");
    ended.expect("an end in order");
}

#[tokio::test]
async fn an_app_that_does_not_speak_as_expected_is_told_of() {
    let mut fixture = Fixture::new("tls").await;
    let (listener, termination) = (listen().await, fixture.termination());
    let app = async {
        let (mut socket, _) = listener.accept().await.expect("a client");
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("a client");
        let _ = socket.read(&mut [0; 512]).await;
    };
    let ((), (answered, ended)) = tokio::join!(app, fixture.ask(&listener, None));
    assert!(answered.is_err() && ended.is_err(), "{answered:?} {ended:?}");
    let told = fixture.warning();
    assert!(
        told.starts_with("port 8443: the program does not speak TLS there") && told.contains("CERTIFICATE,KEY,plain"),
        "{told}"
    );
    let app = async {
        let waiting = tls::accept(listener.accept().await.expect("a client").0)
            .await
            .expect("a hello");
        let mut stream = waiting.answer(&termination, None).await.expect("agreed");
        let _ = stream.read(&mut [0; 1]).await;
    };
    let ((), (answered, ended)) = tokio::join!(app, fixture.ask(&listener, Some("postgresql")));
    assert!(answered.is_err() && ended.is_err(), "{answered:?} {ended:?}");
    let told = fixture.warning();
    assert!(
        told.contains("the program does not speak `postgresql` over TLS, which the pod's app"),
        "{told}"
    );
}

#[tokio::test]
async fn a_port_that_was_named_in_vain_is_told_of() {
    let fixture = Fixture::new("tls").await;
    fixture.ports.tell_unused();
    let told = fixture.warning();
    assert!(
        told.starts_with("port 8443: the program never listened on it"),
        "{told}"
    );
    let fixture = Fixture::new("tls").await;
    assert!(fixture.ports.claim(PORT).is_some());
    fixture.ports.tell_unused();
    fixture.ports.told.warn(PORT, "the next that is said");
    assert_eq!(fixture.warning(), "port 8443: the next that is said");
}

/// Answers requests of HTTP/1 with their line.
async fn http1(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut head = Vec::new();
    while stream.read_buf(&mut head).await.expect("a client") > 0 {
        if head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&std::mem::take(&mut head)).into_owned();
            let line = text.lines().next().unwrap_or_default();
            let known = line.ends_with("HTTP/1.1");
            let status = if known {
                "200 OK"
            } else {
                "505 HTTP Version Not Supported"
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{line}", line.len());
            stream.write_all(answer.as_bytes()).await.expect("a client");
            if !known {
                return;
            }
        }
    }
}

async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut connection = h2::server::handshake(stream).await.expect("a client");
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let mut stream = respond.send_response(http::Response::new(()), false).expect("a client");
        let line = format!("h2 {}", request.uri().path());
        stream.send_data(line.into(), true).expect("a client");
    }
}

/// An app that says which of its listeners it has.
struct Listening(std::net::SocketAddr, u64);

impl App for Listening {
    type Connection = TcpStream;
    type Kept = ();

    async fn connect(&self) -> io::Result<(TcpStream, ())> {
        self.0.connect().await
    }

    fn listener(&self) -> Option<SocketCookie> {
        Some(SocketCookie(self.1))
    }
}

#[tokio::test]
async fn an_app_with_tls_but_not_http2_gets_requests_of_http1() {
    let mut fixture = Fixture::new("tls").await;
    for agrees in [Some(&b"http/1.1"[..]), None] {
        let (listener, termination) = (listen().await, fixture.termination());
        let address = listener.local_addr().expect("an address");
        let app = tokio::spawn(async move {
            for offered in [&[&b"h2"[..], b"http/1.1"][..], &[b"http/1.1"]] {
                let waiting = tls::accept(listener.accept().await.expect("a client").0)
                    .await
                    .expect("a hello");
                assert_eq!(waiting.hello().protocols, offered);
                let mut stream = waiting.answer(&termination, agrees).await.expect("agreed");
                http1(&mut stream).await;
            }
        });
        assert_eq!(fixture.ask_http2(address).await.expect("an answer"), "GET /a HTTP/1.1");
        app.abort();
    }
    let told = fixture.warning();
    assert_eq!(
        told,
        "port 8443: the program does not speak `h2` over TLS: its requests are handed to it as HTTP/1.1"
    );
}

#[tokio::test]
async fn a_plain_app_gets_the_version_of_http_that_it_speaks() {
    let mut fixture = Fixture::new("plain").await;
    let listener = listen().await;
    let address = listener.local_addr().expect("an address");
    let app = tokio::spawn(async move { http2(listener.accept().await.expect("a client").0).await });
    assert_eq!(
        fixture.ask_http2(Listening(address, 1)).await.expect("an answer"),
        "h2 /a"
    );
    app.abort();
    // Another program, which is asked once.
    let listener = listen().await;
    let address = listener.local_addr().expect("an address");
    let (taken, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let mut socket = listener.accept().await.expect("a client").0;
            taken.send(()).expect("a test");
            tokio::spawn(async move { http1(&mut socket).await });
        }
    });
    for _ in 0..3 {
        let said = fixture.ask_http2(Listening(address, 2)).await.expect("an answer");
        assert_eq!(said, "GET /a HTTP/1.1");
    }
    let mut connections = 0;
    while told.try_recv().is_ok() {
        connections += 1;
    }
    assert_eq!(connections, 4);
    let told = fixture.warning();
    assert_eq!(
        told,
        "port 8443: the program does not speak HTTP/2: requests that come over it are handed to it as HTTP/1.1"
    );
    // And again another.
    let listener = listen().await;
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { http2(listener.accept().await.expect("a client").0).await });
    assert_eq!(
        fixture.ask_http2(Listening(address, 3)).await.expect("an answer"),
        "h2 /a"
    );
}

#[tokio::test]
async fn a_plain_app_that_says_nothing_is_asked_again_the_next_time() {
    let mut fixture = Fixture::new("plain").await;
    let listener = listen().await;
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (_silent, _) = listener.accept().await.expect("a client");
        http1(listener.accept().await.expect("a client").0).await;
        http2(listener.accept().await.expect("a client").0).await;
    });
    let app = || Listening(address, 1);
    assert_eq!(fixture.ask_http2(app()).await.expect("an answer"), "GET /a HTTP/1.1");
    let told = fixture.warning();
    assert!(
        told.contains("the program has not answered HTTP/2 within 2 s"),
        "{told}"
    );
    assert_eq!(fixture.ask_http2(app()).await.expect("an answer"), "h2 /a");
}

#[test]
fn this_machines_files_are_bounded() {
    let place = std::env::temp_dir().join(format!("inpod-tls-{}", std::process::id()));
    let check = |size: usize, sent: usize, expect: Result<usize, &str>| {
        std::fs::write(&place, vec![b'x'; size]).expect("a temporary file");
        let mut total = sent;
        let read = for_agent(&Pem::Local(place.clone()), &mut total);
        match (read, expect) {
            (Ok(message::Pem::Content(content)), Ok(length)) => assert_eq!(content.0.len(), length),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            other => panic!("{other:?}"),
        }
    };
    check(MAX_PEM, 0, Ok(MAX_PEM));
    check(MAX_PEM + 1, 0, Err("it is larger than 64 KiB"));
    check(MAX_PEM, MAX_SENT - 1, Err("more than 512 KiB would go to the agent"));
    std::fs::remove_file(&place).expect("it was made here");
    let error = for_agent(&Pem::Local(place), &mut 0).expect_err("it is gone");
    assert!(
        error
            .to_string()
            .contains("of this machine cannot be used for TLS: No such file"),
        "{error}"
    );
}
