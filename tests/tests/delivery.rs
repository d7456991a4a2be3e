//! The agent gets into every kind of pod, and where it may not, the cluster's own reason and a way on are told.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use serde_json::{Value, json};
use testbed::{FreshPod, Pod};
use tests::{Public, Run, testbed};

fn ephemeral_containers(pod: &Pod) -> usize {
    let kubectl = testbed().admin().kubectl;
    let pod = kubectl
        .json(&["get", "pod", &pod.name, "--namespace", &pod.namespace])
        .unwrap();
    pod["spec"]["ephemeralContainers"].as_array().map_or(0, Vec::len)
}

fn fresh(wanted: &FreshPod<'_>) -> Pod {
    testbed().admin().fresh_pod(wanted).unwrap()
}

/// Environment, a file, names and connections, at a target whose service calls itself `service`.
fn check(run: impl Fn() -> Run, service: &str) {
    let script = "echo $SERVICE; hostname; cat /etc/hostname; curl -sS http://web.default.svc.cluster.local/ | head -1; \
                  ls /var/run/secrets/kubernetes.io/serviceaccount";
    let lines = run().run(&["sh", "-c", script]).lines();
    assert_eq!(lines[0], service);
    assert_eq!(lines[1], lines[2]);
    assert_eq!(lines[3..], ["service=web", "ca.crt", "namespace", "token"]);
}

#[test]
fn a_target_that_is_not_root() {
    check(|| Run::at("pod/nonroot"), "nonroot");
}

#[test]
fn processes_shared_between_containers() {
    check(|| Run::at("pod/shared-processes"), "shared-processes");
    check(|| Run::at("pod/shared-processes/container/web"), "shared-processes");
    let other = Run::at("pod/shared-processes")
        .flags(&["-c", "other"])
        .run(&["sh", "-c", "echo \"[$SERVICE]\""]);
    assert_eq!(other.ok(), "[]\n");
}

#[test]
fn the_container_that_is_meant() {
    check(|| Run::at("pod/sidecars"), "sidecars");
    check(|| Run::at("pod/sidecars").flags(&["-c", "istio-proxy"]), "istio-proxy");
    let wrong = Run::at("pod/sidecars").flags(&["-c", "wbe"]).run(&["true"]);
    assert_eq!(wrong.code(), 69);
    assert!(
        wrong.stderr.contains("no container `wbe`") && wrong.stderr.contains("did you mean web?"),
        "{}",
        wrong.stderr
    );

    let container = |name: &str| {
        json!({"name": name, "image": "inpod.test/shop:1", "imagePullPolicy": "Never", "env": [{"name": "SERVICE", "value": name}],
               "args": ["web", if name == "first" { "0.0.0.0:8080" } else { "0.0.0.0:8081" }]})
    };
    let pod = fresh(&FreshPod {
        spec: json!({"containers": [container("first"), container("second")]}),
        ..FreshPod::default()
    });
    let service = || {
        Run::at(&format!("pod/{}", pod.name))
            .run(&["sh", "-c", "echo $SERVICE"])
            .ok()
    };
    assert_eq!(service(), "first\n");
    let annotation = "kubectl.kubernetes.io/default-container=second";
    testbed()
        .admin()
        .kubectl
        .run(&["annotate", "pod", &pod.name, annotation])
        .unwrap();
    assert_eq!(service(), "second\n");
}

#[test]
fn an_image_without_a_shell() {
    let pod = fresh(&FreshPod {
        image: "shop-bare",
        env: &[("SERVICE", "bare")],
        ..FreshPod::default()
    });
    let target = format!("pod/{}", pod.name);
    let without = Run::at(&target).run(&["true"]);
    assert_eq!(without.code(), 69, "{}", without.stderr);
    assert!(
        without.stderr.contains("no shell") && without.stderr.contains("--agent-image"),
        "{}",
        without.stderr
    );
    check(
        || Run::at(&target).flags(&["--agent-image", "inpod.test/busybox:1"]),
        "bare",
    );
    // Where it is known already that there is none.
    let again = Run::at(&target).run(&["true"]);
    assert!(
        again.code() == 0 || again.stderr.contains("no shell"),
        "{}",
        again.stderr
    );
    check(
        || Run::at("pod/shell-less").flags(&["--agent-image", "inpod.test/busybox:1"]),
        "shell-less",
    );
}

