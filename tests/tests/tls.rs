//! TLS that ends in the app, on the real cluster: nginx with a Secret, and local apps with and without TLS of their own.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use testbed::{FreshPod, Pod};
use tests::{Session, Stage, cluster, guests, wait_until};

const PORT: u16 = 8443;
const NAME: &str = "app.test";
const FILES: &str = "8443=/etc/tls/tls.crt,/etc/tls/tls.key";
const NGINX: &str = "
user www-data;
pid /run/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    server {
        listen 8443 ssl http2;
        ssl_certificate /etc/tls/tls.crt;
        ssl_certificate_key /etc/tls/tls.key;
        location / { return 200 \"real $remote_addr $ssl_server_name $uri\\n\"; }
    }
}
";

struct Fixture {
    stage: Stage,
    client: Pod,
    /// Where the client has the certificate that it trusts.
    trusted: String,
}

impl Fixture {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("tls-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let admin = tests::testbed().admin();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": certificate, "tls.key": key},
        });
        let config = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"nginx.conf": NGINX},
        });
        let both = json!({"apiVersion": "v1", "kind": "List", "items": [secret, config]});
        admin.kubectl.apply(&both.to_string()).unwrap();
        let probe = json!({
            "httpGet": {"path": "/healthz", "port": PORT, "scheme": "HTTPS"}, "periodSeconds": 1, "failureThreshold": 2,
        });
        let stage = Stage::of(&FreshPod {
            port: Some(PORT),
            spec: json!({
                "containers": [{
                    "name": "main", "image": "inpod.test/nginx:1", "imagePullPolicy": "Never",
                    "args": ["-c", "/etc/tls-nginx/nginx.conf"],
                    "ports": [{"containerPort": PORT}], "readinessProbe": probe, "livenessProbe": probe,
                    "volumeMounts": [
                        {"name": "tls", "mountPath": "/etc/tls"}, {"name": "config", "mountPath": "/etc/tls-nginx"},
                    ],
                }],
                "volumes": [
                    {"name": "tls", "secret": {"secretName": name}},
                    {"name": "config", "configMap": {"name": name}},
                ],
            }),
            ..FreshPod::default()
        });
        let client = admin.pod("default", "client").unwrap();
        let trusted = format!("/tmp/{name}.pem");
        let write = ["sh", "-c", "printf %s \"$1\" > \"$2\"", "sh", &certificate, &trusted];
        client.exec(&write).unwrap();
        Self { stage, client, trusted }
    }

    /// The answer to a client that verifies the certificate, and the version of HTTP that was agreed on.
    fn ask(&self, path: &str, more: &[&str]) -> String {
        let resolve = format!("{NAME}:{PORT}:{}", self.stage.pod.ip);
        let url = format!("https://{NAME}:{PORT}{path}");
        let curl = [
            "curl",
            "-sS",
            "--max-time",
            "20",
            "--cacert",
            &self.trusted,
            "--resolve",
            &resolve,
        ];
        let command = [&curl[..], more, &["-w", "%{http_version}", &url]].concat();
        self.client.exec(&command).unwrap().replace('\n', " ")
    }

    fn real(&self, path: &str, version: &str) -> String {
        format!("real {} {NAME} {path} {version}", self.client.ip)
    }

    fn local(&self, name: &str, path: &str, version: &str) -> String {
        format!("local {} {name} {path} {version}", self.client.ip)
    }
}

/// The local app, with the pod's own certificate where it has one.
fn app(certificate: &[&str]) -> Vec<String> {
    let script = guests::script("tls.py");
    let port = PORT.to_string();
    let words = [&["python3", &script, &port][..], certificate].concat();
    words.into_iter().map(str::to_owned).collect()
}

fn session(fixture: &Fixture, flags: &[&str], app: &[String]) -> Session {
    let words: Vec<_> = app.iter().map(String::as_str).collect();
    let mut session = fixture.stage.session(flags, &words);
    session.wait_for_claim(PORT);
    session
}

fn warnings(session: &Session) -> Vec<String> {
    let events = session.events("warning");
    let messages = events.iter().map(|event| event["message"].as_str().unwrap());
    messages.map(str::to_owned).collect()
}

#[test]
fn requests_are_filtered_inside_of_tls_and_the_rest_is_nginx_s() {
    let fixture = Fixture::new();
    let mine = ["-H", "X-User: me", "--http1.1"];
    assert_eq!(fixture.ask("/a", &mine), fixture.real("/a", "1.1"));
    let flags = ["--steal", "--header", "X-User=me", "--tls", FILES];
    let own = ["/etc/tls/tls.crt", "/etc/tls/tls.key"];
    let running = session(&fixture, &flags, &app(&own));
    assert_eq!(fixture.ask("/a", &mine), fixture.local(NAME, "/a", "1.1"));
    assert_eq!(fixture.ask("/b", &["--http1.1"]), fixture.real("/b", "1.1"));
    assert_eq!(fixture.ask("/b", &["--http2"]), fixture.real("/b", "2"));
    assert!(running.events("warning").is_empty(), "{}", running.stderr());
    // The local app speaks HTTP/1.1 alone; its clients need not know.
    for _ in 0..3 {
        let both = ["-H", "X-User: me", "--http2"];
        assert_eq!(fixture.ask("/a", &both), fixture.local(NAME, "/a", "2"));
        let body = "x".repeat(100_000);
        let posts = ["-H", "X-User: me", "--http2", "-d", &body];
        assert_eq!(fixture.ask("/p", &posts), "local got 100000 2");
        assert_eq!(fixture.ask("/b", &["--http2"]), fixture.real("/b", "2"));
    }
    assert_eq!(
        warnings(&running),
        ["port 8443: the program does not speak `h2` over TLS: its requests are handed to it as HTTP/1.1"]
    );
    fixture.stage.assert_well();
    drop(running.stop());
    assert_eq!(fixture.ask("/a", &mine), fixture.real("/a", "1.1"));
    fixture.stage.wait_for_own_rules();
}

#[test]
fn an_unfiltered_steal_of_a_plain_app_leaves_https_probes_to_nginx() {
    let fixture = Fixture::new();
    let running = session(&fixture, &["--steal", "--tls", &format!("{FILES},plain")], &app(&[]));
    // Longer than a probe may fail.
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(6) {
        assert_eq!(fixture.ask("/a", &["--http1.1"]), fixture.local("-", "/a", "1.1"));
        assert_eq!(fixture.ask("/a", &["--http2"]), fixture.local("-", "/a", "2"));
    }
    fixture.stage.assert_well();
    assert_eq!(
        warnings(&running),
        ["port 8443: the program does not speak HTTP/2: requests that come over it are handed to it as HTTP/1.1"]
    );
}

#[test]
fn what_cannot_be_terminated_is_refused_with_the_reason() {
    let fixture = Fixture::new();
    let target = format!("pod/{}", fixture.stage.pod.name);
    let mirror = cluster(&["exec", "-t", &target, "--tls", FILES, "--", "true"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&mirror.stderr).into_owned();
    assert!(!mirror.status.success() && said.contains("use --steal"), "{said}");
    let flags = ["--steal", "--tls", "8443=/etc/tls/tls.crt,/etc/tls/none.key"];
    let words = app(&[]);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let running = fixture.stage.session(&flags, &words);
    wait_until("the refusal", || !running.events("claim-refused").is_empty());
    let refused = &running.events("claim-refused")[0];
    let reason = refused["reason"].as_str().unwrap();
    assert!(
        reason.contains("the key /etc/tls/none.key in the pod: No such file"),
        "{refused}"
    );
}
