//! Whether what is sent to a pod reaches the session, tried and told, on the real cluster.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::IpAddr;

use serde_json::{Value, json};
use testbed::FreshPod;
use tests::http::Http;
use tests::{Session, Stage, testbed, wait_until};

fn checked(session: &Session) -> Vec<Value> {
    wait_until("the check", || !session.events("checked").is_empty());
    session.events("checked")
}

/// Leads all connections of the port around every redirection, as an eBPF network would.
fn lead_around(stage: &Stage) {
    let mut nft = stage.pod.in_network("nft").unwrap();
    let chain =
        |hook: &str| format!("chain {hook} {{ type filter hook {hook} priority -300; tcp dport 8080 notrack; }}");
    nft.arg(format!(
        "table inet around {{\n{}\n{}\n}}",
        chain("prerouting"),
        chain("output")
    ));
    let output = nft.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A namespace in which the plain user has the documented rights and the optional one of docs/check.md. Removed when dropped.
struct Namespace(String);

impl Namespace {
    fn new(test: &str) -> Self {
        let admin = testbed().admin();
        let name = format!("check-{test}-{}", std::process::id());
        admin.namespace(&name, &[]).unwrap();
        let group = "rbac.authorization.k8s.io";
        let metadata = json!({"name": "inpod-check", "namespace": name});
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata,
             "rules": [{"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}]},
            {"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
             "roleRef": {"apiGroup": group, "kind": "Role", "name": "inpod-check"},
             "subjects": [{"apiGroup": group, "kind": "User", "name": "developer"}]},
        ]});
        let made = Self(name);
        admin.kubectl.apply(&objects.to_string()).unwrap();
        // Pods are refused until there is one.
        wait_until("the service account", || {
            made.kubectl(&["get", "serviceaccount", "default"]).is_some()
        });
        made
    }

    fn kubectl(&self, arguments: &[&str]) -> Option<String> {
        let place = ["--namespace", &self.0];
        testbed().admin().kubectl.run(&[arguments, &place].concat()).ok()
    }

    fn stage(&self) -> Stage {
        Stage::of(&FreshPod {
            namespace: &self.0,
            env: &[("SERVICE", "real")],
            ..FreshPod::default()
        })
    }

    /// Makes a Service for pods with this label, and waits until it leads to one.
    fn service(&self, name: &str, (label, value): (&str, &str), port: u16, stage: &Stage) -> String {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": self.0},
            "spec": {"selector": {label: value}, "ports": [{"port": port, "targetPort": "http"}]}});
        testbed().admin().kubectl.apply(&service.to_string()).unwrap();
        let ip = self
            .kubectl(&["get", "service", name, "-o", "jsonpath={.spec.clusterIP}"])
            .unwrap();
        let address: IpAddr = ip.parse().unwrap();
        wait_until("the service", || {
            Http::connect(&stage.client, (address, port).into()).is_ok()
        });
        format!("{ip}:{port}")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let delete = ["delete", "namespace", &self.0, "--wait=false"];
        let _ = testbed().admin().kubectl.run(&delete);
    }
}

/// One for each address that is tried; the others come at the same time.
fn all_checked(session: &Session, count: usize) -> Vec<Value> {
    wait_until("all of the check", || session.events("checked").len() >= count);
    session.events("checked")
}

