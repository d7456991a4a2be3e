use serde_json::{Value, json};

use super::*;

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).expect("a pod")
}

fn with_containers(containers: &Value, annotations: &Value) -> Pod {
    pod(json!({"metadata": {"name": "web", "annotations": annotations}, "spec": {"containers": containers}}))
}

#[test]
fn which_container_is_meant() {
    let app = json!({"name": "app", "image": "registry.example/shop/app:1"});
    let second = json!({"name": "second", "image": "second"});
    let istio = json!({"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.22"});
    let renamed = json!({"name": "mesh", "image": "docker.io/istio/proxyv2@sha256:00"});
    let default = |name: &str| json!({"kubectl.kubernetes.io/default-container": name});
    let none = json!({});
    let cases = [
        (json!([app]), none.clone(), None, "app"),
        (json!([app, second]), none.clone(), None, "app"),
        (json!([app, second]), none.clone(), Some("second"), "second"),
        (json!([app, second]), default("second"), None, "second"),
        (json!([app, second]), default("second"), Some("app"), "app"),
        // An annotation that names nothing is not obeyed.
        (json!([app, second]), default("gone"), None, "app"),
        (json!([istio, app]), none.clone(), None, "app"),
        (json!([renamed, app]), none.clone(), None, "app"),
        (json!([istio, app]), none.clone(), Some("istio-proxy"), "istio-proxy"),
        (json!([istio]), none.clone(), None, "istio-proxy"),
        (json!([istio, app]), default("istio-proxy"), None, "istio-proxy"),
    ];
    for (containers, annotations, wanted, expected) in cases {
        let pod = with_containers(&containers, &annotations);
        let chosen = choose(&pod, wanted).unwrap_or_else(|error| panic!("{containers}: {error}"));
        assert_eq!(chosen.name, expected, "{containers} {annotations} {wanted:?}");
    }
}

#[test]
fn a_container_that_is_not_there() {
    let pod = with_containers(&json!([{"name": "checkout"}, {"name": "cache"}]), &json!({}));
    let error = choose(&pod, Some("chekout")).expect_err("there is none");
    assert_eq!(
        error.to_string(),
        "pod `web` has no container `chekout`; it has checkout, cache"
    );
    assert_eq!(error.hints(), ["did you mean checkout?"]);
}

#[test]
fn declared_ports() {
    let containers = json!([
        {"name": "app", "ports": [{"containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}]},
        {"name": "side", "ports": [{"containerPort": 9090, "protocol": "TCP"}]},
        {"name": "bare"},
    ]);
    assert_eq!(ports(&with_containers(&containers, &json!({}))), [8080, 9090]);
}

#[test]
fn native_sidecars_are_never_chosen() {
    let pod = pod(json!({"metadata": {"name": "web"}, "spec": {
        "initContainers": [{"name": "first", "restartPolicy": "Always"}],
        "containers": [{"name": "app"}],
    }}));
    assert_eq!(choose(&pod, None).expect("app").name, "app");
    assert!(choose(&pod, Some("first")).is_err(), "and cannot be a target yet");
}

#[test]
fn why_it_does_not_run() {
    let cases = [
        (
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/1 nodes are available: 1 Insufficient cpu."}]}),
            "phase Pending; Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.",
        ),
        (
            json!({"phase": "Pending", "containerStatuses": [{"name": "app", "state": {"waiting": {
                "reason": "ImagePullBackOff", "message": "Back-off pulling image \"nope:1\""}}}]}),
            "phase Pending; container `app`: ImagePullBackOff: Back-off pulling image \"nope:1\"",
        ),
        (
            json!({"phase": "Running", "containerStatuses": [{"name": "app",
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no database\n"}}}]}),
            "phase Running; container `app`: CrashLoopBackOff: back-off 40s restarting failed container \
             (before that: Error: no database, exit code 1)",
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "migrate", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
                {"name": "wait", "state": {"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"db\" not found"}}}]}),
            "phase Pending; container `wait`: CreateContainerConfigError: secret \"db\" not found",
        ),
        (
            json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
            "phase Failed; Evicted; low on memory",
        ),
    ];
    for (status, expected) in cases {
        let mut value =
            json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"containers": [{"name": "app"}]}});
        value["status"] = status;
        // The fields that the API requires and that say nothing here.
        for list in ["containerStatuses", "initContainerStatuses"] {
            for container in value["status"][list].as_array_mut().into_iter().flatten() {
                container["image"] = json!("i");
                container["imageID"] = json!("");
                container["ready"] = json!(false);
                container["restartCount"] = json!(0);
            }
        }
        let pod = pod(value);
        let error = check_running(&pod, "app").expect_err(expected);
        assert_eq!(error.to_string(), format!("pod `web` is not running: {expected}"));
    }
}

#[test]
fn a_running_container() {
    let mut value = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "app", "image": "shop:1"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "app", "image": "docker.io/library/shop:1", "imageID": "",
            "ready": true, "restartCount": 0, "containerID": "containerd://0123abcd", "state": {"running": {}}}]}});
    let running = check_running(&pod(value.clone()), "app").expect("it runs");
    assert_eq!(
        running,
        Running {
            container: "app".into(),
            id: "0123abcd".into(),
            image: "shop:1".into()
        }
    );
    value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let error = check_running(&pod(value), "app").expect_err("it goes");
    assert!(error.to_string().contains("being deleted"), "{error}");
}

#[test]
fn what_cannot_be_a_target() {
    let cases = [
        (
            json!({"annotations": {"kubernetes.io/config.mirror": "x"}}),
            json!({}),
            Some("static pod"),
        ),
        (json!({}), json!({"os": {"name": "windows"}}), Some("runs on windows")),
        (
            json!({}),
            json!({"nodeSelector": {"kubernetes.io/arch": "arm64"}}),
            Some("its node is arm64"),
        ),
        (
            json!({}),
            json!({"nodeSelector": {"kubernetes.io/arch": "amd64"}, "os": {"name": "linux"}}),
            None,
        ),
        (json!({}), json!({}), None),
    ];
    for (metadata, mut spec, expected) in cases {
        spec["containers"] = json!([]);
        let outcome = check_supported(&pod(json!({"metadata": metadata, "spec": spec})));
        match expected {
            None => outcome.expect("it can"),
            Some(expected) => {
                let error = outcome.expect_err(expected).to_string();
                assert!(error.contains(expected), "{error}");
            }
        }
    }
}
