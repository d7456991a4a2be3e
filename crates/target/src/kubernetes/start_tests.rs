use super::*;

fn target() -> Running {
    Running {
        container: "app".into(),
        id: "0123abcd".into(),
        image: "shop:1".into(),
    }
}

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).expect("a pod")
}

fn recipe<'a>(pod: &'a Pod, target: &'a Running, image: &'a str) -> Recipe<'a> {
    Recipe {
        pod,
        target,
        name: "inpod-x-0",
        image,
        linger: 120,
        log: Some("debug"),
    }
}

/// The patch of each rung, without the script.
fn patches(pod: &Pod, image: &str) -> Vec<Value> {
    let target = target();
    let one = |rung| {
        let mut patch = recipe(pod, &target, image).patch(rung);
        assert_eq!(patch["spec"]["ephemeralContainers"][0]["command"][2], script::RUN);
        patch["spec"]["ephemeralContainers"][0]["command"][2] = json!("SCRIPT");
        patch
    };
    Rung::LADDER.map(one).to_vec()
}

#[test]
fn the_ladder_of_a_plain_pod() {
    let pod = pod(json!({"spec": {"containers": [{"name": "app"}]}}));
    insta::assert_snapshot!(serde_json::to_string_pretty(&patches(&pod, "shop:1")).expect("JSON"));
}

#[test]
fn the_ladder_of_a_pod_with_settings_of_its_own() {
    let pod = pod(json!({"spec": {
        "securityContext": {"runAsUser": 1000, "runAsGroup": 2000, "seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}},
        "containers": [{"name": "app", "securityContext": {
            "runAsUser": 1001, "readOnlyRootFilesystem": true, "runAsNonRoot": true, "seLinuxOptions": {"level": "s0:c1,c2"}}}],
    }}));
    insta::assert_snapshot!(serde_json::to_string_pretty(&patches(&pod, "shop:1")).expect("JSON"));
}

#[test]
fn another_image_needs_a_user_that_is_not_root() {
    let pod = pod(json!({"spec": {"containers": [{"name": "app"}]}}));
    let restricted = &patches(&pod, "busybox:1")[2]["spec"]["ephemeralContainers"][0];
    assert_eq!(restricted["image"], "busybox:1");
    assert_eq!(restricted["securityContext"]["runAsUser"], 65_534);
}

#[test]
fn names_tell_runs_apart() {
    let stem = Stem::new(&target(), "");
    assert_eq!(stem, Stem::new(&target(), ""), "every session finds the same name");
    assert_eq!(stem.0.len(), "inpod-".len() + 10);
    let restarted = Running {
        id: "ffff".into(),
        ..target()
    };
    let other = Running {
        container: "cache".into(),
        ..target()
    };
    for different in [
        Stem::new(&restarted, ""),
        Stem::new(&other, ""),
        Stem::new(&target(), "dev"),
    ] {
        assert_ne!(stem, different);
    }
}

#[test]
fn which_container_is_used() {
    let stem = Stem::new(&target(), "");
    let name = |number: u32| format!("{}-{number}", stem.0);
    let full = json!({"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN", "NET_RAW", "SYS_PTRACE"]}});
    let container =
        |number: u32, settings: Value| json!({"name": name(number), "image": "shop:1", "securityContext": settings});
    let status = |number: u32, state: Value| json!({"name": name(number), "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0});
    let build = |containers: Value, statuses: Value| {
        pod(json!({"spec": {"containers": [], "ephemeralContainers": containers},
            "status": {"ephemeralContainerStatuses": statuses}}))
    };
    let any = |_: Rung| true;

    let empty = build(json!([]), json!([]));
    assert_eq!((stem.existing(&empty, any), stem.next(&empty)), (None, name(0)));

    // Just added: the kubelet has not said anything yet.
    let fresh = build(json!([container(0, full.clone())]), json!([]));
    assert_eq!(
        stem.existing(&fresh, any),
        Some(Existing {
            name: name(0),
            rung: Rung::Full
        })
    );

    let ended = build(
        json!([container(0, full.clone())]),
        json!([status(0, json!({"terminated": {"exitCode": 0, "reason": "Completed"}}))]),
    );
    assert_eq!((stem.existing(&ended, any), stem.next(&ended)), (None, name(1)));

    let lesser = build(
        json!([container(0, json!({"runAsUser": 0})), container(1, full.clone())]),
        json!([status(0, json!({"running": {}})), status(1, json!({"running": {}}))]),
    );
    assert_eq!(
        stem.existing(&lesser, any).map(|existing| existing.rung),
        Some(Rung::Full)
    );
    let lesser = build(
        json!([container(0, json!({"runAsUser": 0}))]),
        json!([status(0, json!({"running": {}}))]),
    );
    assert_eq!(
        stem.existing(&lesser, Rung::can_steal),
        None,
        "not enough for a steal: another is started"
    );

    let foreign = build(
        json!([{"name": "debugger-x"}, {"name": "inpod-0000000000-0"}]),
        json!([]),
    );
    assert_eq!((stem.existing(&foreign, any), stem.next(&foreign)), (None, name(0)));
}

#[test]
fn what_became_of_it() {
    let runc = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: \
                unable to start container process: exec: \"sh\": executable file not found in $PATH: unknown";
    let cases = [
        (json!({"running": {}}), Fate::Open),
        (json!({"waiting": {"reason": "ContainerCreating"}}), Fate::Open),
        (
            json!({"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}}),
            Fate::Failed("ErrImageNeverPull: not present".into()),
        ),
        (
            json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": runc}}),
            Fate::NoShell(format!("StartError: {runc}, exit code 128")),
        ),
        (
            json!({"terminated": {"exitCode": 70, "reason": "Error", "message": "inpod: no agent was delivered\n"}}),
            Fate::Failed("Error: inpod: no agent was delivered, exit code 70".into()),
        ),
        (
            json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
            Fate::Failed("it ended".into()),
        ),
    ];
    for (state, expected) in cases {
        let parsed: ContainerState = serde_json::from_value(state.clone()).expect("a state");
        assert_eq!(fate_of(&parsed), expected, "{state}");
    }
}

#[test]
fn agents_of_any_build_are_known_by_their_names() {
    let stem = Stem::new(&target(), "");
    let own = format!("{}-0", stem.0);
    let names = [
        &own,
        "inpod-0123456789-12",
        "inpod-0123456789-x",
        "inpod-tools-1",
        "debugger-x",
        "inpod-00000000ff-0",
    ];
    let containers: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
    let statuses = json!([
        {"name": own, "state": {"running": {}}, "image": "", "imageID": "", "ready": false, "restartCount": 0},
        {"name": "inpod-00000000ff-0", "state": {"terminated": {"exitCode": 0}}, "image": "", "imageID": "", "ready": false, "restartCount": 0},
    ]);
    let pod = pod(json!({"spec": {"containers": [], "ephemeralContainers": containers},
        "status": {"ephemeralContainerStatuses": statuses}}));
    assert_eq!(agents(&pod), [own.as_str(), "inpod-0123456789-12"]);
    assert!(stem.is_of(&own) && !stem.is_of("inpod-0123456789-12"));
    assert!(is_running(&pod, &own) && !is_running(&pod, "inpod-0123456789-12"));
}
