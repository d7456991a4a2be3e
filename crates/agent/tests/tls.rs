//! TLS of a stolen port, terminated with the app's own certificate.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "common/agreed.rs"]
mod agreed;
mod common;
#[path = "common/pki.rs"]
mod pki;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agreed::{ask_http2, http2, speak};
use common::http::{answer, ask};
use common::{CLIENT, POD, Session, World, in_time, until, world};
use pki::{Authority, Pair, of_client};
use rules::Term;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::client::TlsStream;
use wire::message::{Bytes, Claim, ClaimMode, ClaimState, Event, Open, Pem, Probe, RequestBody, Terminated, Tls};

const PORT: u16 = 8443;
const NAME: &str = "app.test";
const BOTH: &[&str] = &["h2", "http/1.1"];

struct Fixture {
    world: World,
    authority: Authority,
    /// The app's.
    pair: Pair,
}

impl Fixture {
    /// A pod with the app's certificate and key in its files.
    fn new() -> Self {
        let authority = Authority::new("authority");
        let pair = authority.issue(NAME);
        let fixture = Self {
            world: world(),
            authority,
            pair,
        };
        fixture.put("tls.crt", &fixture.pair.certificate);
        fixture.put("tls.key", &fixture.pair.key);
        fixture
    }

    fn place(&self, name: &str) -> PathBuf {
        self.world.pod.path(&format!("/srv/{name}"))
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.place(name), text).unwrap();
    }

    /// The real app speaks TLS, HTTP/1 or HTTP/2 as was agreed.
    fn app(&self, protocols: &[&str]) -> Arc<AtomicUsize> {
        self.app_with(self.authority.acceptor(&self.pair, protocols, false))
    }

    /// Gives the number of its connections.
    fn app_with(&self, acceptor: TlsAcceptor) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let listener = self.world.pod.listen(&format!("0.0.0.0:{PORT}"));
        tokio::spawn(async move {
            while let Ok((socket, peer)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else {
                        return;
                    };
                    let who = format!("real {} {}", peer.ip(), of_client(&stream));
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    speak(stream, who, http2).await;
                });
            }
        });
        count
    }

    fn tcp(&self) -> TcpStream {
        self.world.client.connect(&format!("{POD}:{PORT}")).unwrap()
    }

    async fn connect(&self, protocols: &[&str]) -> TlsStream<TcpStream> {
        self.connect_as(protocols, None).await.unwrap()
    }

    async fn connect_as(&self, protocols: &[&str], own: Option<&Pair>) -> io::Result<TlsStream<TcpStream>> {
        let connector = self.authority.connector(protocols, own);
        in_time(connector.connect(NAME.try_into().unwrap(), self.tcp())).await
    }

    async fn session(&self) -> Session {
        common::direct(self.world.pod.pid).await
    }

    /// Somebody who steals and answers.
    async fn steal(&self, claim: Claim) -> Session {
        let session = self.session().await;
        assert_eq!(claims(&session, claim).await, ClaimState::Active { older: 0 });
        local(session, "local").await
    }
}

/// Answers stolen connections in the session's place; says whether they were encrypted.
async fn local(mut session: Session, who: &'static str) -> Session {
    let mut acceptor = session.take_acceptor().await;
    tokio::spawn(async move {
        while let Some(opened) = acceptor.next().await {
            match opened {
                Ok((Open::Terminated(terminated), stream)) => {
                    let Terminated {
                        incoming,
                        server_name,
                        protocol,
                    } = terminated;
                    let text = protocol.as_ref().map(|protocol| String::from_utf8_lossy(&protocol.0));
                    let http2 = text.as_deref() == Some("h2");
                    let who = format!(
                        "{who} {} {} {}",
                        incoming.client.ip(),
                        server_name.as_deref().unwrap_or("-"),
                        text.as_deref().unwrap_or("-")
                    );
                    tokio::spawn(speak(stream, who, http2));
                }
                Ok((Open::Incoming(incoming), stream)) => {
                    tokio::spawn(answer(stream, format!("{who} {} in the clear", incoming.client.ip())));
                }
                other => panic!("{other:?}"),
            }
        }
    });
    session
}