#[test]
fn under_pod_security_rules() {
    for namespace in ["baseline", "restricted"] {
        let at = || Run::plain("pod/web").flags(&["-n", namespace]);
        check(|| at().flags(&["--no-incoming"]), namespace);

        let steal = at().flags(&["--steal"]).run(&["true"]);
        assert_eq!(steal.code(), 77, "{namespace}: {}", steal.stderr);
        assert!(
            steal.stderr.contains("steal") && steal.stderr.contains(&format!("PodSecurity \"{namespace}")),
            "{}",
            steal.stderr
        );

        // The runtime's default capabilities, which `baseline` leaves, suffice for a mirror.
        let (default, asked) = (
            at().run(&["echo", "started"]),
            at().flags(&["--mirror"]).run(&["echo", "started"]),
        );
        assert_eq!(
            (default.code(), default.stdout.as_str()),
            (0, "started\n"),
            "{}",
            default.stderr
        );
        let refused = namespace == "restricted";
        assert_eq!(
            default.stderr.contains("is not mirrored"),
            refused,
            "{}",
            default.stderr
        );
        assert_eq!(asked.code(), if refused { 77 } else { 0 }, "{}", asked.stderr);
    }
}

/// A process that may not be looked into, even by its own user: its executable cannot be read. The environment then comes
/// from the spec, and what this user may not read there is named.
#[test]
fn a_target_that_hides_gives_the_environment_of_its_spec() {
    let kubectl = testbed().admin().kubectl;
    let name = format!("hides-{}", std::process::id());
    let metadata = json!({"name": name, "namespace": "restricted"});
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"password": "hunter2"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"level": "debug"}},
    ]});
    kubectl.apply(&objects.to_string()).unwrap();
    let from = |kind: &str, key: &str| json!({kind: {"name": name, "key": key}});
    let pod = fresh(&FreshPod {
        namespace: "restricted",
        spec: json!({
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "main", "image": "inpod.test/shop:1", "imagePullPolicy": "Never",
                "command": ["sh", "-c", "cp /usr/bin/shop /tmp/hidden && chmod 0111 /tmp/hidden && exec /tmp/hidden web"],
                "env": [
                    {"name": "SERVICE", "value": "hidden"},
                    {"name": "GREETING", "value": "I am $(SERVICE)"},
                    {"name": "PASSWORD", "valueFrom": from("secretKeyRef", "password")},
                    {"name": "LEVEL", "valueFrom": from("configMapKeyRef", "level")},
                ],
                "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        }),
        ..FreshPod::default()
    });
    let web = kubectl
        .json(&["get", "service", "web", "--namespace", "default"])
        .unwrap();
    // By its address: the pod's resolver settings are among the files.
    let address = web["spec"]["clusterIP"].as_str().unwrap();
    let script = format!("echo $GREETING [$PASSWORD] [$LEVEL]; curl -sS http://{address}/ | head -1");
    let ended = Run::at(&format!("pod/{}", pod.name))
        .flags(&["-n", "restricted"])
        .run(&["sh", "-c", &script]);
    for kind in ["secret", "configmap"] {
        kubectl
            .run(&["delete", kind, &name, "--namespace", "restricted"])
            .unwrap();
    }
    assert_eq!(ended.stdout, "I am hidden [] []\nservice=web\n", "{}", ended.stderr);
    for said in [
        "it is taken from the pod's spec",
        &format!("PASSWORD (secret/{name} key password: no permission to get secrets)"),
        &format!("LEVEL (configmap/{name} key level: no permission to get configmaps)"),
        "files of the target cannot be read, its resolver settings among them",
        "/var/run/secrets/kubernetes.io/serviceaccount",
    ] {
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
}

#[test]
fn targets_that_are_not_there() {
    let missing = Run::at("deploy/wbe").run(&["true"]);
    assert_eq!(missing.code(), 69);
    assert!(
        missing.stderr.contains("no deployment `wbe`") && missing.stderr.contains("did you mean"),
        "{}",
        missing.stderr
    );
    let elsewhere = Run::at("pod/wbe").flags(&["-n", "baseline"]).run(&["true"]);
    assert!(elsewhere.stderr.contains("did you mean web?"), "{}", elsewhere.stderr);

    let kubectl = testbed().admin().kubectl;
    let name = format!("waits-{}", std::process::id());
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "nodeSelector": {"nobody": "has-this"},
        "containers": [{"name": "main", "image": "inpod.test/shop:1", "imagePullPolicy": "Never"}],
    }});
    kubectl.apply(&pod.to_string()).unwrap();
    let waits = Run::at(&format!("pod/{name}")).run(&["true"]);
    kubectl.run(&["delete", "pod", &name, "--wait=false"]).unwrap();
    assert_eq!(waits.code(), 69);
    assert!(
        waits.stderr.contains("not running") && waits.stderr.contains("kubectl describe pod"),
        "{}",
        waits.stderr
    );
}