#[test]
fn a_connection_through_a_service_comes_to_steal_and_mirror() {
    let namespace = Namespace::new("arrives");
    let stage = namespace.stage();
    let other = namespace.stage();
    for pod in [&stage.pod, &other.pod] {
        namespace.kubectl(&["label", "pod", &pod.name, "tier=front"]).unwrap();
    }
    let own = namespace.service("own", ("app", &stage.pod.name), 80, &stage);
    let shared = namespace.service("shared", ("tier", "front"), 81, &stage);
    let _others = namespace.service("others", ("app", &other.pod.name), 80, &stage);
    for mode in ["--steal", "--mirror"] {
        let session = stage.with_local_shop(&["-n", &namespace.0, mode, "--check"], "local");
        let found = all_checked(&session, 3);
        let told: Vec<_> = found
            .iter()
            .map(|event| (event["service"].as_str(), event["address"].as_str(), &event["reached"]))
            .collect();
        let pod = stage.address().to_string();
        assert_eq!(
            told,
            [
                (None, Some(pod.as_str()), &json!(true)),
                (Some("own"), Some(own.as_str()), &json!(true)),
                (Some("shared"), Some(shared.as_str()), &json!(true)),
            ],
            "{mode}: {found:?}"
        );
        let message = found[1]["message"].as_str().unwrap();
        assert!(
            message.starts_with(&format!("a connection through Service own ({own}) came through")),
            "{message}"
        );
    }
}

#[test]
fn what_is_led_around_a_steal_does_not_come_through_a_service_either() {
    let namespace = Namespace::new("around");
    let stage = namespace.stage();
    let own = namespace.service("own", ("app", &stage.pod.name), 80, &stage);
    lead_around(&stage);
    let session = stage.with_local_shop(&["-n", &namespace.0, "--steal", "--check"], "local");
    let found = all_checked(&session, 2);
    let message = found[1]["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("connections through Service own ({own}) came to this session"))
            && found[1]["reached"] == false,
        "{message}"
    );
}

#[test]
fn a_connection_through_the_pods_address_comes_to_steal_and_mirror() {
    let stage = Stage::new();
    for flags in [
        &["--steal", "--check"][..],
        &["--steal", "--header", "X-User=me", "--check"],
        &["--mirror", "--check"],
        &["--mirror", "--header", "X-User=me", "--check"],
    ] {
        let session = stage.with_local_shop(flags, "local");
        let found = checked(&session);
        let message = found[0]["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("address {} came through", stage.pod.ip)),
            "{message}"
        );
        assert_eq!((&found[0]["port"], &found[0]["reached"]), (&8080.into(), &true.into()));
        // With the minimum of rights.
        assert!(
            message
                .contains("Services were not tried: that needs the right to `list` `services` in namespace `default`"),
            "{message}"
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(session.events("warning").is_empty(), "{}", session.stderr());
        let ended = session.stop();
        let counted = ended.events("counted");
        assert_eq!(counted[0]["seen"], 0, "the check is not counted: {flags:?}");
    }
}

#[test]
fn what_is_led_around_a_steal_is_told() {
    let stage = Stage::new();
    lead_around(&stage);
    let session = stage.with_local_shop(&["--steal", "--check"], "local");
    let found = checked(&session);
    let message = found[0]["message"].as_str().unwrap();
    assert!(
        message.contains("past this session") && found[0]["reached"] == false,
        "{message}"
    );
    let warnings = || {
        let mut warnings = session.events("warning");
        warnings.retain(|warning| warning["message"].as_str().unwrap().contains("younger than the steal"));
        warnings
    };
    wait_until("the warning", || {
        // Those that came before the first look count as older.
        let mut client = stage.connect();
        assert_eq!(client.get("/", &[]).unwrap().service(), "real");
        std::thread::sleep(std::time::Duration::from_millis(500));
        !warnings().is_empty()
    });
    assert_eq!(warnings().len(), 1);
}

#[test]
fn what_goes_through_a_steal_is_not_warned_of() {
    let stage = Stage::new();
    let mut older = stage.connect();
    assert_eq!(older.get("/", &[]).unwrap().service(), "real");
    let session = stage.with_local_shop(&["--steal", "--header", "X-User=me"], "local");
    let begun = std::time::Instant::now();
    let mut clients = Vec::new();
    while begun.elapsed() < std::time::Duration::from_secs(7) {
        let mut client = stage.connect();
        assert_eq!(client.get("/", &[]).unwrap().service(), "real");
        clients.push(client);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(older.get("/", &[]).unwrap().service(), "real");
    assert!(session.events("warning").is_empty(), "{}", session.stderr());
}
