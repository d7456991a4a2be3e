//! Targets on the real cluster of the testbed, reached as the user with the documented minimum of rights, by the real agent.
//!
//! Needs root, the testbed (which is brought up where it is not) and the agent's static program.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use target::{
    AgentBinary, AgentSettings, Connector, Description, KubeOptions, Needs, Phase, Progress, Rung, TargetError,
};
use testbed::{FreshPod, Testbed};
use wire::message::{Facts, Open, ReplyBody, RequestBody};

fn testbed() -> Testbed {
    Testbed::require().expect("the testbed must come up")
}

/// `cargo xtask dist` builds it.
fn agent() -> AgentBinary {
    let built = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/static/x86_64-unknown-linux-gnu/release/agent"
    );
    let path = std::env::var_os("INPOD_AGENT").map_or_else(|| PathBuf::from(built), PathBuf::from);
    assert!(
        path.exists(),
        "the agent's program is needed: `cargo xtask dist` builds {}",
        path.display()
    );
    AgentBinary::Path(path)
}

/// Of an agent that no other test shares.
fn settings() -> AgentSettings {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let build = format!("test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    AgentSettings {
        build,
        linger: Duration::from_secs(10),
        ..AgentSettings::new(agent())
    }
}

fn options(testbed: &Testbed, namespace: &str) -> KubeOptions {
    KubeOptions {
        namespace: Some(namespace.to_owned()),
        kubeconfig: Some(testbed.user_kubeconfig()),
        ..KubeOptions::default()
    }
}

async fn resolve(
    testbed: &Testbed,
    namespace: &str,
    target: &str,
    settings: AgentSettings,
) -> Result<Connector, TargetError> {
    Connector::resolve(&target.parse()?, &options(testbed, namespace), settings).await
}

/// A session for as long as it is held.
struct Session {
    control: wire::ControlClient,
    _link: wire::Link,
}

impl Session {
    async fn start(connector: &Connector) -> Result<Self, TargetError> {
        let transport = connector.connect(|_| ()).await?;
        let hello = wire::Hello::new([1; 16], [2; 16], "test");
        let (link, _acceptor, _) = wire::connect(transport, hello).await.expect("the agent says hello");
        let stream = link.open(&Open::Control, &[]).await.expect("a stream");
        let (control, _) = wire::ControlClient::new(stream);
        Ok(Self { control, _link: link })
    }

    async fn facts(&self) -> Facts {
        match self.control.call(RequestBody::Facts).await.expect("an answer") {
            ReplyBody::Facts(facts) => facts,
            other => panic!("facts were asked for, not {other:?}"),
        }
    }

    /// The variable by which the testbed's pods tell their containers apart.
    async fn service(&self) -> String {
        match self.control.call(RequestBody::Env).await.expect("an answer") {
            ReplyBody::Env(env) => {
                let value = env
                    .into_iter()
                    .find(|(name, _)| name.0 == b"SERVICE")
                    .map(|(_, value)| value.0);
                String::from_utf8(value.unwrap_or_default()).expect("text")
            }
            other => panic!("the environment was asked for, not {other:?}"),
        }
    }
}

