//! HTTP/2 on the real cluster: each stream of a client's one connection to whom it belongs.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use fixture::http2::DATA_FRAMES;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use serde_json::json;
use testbed::FreshPod;
use tests::{PATIENCE, Stage};

const STREAMS: usize = 200;

fn stage() -> Stage {
    Stage::of(&FreshPod {
        args: &["http2", "0.0.0.0:8080"],
        env: &[("SERVICE", "real")],
        port: None,
        ..FreshPod::default()
    })
}

fn block_on<T>(client: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, client).await.expect("it hangs") })
}

async fn connect(stage: &Stage) -> SendRequest<Bytes> {
    let stream = stage.client.connect(stage.address(), Duration::from_secs(5)).unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = tokio::net::TcpStream::from_std(stream).unwrap();
    let mut client = h2::client::Builder::new();
    client.data_frame_budget(DATA_FRAMES);
    let (send, connection) = client.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send
}

/// One request that goes on: what is sent comes back.
struct Talk {
    send: SendStream<Bytes>,
    from: String,
    body: RecvStream,
}

impl Talk {
    async fn begin(send: &SendRequest<Bytes>, user: &str) -> Self {
        let mut send = send.clone().ready().await.unwrap();
        let request = Request::post("http://shop/talk")
            .header("x-user", user)
            .body(())
            .unwrap();
        let (response, send): (ResponseFuture, _) = send.send_request(request, false).unwrap();
        let response = response.await.unwrap();
        Self {
            send,
            from: response.headers()["x-from"].to_str().unwrap().to_owned(),
            body: response.into_body(),
        }
    }

    async fn say(&mut self, text: &'static str) {
        self.send.send_data(Bytes::from_static(text.as_bytes()), false).unwrap();
        let mut heard = Vec::new();
        while heard.len() < text.len() {
            let data = self.body.data().await.expect("it goes on").unwrap();
            self.body.flow_control().release_capacity(data.len()).unwrap();
            heard.extend_from_slice(&data);
        }
        assert_eq!(heard, text.as_bytes());
    }

    /// Ends it; who answered, and the length in the trailers.
    async fn end(mut self) -> (String, String) {
        self.send.send_data(Bytes::new(), true).unwrap();
        while let Some(data) = self.body.data().await {
            assert_eq!(data.unwrap().len(), 0);
        }
        let trailers = self.body.trailers().await.unwrap().expect("trailers");
        (self.from, trailers["x-sum"].to_str().unwrap().to_owned())
    }
}

/// Asks on many streams of one connection at once: `ask` is told who it is, and who is to answer.
fn ask_at_once<F>(stage: &Stage, ask: impl Fn(SendRequest<Bytes>, &'static str, &'static str) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    block_on(async {
        let send = connect(stage).await;
        let mut asked = tokio::task::JoinSet::new();
        for number in 0..STREAMS {
            let (user, expect) = [("a", "a"), ("b", "b"), ("c", "real")][number % 3];
            asked.spawn(ask(send.clone(), user, expect));
        }
        while let Some(done) = asked.join_next().await {
            done.unwrap();
        }
    });
}

#[test]
fn streams_of_one_connection_go_to_different_people() {
    let stage = stage();
    let _a = stage.with_local(&["--steal", "--header", "X-User=a"], "a", "http2");
    let _b = stage.with_local(&["--steal", "--header", "X-User=b"], "b", "http2");
    ask_at_once(&stage, |send, user, expect| async move {
        let mut talk = Talk::begin(&send, user).await;
        talk.say("one").await;
        talk.say("and another").await;
        assert_eq!(talk.end().await, (expect.to_owned(), "14".to_owned()));
    });
}

#[test]
fn bodies_decide_where_streams_go() {
    let stage = stage();
    let _a = stage.with_local(&["--steal", "--filter", "json:@.user == 'a'"], "a", "http2");
    let _b = stage.with_local(&["--steal", "--filter", "json:@.user == 'b'"], "b", "http2");
    ask_at_once(&stage, |send, user, expect| async move {
        let mut send = send.ready().await.unwrap();
        let request = Request::post("http://shop/").body(()).unwrap();
        let (response, mut body) = send.send_request(request, false).unwrap();
        for piece in ["{\"user\":", " \"", user, "\"}"] {
            body.send_data(Bytes::from_static(piece.as_bytes()), false).unwrap();
            tokio::task::yield_now().await;
        }
        body.send_data(Bytes::new(), true).unwrap();
        assert_eq!(response.await.unwrap().headers()["x-from"], expect);
    });
}

/// The kubelet asks the pod, whatever the local program speaks; everybody else has it alone.
#[test]
fn grpc_probes_stay_with_the_pod() {
    let probe = json!({"grpc": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 1});
    let stage = Stage::of(&FreshPod {
        spec: json!({"containers": [{
            "name": "main", "image": "inpod.test/shop:1", "imagePullPolicy": "Never", "args": ["http2", "0.0.0.0:8080"],
            "env": [{"name": "SERVICE", "value": "real"}], "readinessProbe": probe, "livenessProbe": probe,
        }]}),
        ..FreshPod::default()
    });
    let local = stage.with_local(&["--steal"], "local", "http2");
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        block_on(async {
            let send = connect(&stage).await;
            assert_eq!(Talk::begin(&send, "me").await.end().await.0, "local");
        });
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(local);
    // This one understands no probe.
    let _local = stage.with_local(&["--steal"], "local", "web");
    assert_eq!(stage.who_answers(&[]), "local");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(stage.who_answers(&[]), "local");
    stage.assert_well();
}

#[test]
fn a_stream_lives_through_sessions_that_come_and_go() {
    let stage = stage();
    let a = stage.with_local(&["--steal", "--header", "X-User=a"], "a", "http2");
    block_on(async {
        let send = connect(&stage).await;
        let mut theirs = Talk::begin(&send, "nobody").await;
        theirs.say("before").await;
        assert_eq!(theirs.from, "real");
        assert_eq!(Talk::begin(&send, "b").await.end().await.0, "real");
        let b = stage.with_local(&["--steal", "--header", "X-User=b"], "b", "http2");
        let mut mine = Talk::begin(&send, "b").await;
        mine.say("mine").await;
        assert_eq!(mine.from, "b");
        theirs.say("while it runs").await;
        drop(b);
        theirs.say("after it").await;
        let broken = tokio::time::timeout(PATIENCE, mine.body.data())
            .await
            .expect("it hangs");
        let error = broken.expect("no orderly end").expect_err("its session is gone");
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        assert_eq!(Talk::begin(&send, "b").await.end().await.0, "real");
        drop(a);
        theirs.say("after all").await;
        assert_eq!(theirs.end().await, ("real".to_owned(), "36".to_owned()));
    });
    stage.wait_for_own_rules();
}
