//! Why a target cannot be reached, in the cluster's own words, and what would help.

use std::io;
use std::path::PathBuf;

use crate::kubernetes::rights::Denial;
use crate::spec::SpecError;

/// Each message holds the reason as the cluster or the kernel gave it; [`TargetError::hints`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("the target names the container `{target}`, the options name `{option}`")]
    TwoContainers { target: String, option: String },

    #[error("no usable kubeconfig: {reason}")]
    Kubeconfig { reason: String },
    #[error("there is no context `{name}` in the kubeconfig")]
    NoContext {
        name: String,
        known: Vec<String>,
        near: Vec<String>,
    },
    #[error("the API server {server} cannot be reached: {reason}")]
    Unreachable { server: String, reason: String },
    #[error("the API server does not accept these credentials: {message}")]
    Unauthorized { message: String },
    /// RBAC, not admission.
    #[error("no permission to {verb} {resource} in namespace `{namespace}`: {message}")]
    Forbidden {
        verb: &'static str,
        resource: &'static str,
        namespace: String,
        message: String,
    },

    #[error("there is no {kind} `{name}` in namespace `{namespace}`")]
    NotFound {
        kind: &'static str,
        name: String,
        namespace: String,
        near: Vec<String>,
        elsewhere: Vec<String>,
    },
    #[error("pod `{pod}` has no container `{container}`; it has {}", known.join(", "))]
    NoContainer {
        pod: String,
        container: String,
        known: Vec<String>,
        near: Vec<String>,
    },
    #[error("pod `{pod}` is not running: {reason}")]
    NotRunning {
        namespace: String,
        pod: String,
        reason: String,
    },
    #[error("{workload} has no pod that is ready: {reason}")]
    NoReadyPod {
        namespace: String,
        workload: String,
        reason: String,
    },
    #[error("pod `{pod}` cannot be a target: {reason}")]
    Unsupported { pod: String, reason: String },
    #[error("steal cannot work in pod `{pod}`: {reason}{}", denied(denials))]
    NoSteal {
        pod: String,
        reason: String,
        denials: Vec<Denial>,
    },

    #[error("admission refuses the agent in pod `{pod}`{}", denied(denials))]
    Admission {
        pod: String,
        namespace: String,
        denials: Vec<Denial>,
    },
    #[error("this cluster has no ephemeral containers: {message}")]
    NoEphemeralContainers { message: String },
    #[error("the image `{image}` has no shell that could receive the agent: {message}")]
    NoShell {
        image: String,
        message: String,
        configured: bool,
    },
    #[error("the agent's container `{container}` did not start in pod `{pod}`: {message}")]
    ContainerStart {
        namespace: String,
        pod: String,
        container: String,
        message: String,
    },
    #[error("the agent could not be delivered to pod `{pod}`: {message}")]
    Delivery { pod: String, message: String },
    #[error("the agent in container `{container}` of pod `{pod}` does not answer: {message}")]
    NoAnswer {
        pod: String,
        container: String,
        message: String,
    },
    /// Anything else that the API server answered.
    #[error("{what}: {message}")]
    Api { what: String, message: String },

    #[error("there is no process {pid} on this machine")]
    NoProcess { pid: u32 },
    #[error("process {pid} may not be entered: {reason}")]
    ProcessDenied { pid: u32, reason: String },
    #[error(
        "sessions at process {pid} are not known to each other: each has an agent of its own, which it alone reaches"
    )]
    OwnAgents { pid: u32 },
    #[error("the agent's program {} cannot be used: {source}", path.display())]
    AgentProgram { path: PathBuf, source: io::Error },
    #[error("the agent cannot be started: {0}")]
    Start(#[source] io::Error),
}

fn denied(denials: &[Denial]) -> String {
    denials
        .iter()
        .map(|denial| format!("\n  {}: {}", denial.rung, denial.message))
        .collect()
}

