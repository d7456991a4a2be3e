//! HTTP/2 on the real cluster: each stream of a client's one connection to whom it belongs.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use http::Request;
use rustix::process::Signal;
use serde_json::json;
use testbed::FreshPod;
use tests::talk::{self, Talk, block_on};
use tests::{PATIENCE, Session, Stage, cluster, shop, wait_until};

const STREAMS: usize = 200;
/// Longer than a frame and a half.
const LONG: &str = {
    const BYTES: &[u8] = &[b'l'; 25_000];
    match std::str::from_utf8(BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

fn stage() -> Stage {
    Stage::of(&FreshPod {
        args: &["http2", "0.0.0.0:8080"],
        env: &[("SERVICE", "real")],
        port: None,
        ..FreshPod::default()
    })
}

/// Asks on many streams of one connection at once: `ask` is told who it is, and who is to answer.
fn ask_at_once<F>(stage: &Stage, ask: impl Fn(SendRequest<Bytes>, &'static str, &'static str) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    block_on(async {
        let send = talk::connect(&stage.client, stage.address()).await;
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

/// The kubelet asks the pod, whatever the local program speaks; everybody else has it alone, or is copied to it.
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
            let send = talk::connect(&stage.client, stage.address()).await;
            assert_eq!(Talk::begin(&send, "me").await.end().await.0, "local");
        });
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(local);
    let local = stage.with_local(&[], "local", "http2");
    std::thread::sleep(Duration::from_secs(3));
    block_on(async {
        let send = talk::connect(&stage.client, stage.address()).await;
        assert_eq!(Talk::begin(&send, "me").await.end().await.0, "real");
    });
    wait_until("the copy", || local.stdout().contains("http2: POST /talk of me"));
    assert_eq!(local.stdout().matches("http2: POST").count(), 1, "{}", local.stdout());
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
        let send = talk::connect(&stage.client, stage.address()).await;
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

/// Somebody with a filter, somebody without, and somebody who only looks.
#[test]
fn requests_are_mirrored() {
    let stage = stage();
    let some = stage.with_local(&["--header", "X-User=a"], "a", "http2");
    let all = stage.with_local(&[], "all", "http2");
    let target = format!("pod/{}", stage.pod.name);
    let dump = Session::spawn(cluster(&[
        "dump", "-t", &target, "--port", "8080", "--header", "X-User=b",
    ]));
    wait_until("the dump", || dump.stderr().contains("port 8080: mirrored"));
    ask_at_once(&stage, |send, user, _| async move {
        let mut talk = Talk::begin(&send, user).await;
        talk.say("one").await;
        talk.say("and another").await;
        assert_eq!(talk.end().await, ("real".to_owned(), "14".to_owned()));
    });
    block_on(async {
        let mut talk = Talk::begin(&talk::connect(&stage.client, stage.address()).await, "a").await;
        for _ in 0..40 {
            talk.say(LONG).await;
        }
        assert_eq!(talk.end().await.1, (40 * LONG.len()).to_string());
    });
    let count = |session: &Session, line: &str| session.stdout().matches(line).count();
    let long = format!("http2: POST /talk of a, {} bytes\n", 40 * LONG.len());
    wait_until("all copies", || {
        let of = |user| count(&all, &format!("http2: POST /talk of {user}, 14 bytes\n"));
        (of("a"), of("b"), of("c"), count(&all, &long)) == (67, 67, 66, 1)
    });
    wait_until("all that were wanted", || {
        (count(&some, "http2: POST /talk of a, 14 bytes\n"), count(&some, &long)) == (67, 1)
    });
    assert_eq!(count(&some, "http2: POST"), 68, "{}", some.stdout());
    let shown = "POST /talk HTTP/2\n    :scheme: http\n    :authority: shop\n    x-user: b\n\n    oneand another\n";
    wait_until("all that are to be seen", || count(&dump, shown) == 67);
    assert_eq!(count(&dump, " POST "), 67, "{}", dump.stdout());
}

/// A client stays connected to the pod for as long as it likes; who works on the local app starts it again and again.
#[test]
fn a_local_app_that_is_started_again_gets_what_comes_then() {
    let stage = stage();
    let shop = shop().display().to_string();
    let script = format!("while :; do SERVICE=again {shop} http2 & echo pid $!; wait; done");
    let mut session = stage.session(&[], &["sh", "-c", &script]);
    session.wait_for_claim(8080);
    block_on(async {
        let send = talk::connect(&stage.client, stage.address()).await;
        for round in 0..3 {
            let ask = async |user| drop(Talk::begin(&send, user).await.end().await);
            let came = |user: &str| session.stdout().contains(&format!(" of {user}, 0 bytes"));
            // While nobody listens, a copy is lost.
            let deadline = Instant::now() + PATIENCE;
            let name = ["first", "second", "third"][round];
            while !came(name) {
                assert!(Instant::now() < deadline, "{}\n{}", session.stdout(), session.stderr());
                ask(name).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let text = session.stdout();
            let pid = text.lines().filter_map(|line| line.strip_prefix("pid ")).next_back();
            tests::processes::signal(pid.unwrap().parse().unwrap(), Signal::TERM).unwrap();
        }
    });
}