/// The names of a pod's ephemeral containers.
fn ephemeral(testbed: &Testbed, namespace: &str, pod: &str) -> Vec<String> {
    let pod = testbed
        .admin()
        .kubectl
        .json(&["get", "pod", pod, "--namespace", namespace])
        .expect("the pod");
    let containers = pod["spec"]["ephemeralContainers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    containers
        .iter()
        .filter_map(|container| container["name"].as_str())
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn a_deployment_gets_an_agent_with_all_rights_which_is_shared() {
    let testbed = testbed();
    let settings = settings();
    let first = resolve(&testbed, "default", "deploy/web", settings.clone())
        .await
        .expect("found");
    let Description::Pod {
        pod,
        container,
        node,
        host_network,
        ..
    } = first.describe()
    else {
        panic!("a pod")
    };
    assert!(pod.starts_with("web-") && container == "web" && !node.is_empty() && !host_network);
    let session = Session::start(&first).await.expect("reached");
    let facts = session.facts().await;
    assert_eq!(facts.hostname, pod);
    assert_eq!(facts.limits, wire::message::Limits::default(), "nothing is left out");
    let rights = first.rights().expect("known");
    assert_eq!(
        (rights.rung, rights.reused, rights.denials.len()),
        (Rung::Full, false, 0)
    );

    let second = resolve(&testbed, "default", "deploy/web", settings)
        .await
        .expect("found");
    let _both = Session::start(&second).await.expect("reached");
    let again = second.rights().expect("known");
    assert_eq!(
        (again.container, again.rung, again.reused),
        (rights.container, Rung::Full, true)
    );
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn targets_that_are_not_root_or_have_other_containers() {
    let testbed = testbed();
    for (target, uid, service) in [
        ("pod/nonroot", 1000, "nonroot"),
        ("pod/shared-processes", 0, "shared-processes"),
        ("pod/sidecars", 0, "sidecars"),
        ("pod/sidecars/container/istio-proxy", 0, "istio-proxy"),
    ] {
        let connector = resolve(&testbed, "default", target, settings()).await.expect(target);
        let session = Session::start(&connector).await.expect(target);
        assert_eq!(
            session.service().await,
            service,
            "{target}: the right process was found"
        );
        assert_eq!(session.facts().await.uid, uid, "{target}");
        assert_eq!(
            connector.rights().map(|rights| rights.rung),
            Some(Rung::Full),
            "{target}"
        );
    }
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn an_image_without_a_shell() {
    let testbed = testbed();
    let pod = FreshPod {
        image: "shop-bare",
        ..FreshPod::default()
    };
    let pod = testbed.admin().fresh_pod(&pod).expect("a pod");
    let target = format!("pod/{}", pod.name);
    let connector = resolve(&testbed, "default", &target, settings()).await.expect("found");
    let error = Session::start(&connector).await.err().expect("there is no shell");
    assert!(
        matches!(&error, TargetError::NoShell { image, configured: false, .. } if image == "inpod.test/shop-bare:1")
    );
    assert!(
        error.to_string().contains("executable file not found"),
        "the runtime's own words: {error}"
    );
    assert!(error.hints()[0].contains("--agent-image"), "{:?}", error.hints());

    let before = ephemeral(&testbed, "default", &pod.name).len();
    let with_image = AgentSettings {
        image: Some("inpod.test/busybox:1".to_owned()),
        ..settings()
    };
    let connector = resolve(&testbed, "default", &target, with_image).await.expect("found");
    let session = Session::start(&connector).await.expect("reached");
    assert_eq!(session.facts().await.hostname, pod.name);
    assert_eq!(
        ephemeral(&testbed, "default", &pod.name).len(),
        before + 1,
        "no container was added that cannot start"
    );
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn what_admission_refuses_is_given_up_and_told() {
    let testbed = testbed();
    for (namespace, rung, refused) in [("baseline", Rung::Root, 1), ("restricted", Rung::Restricted, 2)] {
        let connector = resolve(&testbed, namespace, "pod/web", settings())
            .await
            .expect(namespace);
        let session = Session::start(&connector).await.expect(namespace);
        let facts = session.facts().await;
        assert_eq!(session.service().await, namespace);
        assert!(
            facts.limits.steal.is_some() && facts.limits.files.is_none(),
            "{namespace}: {:?}",
            facts.limits
        );
        let rights = connector.rights().expect("known");
        assert_eq!((rights.rung, rights.denials.len()), (rung, refused), "{namespace}");
        for denial in &rights.denials {
            assert!(
                denial
                    .message
                    .contains(&format!("violates PodSecurity \"{namespace}:latest\"")),
                "{denial:?}"
            );
        }

        let before = ephemeral(&testbed, namespace, "web");
        let steal = AgentSettings {
            needs: Needs { steal: true },
            ..settings()
        };
        let connector = resolve(&testbed, namespace, "pod/web", steal).await.expect(namespace);
        let error = connector.connect(|_| ()).await.err().expect("it cannot be stolen from");
        assert!(
            matches!(&error, TargetError::NoSteal { denials, .. } if denials.len() == 1),
            "{error}"
        );
        assert!(error.to_string().contains("violates PodSecurity"), "{error}");
        assert_eq!(
            ephemeral(&testbed, namespace, "web"),
            before,
            "{namespace}: nothing was created"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn of_sessions_that_start_together_one_delivers() {
    let testbed = testbed();
    let pod = testbed.admin().fresh_pod(&FreshPod::default()).expect("a pod");
    let target = format!("pod/{}", pod.name);
    let settings = settings();
    let delivered = AtomicU32::new(0);
    let one = || async {
        let connector = resolve(&testbed, "default", &target, settings.clone())
            .await
            .expect("found");
        let count = |progress| {
            if progress == Progress::Began(Phase::Patch) {
                delivered.fetch_add(1, Ordering::Relaxed);
            }
        };
        let transport = connector.connect(count).await.expect("reached");
        let hello = wire::Hello::new([1; 16], [2; 16], "test");
        let linked = wire::connect(transport, hello).await.expect("the agent says hello");
        (linked, connector.rights().expect("known").container)
    };
    let sessions = futures::future::join_all((0..4).map(|_| one())).await;
    assert_eq!(
        ephemeral(&testbed, "default", &pod.name),
        [sessions[0].1.clone()],
        "one agent"
    );
    assert!(sessions.iter().all(|session| session.1 == sessions[0].1));
    assert!(delivered.into_inner() > 1, "they did start together");
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn an_agent_that_ended_is_followed_by_another() {
    let testbed = testbed();
    let pod = testbed.admin().fresh_pod(&FreshPod::default()).expect("a pod");
    let short = AgentSettings {
        linger: Duration::from_secs(1),
        ..settings()
    };
    let connector = resolve(&testbed, "default", &format!("pod/{}", pod.name), short)
        .await
        .expect("found");
    let session = Session::start(&connector).await.expect("reached");
    let first = connector.rights().expect("known").container;
    drop(session);
    let ended = || {
        let pod = testbed
            .admin()
            .kubectl
            .json(&["get", "pod", &pod.name, "--namespace", "default"])?;
        let status = &pod["status"]["ephemeralContainerStatuses"][0]["state"];
        Ok(if status["terminated"].is_object() {
            Ok(())
        } else {
            Err(status.to_string())
        })
    };
    testbed::wait_for("have the agent end", Duration::from_secs(30), ended).expect("it ends when nobody needs it");
    let session = Session::start(&connector)
        .await
        .expect("reached again by the same connector");
    assert_eq!(session.facts().await.hostname, pod.name);
    let second = connector.rights().expect("known").container;
    assert_eq!(first.strip_suffix("-0").map(|stem| format!("{stem}-1")), Some(second));
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn a_pod_on_its_nodes_network_is_not_stolen_from() {
    let testbed = testbed();
    let spec = json!({"hostNetwork": true});
    let pod = FreshPod {
        args: &["web", "127.0.0.1:18099"],
        port: None,
        spec,
        ..FreshPod::default()
    };
    let pod = testbed.admin().fresh_pod(&pod).expect("a pod");
    let target = format!("pod/{}", pod.name);
    let steal = AgentSettings {
        needs: Needs { steal: true },
        ..settings()
    };
    let error = resolve(&testbed, "default", &target, steal)
        .await
        .err()
        .expect("refused");
    assert!(error.to_string().contains("shares its node's network"), "{error}");
    let connector = resolve(&testbed, "default", &target, settings())
        .await
        .expect("otherwise it can be a target");
    assert!(connector.describe().host_network());
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn what_cannot_be_reached_says_why() {
    let testbed = testbed();
    let broken = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "never-pulled", "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 0,
            "containers": [{"name": "app", "image": "inpod.test/nowhere:1", "imagePullPolicy": "Never"}]},
    });
    let admin = testbed.admin();
    admin.kubectl.apply(&broken.to_string()).expect("applied");
    let waiting = || {
        let pod = admin
            .kubectl
            .json(&["get", "pod", "never-pulled", "--namespace", "default"])?;
        let reason = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
        Ok(if reason == "ErrImageNeverPull" {
            Ok(())
        } else {
            Err(reason.to_string())
        })
    };
    testbed::wait_for("have the pod fail", Duration::from_secs(30), waiting).expect("it fails");
    let cases = [
        (
            "default",
            "deploy/webb",
            "there is no deployment `webb` in namespace `default`",
            "did you mean web?",
        ),
        (
            "baseline",
            "pod/nonroott",
            "there is no pod `nonroott`",
            "inpod ls -n baseline",
        ),
        (
            "default",
            "pod/sidecars/container/wob",
            "pod `sidecars` has no container `wob`; it has istio-proxy, web",
            "did you mean web?",
        ),
        (
            "default",
            "pod/never-pulled",
            "ErrImageNeverPull: Container image \"inpod.test/nowhere:1\" is not present",
            "kubectl describe pod",
        ),
        (
            "kube-system",
            "deploy/coredns",
            "User \"developer\" cannot get resource \"deployments\"",
            "kubectl auth can-i get deployments",
        ),
    ];
    let asked = Instant::now();
    for (namespace, target, message, hint) in cases {
        let error = resolve(&testbed, namespace, target, settings())
            .await
            .err()
            .expect(target);
        assert!(error.to_string().contains(message), "{target}: {error}");
        assert!(
            error.hints().iter().any(|given| given.contains(hint)),
            "{target}: {:?}",
            error.hints()
        );
    }
    assert!(
        asked.elapsed() < Duration::from_secs(60),
        "within seconds: {:?}",
        asked.elapsed()
    );
    admin
        .kubectl
        .run(&["delete", "pod", "never-pulled", "--namespace", "default"])
        .expect("deleted");

    let mut elsewhere = options(&testbed, "default");
    elsewhere.context = Some("nowhere".to_owned());
    let spec = "deploy/web".parse().expect("a target");
    let error = Connector::resolve(&spec, &elsewhere, settings())
        .await
        .err()
        .expect("no such context");
    assert!(
        error.to_string().contains("no context `nowhere`") && error.hints()[0].starts_with("contexts: "),
        "{error}"
    );
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn targets_are_listed() {
    let testbed = testbed();
    let listing = target::list(&options(&testbed, "default")).await.expect("listed");
    assert!(
        listing.missing.is_empty(),
        "the plain user may list all of it: {:?}",
        listing.missing
    );
    let find = |name: &str| listing.targets.iter().find(|listed| listed.target == name).expect(name);
    assert_eq!(find("deploy/web").ready, (1, 1));
    let sidecars = find("pod/sidecars");
    let containers: Vec<&str> = sidecars
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    assert_eq!(containers, ["web", "istio-proxy"], "the default container first");
    let error = target::list(&options(&testbed, "kube-system"))
        .await
        .expect_err("not permitted");
    assert!(matches!(error, TargetError::Forbidden { .. }), "{error}");
}

/// Delivery's part of the time to the app's `main`: printed, and an agent that is there saves some. The goals are the bench's.
///
/// Measured on pods that have come to rest: for some seconds after a pod's own start the kubelet takes 2 s to look at a
/// change of it (its pod worker waits for the next relist of containers), whoever makes it.
#[tokio::test]
#[ignore = "needs a cluster"]
async fn how_long_it_takes() {
    const TIMES: usize = 7;
    const REST: Duration = Duration::from_secs(10);
    let testbed = testbed();
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    let pods: Vec<testbed::Pod> = (0..TIMES)
        .map(|_| testbed.admin().fresh_pod(&FreshPod::default()).expect("a pod"))
        .collect();
    tokio::time::sleep(REST).await;
    for pod in &pods {
        let target = format!("pod/{}", pod.name);
        let settings = settings();
        for times in [&mut cold, &mut warm] {
            let since = Instant::now();
            let connector = resolve(&testbed, "default", &target, settings.clone())
                .await
                .expect("found");
            let phases = Mutex::new(Vec::new());
            let note = |progress| {
                if let Progress::Ended(phase, took) = progress {
                    phases
                        .lock()
                        .expect("alone")
                        .push(format!("{phase} {} ms", took.as_millis()));
                }
            };
            let _transport = connector.connect(note).await.expect("reached");
            times.push(since.elapsed());
            println!(
                "{:4} ms: {}",
                since.elapsed().as_millis(),
                phases.into_inner().expect("alone").join(", ")
            );
        }
    }
    cold.sort_unstable();
    warm.sort_unstable();
    println!(
        "median of {TIMES}: fresh pod {:?}, agent there {:?}",
        cold[TIMES / 2],
        warm[TIMES / 2]
    );
    assert!(warm[TIMES / 2] < cold[TIMES / 2], "{warm:?} {cold:?}");
}