/// A kubeconfig of a service account with these rules and no others.
fn account_with(name: &str, rules: &Value, directory: &Public) -> PathBuf {
    let kubectl = testbed().admin().kubectl;
    let metadata = json!({"name": name, "namespace": "default"});
    let group = "rbac.authorization.k8s.io";
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata, "rules": rules},
        {"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
         "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
         "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}]},
    ]});
    kubectl.apply(&objects.to_string()).unwrap();
    let token = kubectl
        .run(&["create", "token", name, "--namespace", "default"])
        .unwrap();
    let plain = testbed().user().json(&["config", "view", "--raw"]).unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test", "clusters": plain["clusters"],
        "users": [{"name": name, "user": {"token": token.trim()}}],
        "contexts": [{"name": "test", "context": {"cluster": plain["clusters"][0]["name"], "user": name, "namespace": "default"}}],
    });
    let path = directory.path().join(name);
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[test]
fn a_user_without_the_rights() {
    let directory = Public::new();
    let read = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]});
    let patch = json!({"apiGroups": [""], "resources": ["pods/ephemeralcontainers"], "verbs": ["patch"]});
    let pod = fresh(&FreshPod::default());
    for (name, rules, hint) in [
        (
            "inpod-tests-nothing",
            json!([]),
            "kubectl auth can-i get pods -n default",
        ),
        (
            "inpod-tests-reader",
            json!([read]),
            "kubectl auth can-i patch pods --subresource=ephemeralcontainers -n default",
        ),
        (
            "inpod-tests-patcher",
            json!([read, patch]),
            "pods --subresource=exec -n default",
        ),
    ] {
        let kubeconfig = account_with(name, &rules, &directory);
        let ended = Run::at(&format!("pod/{}", pod.name))
            .env("KUBECONFIG", kubeconfig.to_str().unwrap())
            .run(&["true"]);
        assert_eq!(ended.code(), 69, "{name}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("no permission to") && ended.stderr.contains(hint),
            "{name}: {}",
            ended.stderr
        );
        assert!(
            ended.stderr.contains(&format!("system:serviceaccount:default:{name}")),
            "verbatim: {}",
            ended.stderr
        );
    }
    for kind in ["serviceaccount", "role", "rolebinding"] {
        let names = ["inpod-tests-nothing", "inpod-tests-reader", "inpod-tests-patcher"];
        testbed()
            .admin()
            .kubectl
            .run(&[&["delete", kind][..], &names].concat())
            .unwrap();
    }
}

#[test]
fn a_second_session_takes_the_agent_that_is_there() {
    let pod = fresh(&FreshPod {
        env: &[("SERVICE", "twice")],
        ..FreshPod::default()
    });
    let session = || {
        let begun = Instant::now();
        let ended = Run::at(&format!("pod/{}", pod.name)).run(&["sh", "-c", "echo $SERVICE"]);
        assert_eq!(ended.ok(), "twice\n");
        begun.elapsed()
    };
    let first = session();
    assert_eq!(ephemeral_containers(&pod), 1);
    let second = (0..3).map(|_| session()).min().unwrap();
    assert_eq!(ephemeral_containers(&pod), 1);
    assert!(second < first, "{second:?} after {first:?}");
}

#[test]
fn sessions_that_start_at_once_deliver_one_agent() {
    let pod = fresh(&FreshPod {
        env: &[("SERVICE", "both")],
        ..FreshPod::default()
    });
    let start = || Run::at(&format!("pod/{}", pod.name)).start(&["sh", "-c", "echo $SERVICE"]);
    let sessions: Vec<_> = (0..3).map(|_| start()).collect();
    for session in sessions {
        assert_eq!(session.wait().ok(), "both\n");
    }
    assert_eq!(ephemeral_containers(&pod), 1);
}

#[test]
fn nothing_is_added_where_steal_is_refused() {
    let wanted = FreshPod {
        namespace: "baseline",
        ..FreshPod::default()
    };
    let pod = fresh(&wanted);
    let target = format!("pod/{}", pod.name);
    let mut command = tests::cluster(&["exec", "-t", &target, "-n", "baseline", "--steal", "--", "true"]);
    assert_eq!(command.stderr(Stdio::null()).status().unwrap().code(), Some(77));
    assert_eq!(ephemeral_containers(&pod), 0);
}