fn path(name: &str) -> Pem {
    Pem::Path(Bytes(format!("/srv/{name}").into_bytes()))
}

fn tls() -> Tls {
    Tls {
        certificate: path("tls.crt"),
        key: path("tls.key"),
        client_ca: None,
        client_identity: None,
    }
}

fn claim(user: Option<&str>, tls: Tls) -> Claim {
    let exact = |user: &str| Term::Is(format!("X-User={user}"));
    Claim {
        filter: user.map(exact).into_iter().collect(),
        probes: vec![Probe::Http {
            port: PORT,
            path: "/healthz".to_owned(),
            headers: vec![],
        }],
        tls: Some(tls),
        ..common::claim(PORT, ClaimMode::Steal)
    }
}

async fn claims(session: &Session, claim: Claim) -> ClaimState {
    session.claims(vec![claim]).await.into_iter().next().unwrap()
}

async fn warning(session: &mut Session) -> String {
    loop {
        if let Event::Warning(text) = in_time(session.events.recv()).await.unwrap() {
            return text;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_filtered_inside_of_tls() {
    let fixture = Fixture::new();
    let connections = fixture.app(&["http/1.1"]);
    let _session = fixture.steal(claim(Some("ada"), tls())).await;
    for protocols in [BOTH, &[]] {
        let agreed = if protocols.is_empty() { "-" } else { "http/1.1" };
        let mut client = fixture.connect(protocols).await;
        for _ in 0..3 {
            assert_eq!(
                ask(&mut client, "GET /b HTTP/1.1\r\nX-User: bob").await,
                format!("real {CLIENT} {NAME} {agreed} anonymous GET /b HTTP/1.1")
            );
            assert_eq!(
                ask(&mut client, "GET /a HTTP/1.1\r\nX-User: ada").await,
                format!("local {CLIENT} {NAME} {agreed} GET /a HTTP/1.1")
            );
        }
    }
    // The connection that was opened to ask the app is the first one to be used.
    assert_eq!(connections.load(Ordering::Relaxed), 2);
    // What is not TLS is as without.
    let mut clear = fixture.tcp();
    let got = ask(&mut clear, "GET /a HTTP/1.1\r\nX-User: ada").await;
    assert_eq!(got, format!("local {CLIENT} in the clear GET /a HTTP/1.1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_agreed_on_where_the_real_app_speaks_it() {
    let fixture = Fixture::new();
    fixture.app(BOTH);
    let _session = fixture.steal(claim(Some("ada"), tls())).await;
    let client = http2(fixture.connect(BOTH).await).await;
    for _ in 0..3 {
        let real = ask_http2(&client, "/b", ("x-user", "bob")).await;
        assert_eq!(real, format!("real {CLIENT} {NAME} h2 anonymous /b"));
        let local = ask_http2(&client, "/a", ("x-user", "ada")).await;
        assert_eq!(local, format!("local {CLIENT} {NAME} h2 /a"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfiltered_steal_leaves_https_probes_to_the_real_app() {
    let fixture = Fixture::new();
    fixture.app(BOTH);
    let _session = fixture.steal(claim(None, tls())).await;
    let mut client = fixture.connect(&[]).await;
    let probe = "GET /healthz HTTP/1.1\r\nUser-Agent: kube-probe/1.34";
    assert_eq!(
        ask(&mut client, probe).await,
        format!("real {CLIENT} {NAME} - anonymous GET /healthz HTTP/1.1")
    );
    let got = ask(&mut client, "GET /a HTTP/1.1").await;
    assert_eq!(got, format!("local {CLIENT} {NAME} - GET /a HTTP/1.1"));
    // The kubelet speaks HTTP/2 where the app does.
    let client = http2(fixture.connect(BOTH).await).await;
    let got = ask_http2(&client, "/healthz", ("user-agent", "kube-probe/1.34")).await;
    assert_eq!(got, format!("real {CLIENT} {NAME} h2 anonymous /healthz"));
    let got = ask_http2(&client, "/a", ("user-agent", "curl")).await;
    assert_eq!(got, format!("local {CLIENT} {NAME} h2 /a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_app_that_is_down_is_not_missed() {
    let fixture = Fixture::new();
    let _session = fixture.steal(claim(None, tls())).await;
    let mut client = fixture.connect(BOTH).await;
    let got = ask(&mut client, "GET /a HTTP/1.1").await;
    assert_eq!(got, format!("local {CLIENT} {NAME} http/1.1 GET /a HTTP/1.1"));
    let client = http2(fixture.connect(&["h2"]).await).await;
    let got = ask_http2(&client, "/a", ("x-user", "ada")).await;
    assert_eq!(got, format!("local {CLIENT} {NAME} h2 /a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_inside_and_not_http_reaches_the_session_that_has_the_port() {
    let fixture = Fixture::new();
    let mut session = fixture.session().await;
    assert_eq!(
        claims(&session, claim(None, tls())).await,
        ClaimState::Active { older: 0 }
    );
    let mut acceptor = session.take_acceptor().await;
    for server_first in [false, true] {
        let mut client = fixture.connect(&["own"]).await;
        assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"own"[..]));
        if !server_first {
            client.write_all(b"\x01\x02").await.unwrap();
        }
        let (open, mut stream) = in_time(acceptor.next()).await.unwrap().unwrap();
        let Open::Terminated(terminated) = open else {
            panic!("{open:?}")
        };
        assert_eq!(terminated.incoming.client, client.get_ref().0.local_addr().unwrap());
        assert_eq!(terminated.protocol, Some(Bytes(b"own".to_vec())));
        stream.write_all(b"hello").await.unwrap();
        stream.flush().await.unwrap();
        let mut greeting = [0; 5];
        in_time(client.read_exact(&mut greeting)).await.unwrap();
        assert_eq!(&greeting, b"hello");
        // Each direction ends by itself.
        client.write_all(b"the end").await.unwrap();
        client.shutdown().await.unwrap();
        let mut all = Vec::new();
        in_time(stream.read_to_end(&mut all)).await.unwrap();
        assert!(all.ends_with(b"the end"), "{all:?}");
        stream.write_all(b"bye").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        in_time(client.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(rest, b"bye", "ended by close_notify");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_is_refused_by_name() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    fixture.put("other.key", &fixture.authority.issue(NAME).key);
    fixture.put("large.crt", &"x".repeat(70 << 10));
    let check = async |certificate: Pem, key: Pem, expect: &str| {
        let tls = Tls {
            certificate,
            key,
            ..tls()
        };
        match claims(&session, claim(None, tls)).await {
            ClaimState::Refused(why) => assert!(why.contains(expect), "{why:?} is not {expect:?}"),
            other => panic!("{other:?} for {expect}"),
        }
    };
    let content = |text: &str| Pem::Content(Bytes(text.into()));
    check(
        path("none.crt"),
        path("tls.key"),
        "certificate /srv/none.crt in the pod: No such file",
    )
    .await;
    check(
        path("tls.crt"),
        path("none.key"),
        "key /srv/none.key in the pod: No such file",
    )
    .await;
    check(
        path("tls.crt"),
        path("other.key"),
        "key /srv/other.key in the pod: it does not belong",
    )
    .await;
    check(
        path("tls.key"),
        path("tls.key"),
        "certificate /srv/tls.key in the pod: it holds no certificate",
    )
    .await;
    check(
        path("large.crt"),
        path("tls.key"),
        "/srv/large.crt in the pod: it is larger than 64 KiB",
    )
    .await;
    check(path(""), path("tls.key"), "/srv/ in the pod: it is no regular file").await;
    check(
        path("tls.crt"),
        content("x"),
        "key of the session's machine: it holds no private key",
    )
    .await;
    // Given from outside they do as well.
    let given = Tls {
        certificate: content(&fixture.pair.certificate),
        key: content(&fixture.pair.key),
        ..tls()
    };
    assert_eq!(
        claims(&session, claim(None, given)).await,
        ClaimState::Active { older: 0 }
    );
}

/// Many clients close the connection and leave it at that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direction_may_end_without_close_notify() {
    let fixture = Fixture::new();
    let mut session = fixture.session().await;
    assert_eq!(
        claims(&session, claim(None, tls())).await,
        ClaimState::Active { older: 0 }
    );
    let mut client = fixture.connect(&[]).await;
    client.write_all(b"the end").await.unwrap();
    client.flush().await.unwrap();
    let (mut transport, _) = client.into_inner();
    transport.shutdown().await.unwrap();
    let (_, mut stream) = in_time(session.acceptor.next()).await.unwrap().unwrap();
    let mut all = Vec::new();
    in_time(stream.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"the end");
}

/// As the kubelet renews a Secret: another directory behind the same name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_used() {
    let fixture = Fixture::new();
    let secret = |generation: &str, pair: &Pair, key: &str| {
        std::fs::create_dir(fixture.place(generation)).unwrap();
        fixture.put(&format!("{generation}/tls.crt"), &pair.certificate);
        fixture.put(&format!("{generation}/tls.key"), key);
        std::os::unix::fs::symlink(generation, fixture.place("..tmp")).unwrap();
        std::fs::rename(fixture.place("..tmp"), fixture.place("..data")).unwrap();
    };
    let (first, second) = (fixture.authority.issue(NAME), fixture.authority.issue(NAME));
    secret("..1", &first, &first.key);
    let wanted = Tls {
        certificate: path("..data/tls.crt"),
        key: path("..data/tls.key"),
        ..tls()
    };
    let mut session = fixture.steal(claim(None, wanted)).await;
    let presented = async || {
        let client = fixture.connect(&[]).await;
        client.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let before = presented().await;
    assert_eq!(presented().await, before);
    // One that is half there changes nothing.
    secret("..2", &second, &first.key);
    until("the failed renewal is told", async || {
        assert_eq!(presented().await, before);
        tokio::time::timeout(std::time::Duration::from_millis(50), warning(&mut session))
            .await
            .is_ok_and(|text| text.contains("..data/tls.key in the pod: it does not belong"))
    })
    .await;
    secret("..3", &second, &second.key);
    until("the renewed certificate", async || presented().await != before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_certificates_are_verified_and_the_sessions_own_presented() {
    let fixture = Fixture::new();
    fixture.app_with(fixture.authority.acceptor(&fixture.pair, &[], true));
    let own = fixture.authority.issue("inpod.test");
    fixture.put("ca.crt", &fixture.authority.certificate);
    fixture.put("own.crt", &own.certificate);
    fixture.put("own.key", &own.key);
    let wanted = Tls {
        client_ca: Some(path("ca.crt")),
        client_identity: Some((path("own.crt"), path("own.key"))),
        ..tls()
    };
    let mut session = fixture.steal(claim(Some("ada"), wanted)).await;
    let person = fixture.authority.issue("person.test");
    let mut client = fixture.connect_as(&[], Some(&person)).await.unwrap();
    assert_eq!(
        ask(&mut client, "GET /b HTTP/1.1\r\nX-User: bob").await,
        format!("real {CLIENT} {NAME} - certified GET /b HTTP/1.1")
    );
    let got = ask(&mut client, "GET /a HTTP/1.1\r\nX-User: ada").await;
    assert_eq!(got, format!("local {CLIENT} {NAME} - GET /a HTTP/1.1"));
    // Nobody comes in without one, or with one of somebody else's.
    let stranger = Authority::new("stranger").issue("person.test");
    for own in [None, Some(&stranger)] {
        let refused = async {
            let mut client = fixture.connect_as(&[], own).await?;
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
            client.read_u8().await
        };
        let error = in_time(refused).await.unwrap_err();
        assert!(error.to_string().contains("alert"), "{error}");
    }
    let told = warning(&mut session).await;
    assert!(
        told.contains("a client's TLS handshake failed: peer sent no certificates"),
        "{told}"
    );
    // Without one of the session's own the app does not answer, and the session knows why.
    claims(&session, claim(Some("ada"), tls())).await;
    drop(fixture.connect_as(&[], None).await);
    until("the missing certificate is told", async || {
        warning(&mut session)
            .await
            .contains("the real app asks for a client certificate")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_fails_is_told_once() {
    let fixture = Fixture::new();
    fixture.app(&[]);
    let mut session = fixture.steal(claim(Some("ada"), tls())).await;
    let stranger = Authority::new("stranger");
    for _ in 0..3 {
        let connecting = stranger
            .connector(&[], None)
            .connect(NAME.try_into().unwrap(), fixture.tcp());
        in_time(connecting).await.unwrap_err();
    }
    let told = warning(&mut session).await;
    assert!(
        told.contains("a client's TLS handshake failed: received fatal alert: UnknownCA"),
        "{told}"
    );
    // A hello that is none: an alert comes back. One that is cut: nothing to tell.
    let mut client = fixture.tcp();
    client
        .write_all(b"\x16\x03\x01\x00\x09\x01\x00\x00\x05hello")
        .await
        .unwrap();
    let mut alert = Vec::new();
    let _ = in_time(client.read_to_end(&mut alert)).await;
    assert_eq!(alert.first(), Some(&0x15), "{alert:?}");
    drop(fixture.tcp());
    let told = warning(&mut session).await;
    assert!(
        told.contains("a client's TLS handshake failed") && !told.contains("UnknownCA"),
        "{told}"
    );
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(200), session.events.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

/// The real app does not speak TLS there: what is the session's is served all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_app_without_tls_is_told_of() {
    let fixture = Fixture::new();
    let listener = fixture.world.pod.listen(&format!("0.0.0.0:{PORT}"));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let mut session = fixture.steal(claim(Some("ada"), tls())).await;
    let mut client = fixture.connect(BOTH).await;
    let got = ask(&mut client, "GET /a HTTP/1.1\r\nX-User: ada").await;
    assert_eq!(got, format!("local {CLIENT} {NAME} http/1.1 GET /a HTTP/1.1"));
    client.write_all(b"GET /b HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(in_time(client.read_u8()).await.is_err());
    let told = warning(&mut session).await;
    assert!(told.contains("the real app does not take TLS"), "{told}");
}

/// The first claim's certificate counts, and who has not asked for TLS sees nothing of what is inside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_differ_about_a_port() {
    let fixture = Fixture::new();
    fixture.app(&["http/1.1"]);
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("agent.sock");
    let _agent = common::serve(&fixture.world, &socket, "60").await;
    let without = Claim {
        tls: None,
        ..claim(Some("eve"), tls())
    };
    let eve = common::attach(&socket, "eve").await;
    assert_eq!(claims(&eve, without).await, ClaimState::Active { older: 0 });
    let _eve = local(eve, "eve").await;
    let ada = common::attach(&socket, "ada").await;
    assert_eq!(
        claims(&ada, claim(Some("ada"), tls())).await,
        ClaimState::Active { older: 0 }
    );
    let ada = local(ada, "ada").await;
    let other = fixture.authority.issue("other.test");
    fixture.put("other.crt", &other.certificate);
    fixture.put("other.key", &other.key);
    let wanted = Tls {
        certificate: path("other.crt"),
        key: path("other.key"),
        ..tls()
    };
    let bob = common::attach(&socket, "bob").await;
    assert_eq!(
        claims(&bob, claim(Some("bob"), wanted)).await,
        ClaimState::Active { older: 0 }
    );
    let mut bob = local(bob, "bob").await;
    let told = warning(&mut bob).await;
    assert!(told.contains("with the certificate that ada has given"), "{told}");
    let mut client = fixture.connect(&[]).await;
    for (user, who) in [("ada", "ada"), ("bob", "bob"), ("eve", "real")] {
        let got = ask(&mut client, &format!("GET / HTTP/1.1\r\nX-User: {user}")).await;
        assert!(got.starts_with(who), "{user}: {got}");
    }
    let mut clear = fixture.tcp();
    let got = ask(&mut clear, "GET / HTTP/1.1\r\nX-User: eve").await;
    assert!(got.starts_with("eve"), "{got}");
    // The next one's is used when the first is gone.
    ada.call(RequestBody::Goodbye).await;
    let connector = fixture.authority.connector(&[], None);
    let stream = in_time(connector.connect("other.test".try_into().unwrap(), fixture.tcp())).await;
    let mut client = stream.unwrap();
    let got = ask(&mut client, "GET / HTTP/1.1\r\nX-User: bob").await;
    assert!(got.starts_with("bob"), "{got}");
}
