//! Scripts for both ends, played over in-memory pipes under a paused clock: a hang is a timeout at once.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use http_route::{Connection, Content, Options, RequestHead, Router, SessionId, Summary, Upstream, Upstreams, route};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream, DuplexStream, ReadBuf, duplex};
use tokio::sync::Notify;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

pub const REAL: Upstream = Upstream::Real;
pub const S1: Upstream = Upstream::Session(SessionId(1));
pub const S2: Upstream = Upstream::Session(SessionId(2));

/// Requests for `/1...` and `/2...` go to sessions.
pub fn decide(head: &RequestHead<'_>) -> Upstream {
    match head.target().as_bytes() {
        [b'/', b'1', ..] => S1,
        [b'/', b'2', ..] => S2,
        _ => REAL,
    }
}

/// As [`decide`]; requests for `/by-body` are a session's where their body is `me`. Behind one for `/leave` the client is to
/// go elsewhere, at once, or some time after one for `/leave-later`.
#[derive(Default)]
pub struct Decide {
    leave: Notify,
    leave_later: Notify,
}

impl Router for Decide {
    fn decide(&self, head: &RequestHead<'_>, content: Content<'_>) -> Option<Upstream> {
        match head.path() {
            "/leave" => self.leave.notify_one(),
            "/leave-later" => self.leave_later.notify_one(),
            _ => {}
        }
        match (head.path(), content) {
            ("/by-body", Content::Coming) => None,
            ("/by-body", Content::Whole(b"me")) => Some(S1),
            _ => Some(decide(head)),
        }
    }

    fn leaves(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            tokio::select! {
                () = self.leave.notified() => {}
                () = self.leave_later.notified() => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        })
    }
}

/// For a client's turn: waits until everything else has been done.
pub const SETTLE: &str = "...";

/// What an upstream does behind its script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Waits for the end, and for no byte before it.
    Wait,
    /// Closes.
    Close,
    /// Closes when everybody else has done what there is to do.
    CloseLater,
}

/// One connection that an upstream gets: what comes, and what it says then.
pub type Script<'a> = (Upstream, &'a [(&'a str, &'a str)], Then);

/// A [`Script`] for a task.
type Owned = (Upstream, Vec<(String, String)>, Then);

pub struct Case<'a> {
    /// What the client sends, and what it must get before it goes on. Then it half-closes, if `half_close`, and must get
    /// the end.
    pub client: &'a [(&'a str, &'a str)],
    pub half_close: bool,
    /// Connections in the order in which each upstream gets them; all must be opened. Others are refused.
    pub upstreams: &'a [Script<'a>],
}

/// Plays it with everything cut in many ways; all ways must give the same summary.
pub fn check(case: &Case<'_>) -> Summary {
    let whole = usize::MAX;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let expect = runtime.block_on(play(case, whole, whole));
    let longest = case.client.iter().map(|(send, _)| send.len()).max().unwrap_or(0);
    for by in [1, 2, 3, 7].into_iter().chain(8..longest) {
        assert_eq!(runtime.block_on(play(case, by, whole)), expect, "client by {by}");
    }
    let longest = case
        .upstreams
        .iter()
        .flat_map(|(_, script, _)| *script)
        .map(|(_, say)| say.len())
        .max()
        .unwrap_or(0);
    for by in [1, 2, 3, 7].into_iter().chain(8..longest) {
        assert_eq!(runtime.block_on(play(case, whole, by)), expect, "upstreams by {by}");
    }
    assert_eq!(runtime.block_on(play(case, 1, 1)), expect, "both by 1");
    expect
}

