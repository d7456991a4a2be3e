//! Pods with a service mesh's sidecar: what comes from outside is the proxy's, encrypted; what it hands on to the app is
//! mirrored and stolen.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::path::Path;

use serde_json::{Value, json};
use testbed::{FreshPod, Pod};
use tests::{Run, Stage, guests, scratch, wait_until};

const PORT: u16 = 8080;

/// The container that lays a mesh's packet rules, and makes the certificate of its proxy.
fn rules_of(mesh: &str) -> Value {
    json!({
        "name": "mesh-init", "image": "inpod.test/mesh:1", "imagePullPolicy": "Never",
        "command": ["/bin/sh", "/mesh/init.sh", mesh], "volumeMounts": [{"name": "certs", "mountPath": "/certs"}],
        "securityContext": {"runAsUser": 0, "runAsGroup": 0, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
    })
}

/// A shop behind the proxy of testbed/images/mesh-haproxy.cfg, with the packet rules of this mesh.
fn behind(mesh: &str) -> Stage {
    let certificates = json!([{"name": "certs", "mountPath": "/certs"}]);
    let probes =
        json!({"/app-health/main/readyz": {"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 1}});
    let probe = json!({"httpGet": {"path": "/app-health/main/readyz", "port": 15020}, "periodSeconds": 1, "failureThreshold": 1});
    Stage::of(&FreshPod {
        spec: json!({
            "initContainers": [rules_of(mesh)],
            "containers": [{
                "name": "istio-proxy", "image": "inpod.test/mesh:1", "imagePullPolicy": "Never", "volumeMounts": certificates,
                "env": [{"name": "ISTIO_KUBE_APP_PROBERS", "value": probes.to_string()}],
            }, {
                "name": "main", "image": "inpod.test/shop:1", "imagePullPolicy": "Never", "args": ["web"],
                "env": [{"name": "SERVICE", "value": "real"}],
                "ports": [{"containerPort": PORT}], "readinessProbe": probe, "livenessProbe": probe,
            }],
            "volumes": [{"name": "certs", "emptyDir": {}}],
        }),
        ..FreshPod::default()
    })
}

/// A shop in an ambient mesh: the proxy is the node's, with sockets in the pod, and hands on what comes from outside of the
/// mesh with its client's address. The kubelet's probes come past it.
fn in_an_ambient_mesh(image: &Value) -> Ambient {
    let mut main = json!({"name": "main", "imagePullPolicy": "Never", "ports": [{"containerPort": PORT}]});
    let fields = image.as_object().unwrap().clone();
    main.as_object_mut().unwrap().extend(fields);
    let stage = Stage::of(&FreshPod {
        spec: json!({
            "initContainers": [rules_of("ambient")],
            "containers": [main, {
                "name": "ztunnel", "image": "inpod.test/mesh:1", "imagePullPolicy": "Never",
                "command": ["/usr/sbin/haproxy", "-db", "-f", "/mesh/ambient.cfg"],
                "securityContext": {"runAsUser": 0, "runAsGroup": 1337, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
            }],
            "volumes": [{"name": "certs", "emptyDir": {}}],
        }),
        ..FreshPod::default()
    });
    let table = stage.pod.name.replace('-', "_");
    let ip = &stage.pod.ip;
    let rules = format!(
        "table ip {table} {{
            chain postrouting {{
                type nat hook postrouting priority 90;
                ip daddr {ip} ip protocol tcp fib saddr type local snat to 169.254.7.127
            }}
        }}"
    );
    assert!(Ambient::on_the_node(&[&rules]), "nft {rules}");
    Ambient { stage, table }
}

struct Ambient {
    stage: Stage,
    /// Of the node, which gives the kubelet's probes their address.
    table: String,
}

impl Ambient {
    fn on_the_node(nft: &[&str]) -> bool {
        let status = tests::testbed().on_node("nft").unwrap().args(nft).status();
        status.unwrap().success()
    }
}

impl Drop for Ambient {
    fn drop(&mut self) {
        let deleted = Self::on_the_node(&["delete", "table", "ip", &self.table]);
        // A failing test says more than this.
        assert!(
            deleted || std::thread::panicking(),
            "the table {} stays on the node",
            self.table
        );
    }
}

/// Someone in the cluster, who speaks TLS as the mesh does.
struct Client<'a> {
    pod: Pod,
    stage: &'a Stage,
}

impl<'a> Client<'a> {
    fn of(stage: &'a Stage) -> Self {
        let pod = tests::testbed().admin().pod("default", "client").unwrap();
        Self { pod, stage }
    }

    /// What a request brings, and whom the service takes for its client.
    fn asks(&self, path: &str, headers: &[&str]) -> (String, String) {
        let url = format!("https://{}{path}", self.stage.address());
        let mut curl = vec!["curl", "-sk", "--max-time", "20", &url];
        for header in headers {
            curl.extend(["-H", header]);
        }
        let answer = self.pod.exec(&curl).unwrap();
        let line = |name: &str| {
            let found = answer.lines().find_map(|line| line.strip_prefix(name));
            found.unwrap_or_else(|| panic!("no {name} in {answer:?}")).to_owned()
        };
        let client = line("client=");
        (line("service="), client.rsplit_once(':').unwrap().0.to_owned())
    }

    fn who_answers(&self, headers: &[&str]) -> String {
        self.asks("/", headers).0
    }
}

fn paths(file: &Path) -> Vec<String> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.split("GET ").skip(1);
    lines
        .filter_map(|line| Some(line.split_once(' ')?.0.to_owned()))
        .collect()
}

/// The same without probes.
fn copies(file: &Path) -> Vec<String> {
    let mut paths = paths(file);
    paths.retain(|path| path != "/healthz");
    paths
}

#[test]
fn a_steal_takes_what_the_sidecar_hands_on() {
    for (mesh, own) in [("istio", "127.0.0.6"), ("linkerd", "")] {
        let stage = behind(mesh);
        let client = Client::of(&stage);
        let address = if own.is_empty() { &stage.pod.ip } else { own };
        let real = ("real".to_owned(), address.to_owned());
        assert_eq!(client.asks("/", &[]), real, "{mesh}: the real app sees its sidecar");
        {
            let flags = ["--steal", "--header", "X-User=me", "--reconnect-clients"];
            let session = stage.with_local_shop(&flags, "local");
            wait_until("the sidecar's connection to be idle", || {
                !session.events("reconnected").is_empty()
            });
            assert_eq!(client.who_answers(&["X-User: me"]), "local");
            assert_eq!(
                client.asks("/", &[]),
                real,
                "{mesh}: passed on with its client's address"
            );
            assert_eq!(client.asks("/", &["X-User: me"]).1, address);
            // From inside of the pod, the way of no sidecar.
            let other = stage.pod.exec_command(
                Some("main"),
                &["wget", "-qO-", "--header", "X-User: me", "http://127.0.0.1:8080/"],
            );
            let other = other.unwrap().output().unwrap();
            let other = String::from_utf8_lossy(&other.stdout).into_owned();
            assert!(other.starts_with("service=local"), "{other}");
        }
        stage.wait_for_own_rules();
        assert_eq!(client.who_answers(&["X-User: me"]), "real");
        stage.assert_well();
    }
}

/// The sidecar asks in the kubelet's place, from an address of its own.
#[test]
fn probes_that_go_through_the_sidecar_stay_with_the_real_app() {
    let stage = behind("istio");
    let client = Client::of(&stage);
    let file = scratch(&format!("{}.requests", stage.pod.name));
    let record = guests::script("record.py");
    let mut session = stage.session(&["--steal"], &["python3", &record, &file.display().to_string()]);
    session.wait_for_claim(PORT);
    assert_eq!(client.who_answers(&[]), "local");
    // Several periods of a probe that may not fail once.
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(paths(&file), ["/"]);
    stage.assert_well();
}

#[test]
fn a_mirror_copies_what_the_sidecar_hands_on_and_nothing_of_its_tls() {
    for mesh in ["istio", "linkerd"] {
        let stage = behind(mesh);
        let client = Client::of(&stage);
        let file = scratch(&format!("{}.requests", stage.pod.name));
        let record = guests::script("record.py");
        let mut session = stage.session(&[], &["python3", &record, &file.display().to_string()]);
        session.wait_for_claim(PORT);
        for number in 0..5 {
            assert_eq!(client.asks(&format!("/{number}"), &[]).0, "real");
        }
        let copies = || copies(&file);
        wait_until("the copies", || copies().len() >= 5);
        assert_eq!(copies(), ["/0", "/1", "/2", "/3", "/4"], "{mesh}");
        let ends = session.stdout();
        let broken = ends
            .lines()
            .filter(|line| line.starts_with("end") && !line.ends_with(" 0 bytes"));
        assert_eq!(broken.count(), 0, "{mesh}: {ends}");
        assert!(session.events("warning").is_empty(), "{:?}", session.events("warning"));
    }
}

#[test]
fn a_mirror_copies_what_another_session_takes_from_the_sidecar() {
    for mesh in ["istio", "linkerd"] {
        let stage = behind(mesh);
        let client = Client::of(&stage);
        let file = scratch(&format!("{}.requests", stage.pod.name));
        let record = guests::script("record.py");
        let mut mirror = stage.session(&[], &["python3", &record, &file.display().to_string()]);
        mirror.wait_for_claim(PORT);
        let _session = stage.with_local_shop(&["--steal", "--header", "X-User=me"], "local");
        assert_eq!(client.asks("/stolen", &["X-User: me"]).0, "local");
        assert_eq!(client.asks("/passed", &[]).0, "real");
        let copies = || copies(&file);
        wait_until("the copies", || copies().len() >= 2);
        assert_eq!(copies(), ["/stolen", "/passed"], "{mesh}");
    }
}

/// What a request to a shop brings, and whom the service takes for its client.
fn asks(stage: &Stage, path: &str, headers: &[&str]) -> (String, String) {
    let answer = stage.connect().get(path, headers).unwrap();
    let client = answer.line("client").unwrap();
    (
        answer.service().to_owned(),
        client.rsplit_once(':').unwrap().0.to_owned(),
    )
}

#[test]
fn an_ambient_mesh_leaves_everything_to_us() {
    let probe = json!({"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 1, "failureThreshold": 1});
    let shop = json!({
        "image": "inpod.test/shop:1", "args": ["web"], "env": [{"name": "SERVICE", "value": "real"}],
        "readinessProbe": probe, "livenessProbe": probe,
    });
    let mesh = in_an_ambient_mesh(&shop);
    let stage = &mesh.stage;
    let client = tests::testbed().admin().pod("default", "client").unwrap().ip.clone();
    let (real, local) = (("real".to_owned(), client.clone()), ("local".to_owned(), client));
    assert_eq!(asks(stage, "/", &[]), real, "the mesh keeps the client's address");

    let file = scratch(&format!("{}.requests", stage.pod.name));
    let record = guests::script("record.py");
    let mut mirror = stage.session(&[], &["python3", &record, &file.display().to_string()]);
    mirror.wait_for_claim(PORT);
    for number in 0..5 {
        assert_eq!(asks(stage, &format!("/{number}"), &[]), real);
    }
    // Each is a connection of its own: they come in any order.
    let copies = || {
        let mut copies = copies(&file);
        copies.sort();
        copies
    };
    wait_until("the copies", || copies().len() >= 5);
    assert_eq!(copies(), ["/0", "/1", "/2", "/3", "/4"]);
    {
        let _session = stage.with_local_shop(&["--steal", "--header", "X-User=me"], "local");
        assert_eq!(asks(stage, "/stolen", &["X-User: me"]), local);
        assert_eq!(asks(stage, "/passed", &[]), real);
        wait_until("the copies", || copies().len() >= 7);
        assert_eq!(copies()[5..], ["/passed", "/stolen"]);
    }
    assert!(mirror.events("warning").is_empty(), "{:?}", mirror.events("warning"));
    assert_eq!(mirror.stop().code(), 0);
    stage.wait_for_own_rules();
    assert_eq!(asks(stage, "/", &["X-User: me"]), real);

    // Several periods of probes that may not fail once.
    let session = stage.with_local_shop(&["--steal"], "local");
    assert_eq!(asks(stage, "/", &[]), local);
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(session.events("warning").is_empty(), "{:?}", session.events("warning"));
    stage.assert_well();

    // What the local program opens goes out through the mesh.
    let out = Run::at(&format!("pod/{}", stage.pod.name)).run(&["curl", "-sS", "--max-time", "20", "http://web/"]);
    let out = out.ok();
    assert!(out.starts_with("service="), "{out}");
}

#[test]
fn an_ambient_mesh_s_tcp_probe_sees_the_real_app_s_refusal() {
    let socket = "/tmp/redis.socket";
    let probe = json!({"tcpSocket": {"port": PORT}, "periodSeconds": 1, "failureThreshold": 1});
    let redis = json!({
        "image": "inpod.test/redis:1", "args": ["--port", PORT.to_string(), "--unixsocket", socket],
        "readinessProbe": probe,
    });
    let mesh = in_an_ambient_mesh(&redis);
    let stage = &mesh.stage;
    let listen = |port: u16| {
        let set = ["redis-cli", "-s", socket, "config", "set", "port", &port.to_string()];
        let output = stage.pod.exec_command(Some("main"), &set).unwrap().output().unwrap();
        assert_eq!(output.stdout.trim_ascii(), b"OK");
    };
    let _session = stage.with_local_shop(&["--steal"], "local");
    assert!(stage.is_ready());
    listen(0);
    wait_until("the probe to fail", || !stage.is_ready());
    assert_eq!(stage.who_answers(&[]), "local", "others need no real app");
    listen(PORT);
    wait_until("the probe to succeed", || stage.is_ready());
}
