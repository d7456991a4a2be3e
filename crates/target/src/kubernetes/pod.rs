//! What a pod object says: which container is meant, whether it runs, and whether it can be a target at all.

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod, PodSpec};

use crate::error::TargetError;

/// Names a pod's default container, for kubectl and for us.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// The kubelet's own copy of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// The sandbox runs elsewhere and has no kernel of the node's.
const ARCHITECTURE: &str = "kubernetes.io/arch";

/// Containers that other tools put into pods: by name, or by the last part of the image's path.
const SIDECAR_NAMES: &[&str] = &[
    "istio-proxy",
    "linkerd-proxy",
    "envoy",
    "envoy-sidecar",
    "consul-dataplane",
    "consul-connect-envoy-sidecar",
    "kuma-sidecar",
    "vault-agent",
    "cloudsql-proxy",
    "cloud-sql-proxy",
    "daprd",
    "datadog-agent",
    "fluent-bit",
    "fluentd",
    "filebeat",
    "otc-container",
    "opentelemetry-collector",
    "oauth2-proxy",
    "queue-proxy",
    "aws-sigv4-proxy",
    "config-reloader",
];
const SIDECAR_IMAGES: &[&str] = &[
    "proxyv2",
    "proxy-init",
    "envoy",
    "consul-dataplane",
    "kuma-dp",
    "cloud-sql-proxy",
    "gce-proxy",
    "daprd",
    "fluent-bit",
    "fluentd",
    "filebeat",
    "opentelemetry-collector",
    "opentelemetry-collector-contrib",
    "oauth2-proxy",
];

/// A container that runs, as the pod's status has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) container: String,
    /// Without the runtime's scheme.
    pub(crate) id: String,
    pub(crate) image: String,
}

pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

pub(crate) fn node(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default()
}

pub(crate) fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

pub(crate) fn containers(pod: &Pod) -> &[Container] {
    pod.spec
        .as_ref()
        .map(|spec: &PodSpec| spec.containers.as_slice())
        .unwrap_or_default()
}

pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    containers(pod).iter().find(|container| container.name == name)
}

/// The TCP ports that the pod's containers declare.
pub(crate) fn ports(pod: &Pod) -> Vec<u16> {
    let declared = containers(pod)
        .iter()
        .flat_map(|container| container.ports.iter().flatten());
    declared
        .filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
        .filter_map(|port| u16::try_from(port.container_port).ok())
        .collect()
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The container that is meant: the named one, then the pod's own default, then the first that is no known sidecar.
///
/// # Errors
/// When the named container does not exist.
pub(crate) fn choose<'a>(pod: &'a Pod, wanted: Option<&str>) -> Result<&'a Container, TargetError> {
    let known = containers(pod);
    let find = |name: &str| known.iter().find(|container| container.name == name);
    let missing = |name: &str| {
        let known: Vec<String> = known.iter().map(|container| container.name.clone()).collect();
        TargetError::NoContainer {
            pod: self::name(pod).to_owned(),
            container: name.to_owned(),
            near: crate::near::nearest(name, known.iter().map(String::as_str)),
            known,
        }
    };
    if let Some(wanted) = wanted {
        return find(wanted).ok_or_else(|| missing(wanted));
    }
    annotation(pod, DEFAULT_CONTAINER)
        .and_then(find)
        .or_else(|| known.iter().find(|container| !is_sidecar(container)))
        .or_else(|| known.first())
        .ok_or_else(|| missing(""))
}

fn is_sidecar(container: &Container) -> bool {
    let image = container.image.as_deref().unwrap_or_default();
    let path = image.split('@').next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    let base = last.split(':').next().unwrap_or_default();
    SIDECAR_NAMES.contains(&container.name.as_str()) || SIDECAR_IMAGES.contains(&base)
}

/// What the spec alone says against this pod, whoever asks.
///
/// # Errors
/// [`TargetError::Unsupported`] with the reason.
pub(crate) fn check_supported(pod: &Pod) -> Result<(), TargetError> {
    let refuse = |reason: String| {
        Err(TargetError::Unsupported {
            pod: name(pod).to_owned(),
            reason,
        })
    };
    if annotation(pod, MIRROR).is_some() {
        return refuse(
            "it is a static pod: the kubelet runs it from a file, and the API server cannot add a container".to_owned(),
        );
    }
    let spec = pod.spec.as_ref();
    let os = spec.and_then(|spec| spec.os.as_ref()).map(|os| os.name.as_str());
    if let Some(os) = os.filter(|os| *os != "linux") {
        return refuse(format!("it runs on {os}; the agent is for Linux"));
    }
    let selected = spec
        .and_then(|spec| spec.node_selector.as_ref())
        .and_then(|labels| labels.get(ARCHITECTURE));
    if let Some(architecture) = selected {
        check_architecture(pod, architecture)?;
    }
    Ok(())
}