async fn play(case: &Case<'_>, client_by: usize, upstream_by: usize) -> Summary {
    let fake = Fake {
        scripts: Mutex::new(case.upstreams.iter().map(owned).collect()),
        tasks: Mutex::new(JoinSet::new()),
        by: upstream_by,
    };
    let (mut near, far) = duplex(1 << 16);
    let script = case.client;
    let half_close = case.half_close;
    let client = async move {
        for (send, expect) in script {
            if *send == SETTLE {
                // The paused clock moves on when nobody has anything left to do.
                tokio::time::sleep(Duration::from_millis(2)).await;
                continue;
            }
            say(&mut near, send, client_by).await;
            hear(&mut near, expect)
                .await
                .unwrap_or_else(|error| panic!("client: {error}"));
        }
        if half_close {
            near.shutdown().await.unwrap();
        }
        let mut rest = Vec::new();
        let read = timeout(Duration::from_secs(300), near.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "the client's connection does not end");
        assert_eq!(
            rest.escape_ascii().to_string(),
            "",
            "behind the script the client got more"
        );
    };
    let options = Options::default();
    let router = Decide::default();
    let (summary, ()) = tokio::join!(route(Lazy(BufStream::new(far)), &fake, &router, &options), client);
    let mut tasks = fake.tasks.into_inner().unwrap();
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap_or_else(|error| panic!("upstream: {error}"));
    }
    assert_eq!(fake.scripts.into_inner().unwrap(), [], "these were never opened");
    summary
}

fn owned((which, script, then): &Script<'_>) -> Owned {
    (
        *which,
        script
            .iter()
            .map(|(expect, reply)| ((*expect).to_owned(), (*reply).to_owned()))
            .collect(),
        *then,
    )
}

pub async fn say(to: &mut (impl AsyncWrite + Unpin), text: &str, by: usize) {
    for piece in text.as_bytes().chunks(by) {
        // The other end may be gone; the script notices when it listens.
        let _ = to.write_all(piece).await;
        let _ = to.flush().await;
        for _ in 0..4 {
            yield_now().await;
        }
    }
}

pub async fn hear(from: &mut (impl AsyncRead + Unpin), expect: &str) -> Result<(), String> {
    let mut got = Vec::new();
    while got.len() < expect.len() {
        let mut room = vec![0; expect.len() - got.len()];
        match timeout(Duration::from_secs(300), from.read(&mut room)).await {
            Ok(Ok(count @ 1..)) => got.extend_from_slice(&room[..count]),
            other => {
                return Err(format!(
                    "{other:?} after {:?}, expected {expect:?}",
                    got.escape_ascii().to_string()
                ));
            }
        }
        if !expect.as_bytes().starts_with(&got) {
            return Err(format!("got {:?}, expected {expect:?}", got.escape_ascii().to_string()));
        }
    }
    Ok(())
}

/// A connection that sends nothing before it is flushed, as a multiplexer's may.
pub struct Lazy(BufStream<DuplexStream>);

impl Connection for Lazy {}

impl AsyncRead for Lazy {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, room)
    }
}

impl AsyncWrite for Lazy {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

struct Fake {
    scripts: Mutex<VecDeque<Owned>>,
    tasks: Mutex<JoinSet<Result<(), String>>>,
    by: usize,
}

impl Fake {
    fn open(&self, which: Upstream) -> io::Result<Lazy> {
        let mut scripts = self.scripts.lock().unwrap();
        let at = scripts.iter().position(|(upstream, _, _)| *upstream == which);
        let (_, script, then) = at
            .and_then(|at| scripts.remove(at))
            .ok_or(io::ErrorKind::ConnectionRefused)?;
        let (near, far) = duplex(1 << 16);
        self.tasks
            .lock()
            .unwrap()
            .spawn(serve(far, which, script, then, self.by));
        Ok(Lazy(BufStream::new(near)))
    }
}

async fn serve(
    mut far: DuplexStream,
    which: Upstream,
    script: Vec<(String, String)>,
    then: Then,
    by: usize,
) -> Result<(), String> {
    for (expect, reply) in &script {
        hear(&mut far, expect)
            .await
            .map_err(|error| format!("{which:?}: {error}"))?;
        say(&mut far, reply, by).await;
    }
    if then == Then::CloseLater {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if then == Then::Wait {
        let mut rest = Vec::new();
        let read = timeout(Duration::from_secs(300), far.read_to_end(&mut rest)).await;
        if read.is_err() || !rest.is_empty() {
            return Err(format!(
                "{which:?}: {read:?}, behind the script: {:?}",
                rest.escape_ascii().to_string()
            ));
        }
    }
    Ok(())
}

impl Upstreams for Fake {
    type Real = Lazy;
    type Session = Lazy;

    async fn real(&self) -> io::Result<Lazy> {
        self.open(REAL)
    }

    async fn session(&self, id: SessionId) -> io::Result<Lazy> {
        self.open(Upstream::Session(id))
    }
}