impl TargetError {
    /// What a person can do, each a sentence or a command of its own; the most likely first.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Kubeconfig { .. } => {
                vec!["set KUBECONFIG or write ~/.kube/config; `kubectl config view` shows what is used".to_owned()]
            }
            Self::NoContext { known, near, .. } => {
                let mut hints = did_you_mean(near);
                if known.is_empty() {
                    hints.push("the kubeconfig has no contexts at all".to_owned());
                } else {
                    hints.push(format!("contexts: {}", known.join(", ")));
                }
                hints
            }
            Self::Unreachable { server, .. } => vec![format!(
                "check the network, VPN and HTTPS_PROXY/NO_PROXY; `curl -k {server}/livez` should answer"
            )],
            Self::Unauthorized { .. } => {
                vec![
                    "log in again (the credentials may have expired); `kubectl auth whoami` shows who you are"
                        .to_owned(),
                ]
            }
            Self::Forbidden {
                verb,
                resource,
                namespace,
                ..
            } => vec![
                format!("kubectl auth can-i {verb} {} -n {namespace}", can_i(resource)),
                format!("a Role in `{namespace}` needs the rule {}", rbac_rule(verb, resource)),
            ],
            Self::NotFound {
                near,
                elsewhere,
                namespace,
                ..
            } => {
                let mut hints = did_you_mean(near);
                if let [first, ..] = elsewhere.as_slice() {
                    hints.push(format!(
                        "it exists in namespace {}: add -n {first}",
                        elsewhere.join(", ")
                    ));
                }
                hints.push(format!("inpod ls -n {namespace}"));
                hints
            }
            Self::NoContainer { near, .. } => did_you_mean(near),
            Self::NotRunning { namespace, pod, .. } => vec![format!("kubectl describe pod {pod} -n {namespace}")],
            Self::NoReadyPod {
                namespace, workload, ..
            } => {
                vec![
                    format!("kubectl describe {workload} -n {namespace}"),
                    format!("kubectl get pods -n {namespace}"),
                ]
            }
            Self::NoSteal { .. } => {
                vec![
                    "without --steal the session can go on: mirror where the rights allow it, or --no-incoming"
                        .to_owned(),
                ]
            }
            Self::Admission { namespace, .. } => vec![
                format!("kubectl get ns {namespace} --show-labels   # pod-security.kubernetes.io/enforce"),
                "ask for an exception for ephemeral containers, or use a namespace that admits them".to_owned(),
            ],
            Self::NoEphemeralContainers { .. } => {
                vec!["Kubernetes 1.25 or later is needed, with ephemeral containers not disabled".to_owned()]
            }
            Self::NoShell { configured, .. } => {
                if *configured {
                    vec!["agent.image itself needs a shell (sh, with head, mkdir, mv and chmod)".to_owned()]
                } else {
                    vec![
                        "give a small image with a shell: --agent-image busybox, or agent.image in inpod.toml"
                            .to_owned(),
                    ]
                }
            }
            Self::ContainerStart { namespace, pod, .. } => vec![format!("kubectl describe pod {pod} -n {namespace}")],
            Self::ProcessDenied { .. } => {
                vec!["run as the user that owns the process, or as root".to_owned()]
            }
            Self::AgentProgram { .. } => {
                vec!["cargo xtask dist builds one executable with the agent inside".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

fn did_you_mean(near: &[String]) -> Vec<String> {
    if near.is_empty() {
        Vec::new()
    } else {
        vec![format!("did you mean {}?", near.join(" or "))]
    }
}

/// A resource as `kubectl auth can-i` takes it.
fn can_i(resource: &str) -> String {
    match resource.split_once('/') {
        Some((resource, subresource)) => format!("{resource} --subresource={subresource}"),
        None => resource.to_owned(),
    }
}

fn rbac_rule(verb: &str, resource: &str) -> String {
    let group = match resource {
        "deployments" | "statefulsets" | "daemonsets" | "replicasets" => "apps",
        _ => "",
    };
    // WebSocket exec asks for both (`get` for the upgrade; `create` as well from 1.35).
    let verbs = if resource == "pods/exec" {
        r#""get", "create""#.to_owned()
    } else {
        format!("\"{verb}\"")
    };
    format!(r#"{{apiGroups: ["{group}"], resources: ["{resource}"], verbs: [{verbs}]}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_about_a_missing_right() {
        let error = TargetError::Forbidden {
            verb: "create",
            resource: "pods/exec",
            namespace: "shop".to_owned(),
            message: "no".to_owned(),
        };
        let expected = [
            "kubectl auth can-i create pods --subresource=exec -n shop",
            r#"a Role in `shop` needs the rule {apiGroups: [""], resources: ["pods/exec"], verbs: ["get", "create"]}"#,
        ];
        assert_eq!(error.hints(), expected);
    }

    #[test]
    fn every_denial_is_told() {
        use crate::kubernetes::rights::Rung;
        let denial = |rung, message: &str| Denial {
            rung,
            message: message.to_owned(),
        };
        let error = TargetError::Admission {
            pod: "web".to_owned(),
            namespace: "shop".to_owned(),
            denials: vec![
                denial(Rung::Full, "no NET_ADMIN"),
                denial(Rung::Restricted, "no at all"),
            ],
        };
        let expected = "admission refuses the agent in pod `web`\n  root with NET_ADMIN, NET_RAW and SYS_PTRACE: no NET_ADMIN\n  \
                        restricted, as the target's user: no at all";
        assert_eq!(error.to_string(), expected);
    }
}