/// # Errors
/// [`TargetError::Unsupported`] where the agent's program cannot run.
pub(crate) fn check_architecture(pod: &Pod, architecture: &str) -> Result<(), TargetError> {
    if architecture == "amd64" {
        return Ok(());
    }
    let reason = format!("its node is {architecture}; the agent is built for amd64 only");
    Err(TargetError::Unsupported {
        pod: name(pod).to_owned(),
        reason,
    })
}

/// The container as it runs now.
///
/// # Errors
/// [`TargetError::NotRunning`] with the pod's own reason.
pub(crate) fn check_running(pod: &Pod, container: &str) -> Result<Running, TargetError> {
    let refuse = |reason: String| {
        Err(TargetError::NotRunning {
            namespace: namespace(pod).to_owned(),
            pod: name(pod).to_owned(),
            reason,
        })
    };
    if pod.metadata.deletion_timestamp.is_some() {
        return refuse("it is being deleted".to_owned());
    }
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Unknown");
    let status = statuses(pod).iter().find(|status| status.name == container);
    let state = status.and_then(|status| status.state.as_ref());
    match (phase, status, state.and_then(|state| state.running.as_ref())) {
        ("Running", Some(status), Some(_)) => {
            let id = status.container_id.as_deref().unwrap_or_default();
            let id = id.split_once("://").map_or(id, |(_, id)| id);
            if id.is_empty() {
                return refuse(format!("container `{container}` has no id yet"));
            }
            let image = self::container(pod, container).and_then(|container| container.image.clone());
            Ok(Running {
                container: container.to_owned(),
                id: id.to_owned(),
                image: image.unwrap_or_else(|| status.image.clone()),
            })
        }
        _ => refuse(why_not_running(pod)),
    }
}

fn statuses(pod: &Pod) -> &[ContainerStatus] {
    pod.status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default()
}

/// The pod's phase and everything that stands in its way, in the words of scheduler and kubelet.
pub(crate) fn why_not_running(pod: &Pod) -> String {
    let Some(status) = &pod.status else {
        return "it has no status yet".to_owned();
    };
    let mut reasons = vec![format!("phase {}", status.phase.as_deref().unwrap_or("Unknown"))];
    reasons.extend([&status.reason, &status.message].into_iter().flatten().cloned());
    for condition in status.conditions.iter().flatten() {
        if condition.type_ == "PodScheduled" && condition.status == "False" {
            let reason = condition.reason.as_deref().unwrap_or("not scheduled");
            reasons.push(format!(
                "{reason}: {}",
                condition.message.as_deref().unwrap_or_default()
            ));
        }
    }
    let initial = status.init_container_statuses.iter().flatten();
    for container in initial.chain(statuses(pod)) {
        reasons.extend(why_container(container));
    }
    reasons.join("; ")
}

/// Why a container does not run, or `None` when it does, or ended as it should.
fn why_container(status: &ContainerStatus) -> Option<String> {
    let now = describe_state(status.state.as_ref()?)?;
    let before = status.last_state.as_ref().and_then(describe_state);
    let before = before.map_or_else(String::new, |before| format!(" (before that: {before})"));
    Some(format!("container `{}`: {now}{before}", status.name))
}

pub(crate) fn describe_state(state: &ContainerState) -> Option<String> {
    let with = |reason: Option<&str>, message: Option<&str>| match (reason, message.map(str::trim)) {
        (Some(reason), Some(message)) if !message.is_empty() => format!("{reason}: {message}"),
        (Some(reason), _) => reason.to_owned(),
        (None, message) => message.unwrap_or_default().to_owned(),
    };
    if let Some(waiting) = &state.waiting {
        return Some(with(waiting.reason.as_deref(), waiting.message.as_deref()));
    }
    let ended = state.terminated.as_ref()?;
    if ended.exit_code == 0 && ended.reason.as_deref() == Some("Completed") {
        return None;
    }
    let how = ended.signal.filter(|signal| *signal != 0);
    let how = how.map_or_else(
        || format!("exit code {}", ended.exit_code),
        |signal| format!("signal {signal}"),
    );
    Some(format!(
        "{}, {how}",
        with(ended.reason.as_deref().or(Some("ended")), ended.message.as_deref())
    ))
}

/// Whether the pod's `Ready` condition holds.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
