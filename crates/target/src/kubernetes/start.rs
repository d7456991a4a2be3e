//! The agent's ephemeral container: what it is called, how it gets into the pod, and what became of it.

use k8s_openapi::api::core::v1::{ContainerState, EphemeralContainer, Pod};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::client::{Cluster, rbac, said};
use super::pod::{self, Running};
use super::rights::{Denial, Rung, rung_of, security_context};
use super::script;
use crate::error::TargetError;

/// How the name of every agent's container begins.
const PREFIX: &str = "inpod-";

/// The containers of one agent in one run of one target container are called this and a number: an ended ephemeral
/// container cannot be started again and its name stays taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stem(String);

/// What an agent's container is made of.
#[derive(Debug, Clone)]
pub(crate) struct Recipe<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) target: &'a Running,
    pub(crate) name: &'a str,
    pub(crate) image: &'a str,
    /// Whole seconds.
    pub(crate) linger: u64,
    pub(crate) log: Option<&'a str>,
}

/// An agent's container that is in the pod already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Existing {
    pub(crate) name: String,
    pub(crate) rung: Rung,
}

/// What the pod's status says of an agent's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing yet, being created, or running.
    Open,
    /// The image has no shell.
    NoShell(String),
    /// It ended or will never start.
    Failed(String),
}

impl Stem {
    /// `build` sets agents apart that must not be shared.
    pub(crate) fn new(target: &Running, build: &str) -> Self {
        let (_, protocol) = wire::hello::VERSIONS;
        let parts = [
            &target.container,
            &target.id,
            env!("CARGO_PKG_VERSION"),
            &protocol.to_string(),
            build,
        ]
        .join("\0");
        Self(format!("{PREFIX}{:010x}", fnv(parts.as_bytes()) & 0xff_ffff_ffff))
    }

    /// The names of the pod's containers for this agent, in the order of their numbers.
    fn of<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = (&'a EphemeralContainer, Fate)> {
        let all = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.ephemeral_containers.as_deref())
            .unwrap_or_default();
        all.iter()
            .filter(|container| self.is_of(&container.name))
            .map(|container| (container, fate(pod, &container.name)))
    }

    /// Whether a container of this name is one of this agent's.
    pub(crate) fn is_of(&self, container: &str) -> bool {
        container
            .strip_prefix(&self.0)
            .is_some_and(|tail| tail.starts_with('-'))
    }

    /// The one to use: the living one with the most rights, when they are enough.
    pub(crate) fn existing(&self, pod: &Pod, enough: impl Fn(Rung) -> bool) -> Option<Existing> {
        let living = self
            .of(pod)
            .filter(|(_, fate)| *fate == Fate::Open)
            .map(|(container, _)| Existing {
                name: container.name.clone(),
                rung: rung_of(container.security_context.as_ref()),
            });
        living
            .filter(|existing| enough(existing.rung))
            .max_by_key(|existing| existing.rung)
    }

    /// The next free name. Two sessions that see the same pod choose the same one, and so start one agent.
    pub(crate) fn next(&self, pod: &Pod) -> String {
        format!("{}-{}", self.0, self.of(pod).count())
    }

    /// Whether a container with this image has shown before that there is no shell in it.
    pub(crate) fn no_shell(&self, pod: &Pod, image: &str) -> Option<String> {
        self.of(pod).find_map(|(container, fate)| match fate {
            Fate::NoShell(message) if container.image.as_deref() == Some(image) => Some(message),
            _ => None,
        })
    }
}

/// FNV-1a: a name must be the same from every build and machine; it guards nothing.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

impl Recipe<'_> {
    /// A strategic merge patch of the `ephemeralcontainers` subresource.
    pub(crate) fn patch(&self, rung: Rung) -> Value {
        let own_image = self.image == self.target.image;
        let mut env = vec![];
        if let Some(log) = self.log {
            env.push(json!({"name": "INPOD_LOG", "value": log}));
        }
        json!({"spec": {"ephemeralContainers": [{
            "name": self.name,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "targetContainerName": self.target.container,
            "command": ["sh", "-c", script::RUN, "inpod", self.name, self.target.id, self.linger.to_string()],
            "env": env,
            "securityContext": security_context(rung, self.pod, &self.target.container, own_image),
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }]}})
    }
}

/// How adding a container went.
#[derive(Debug)]
pub(crate) enum Added {
    Yes(Rung, Vec<Denial>),
    /// Another session added one of that name with other contents: look again.
    Raced,
}

impl Cluster {
    /// Adds the container with the most rights that the cluster admits; refused ones leave nothing behind.
    ///
    /// The real patch is tried at once: a refusal by admission is as exact and leaves as little as a dry run's, and a round
    /// trip is saved.
    ///
    /// # Errors
    /// When nothing is admitted, or nothing that is `enough`.
    pub(crate) async fn add(&self, recipe: &Recipe<'_>, enough: impl Fn(Rung) -> bool) -> Result<Added, TargetError> {
        let name = pod::name(recipe.pod);
        let mut denials: Vec<Denial> = Vec::new();
        for rung in Rung::LADDER {
            if !enough(rung) {
                let reason = "the agent would not get the rights for packet rules".to_owned();
                return Err(TargetError::NoSteal {
                    pod: name.to_owned(),
                    reason,
                    denials,
                });
            }
            let patch = Patch::Strategic(recipe.patch(rung));
            let pods = self.pods();
            let parameters = PatchParams::default();
            let request = pods.patch_ephemeral_containers(name, &parameters, &patch);
            let asking = self.asking("patch", "pods/ephemeralcontainers");
            match tokio::time::timeout(std::time::Duration::from_secs(20), request).await {
                Ok(Ok(_)) => return Ok(Added::Yes(rung, denials)),
                Ok(Err(kube::Error::Api(status))) => match status.code {
                    401 => return Err(self.explain(asking, kube::Error::Api(status))),
                    403 if rbac(&status.message) => return Err(self.explain(asking, kube::Error::Api(status))),
                    404 if status.details.as_ref().is_some_and(|details| details.name == name) => {
                        let reason = "it has gone".to_owned();
                        let namespace = self.namespace.clone();
                        return Err(TargetError::NotRunning {
                            namespace,
                            pod: name.to_owned(),
                            reason,
                        });
                    }
                    404 => return Err(TargetError::NoEphemeralContainers { message: said(&status) }),
                    409 => return Ok(Added::Raced),
                    422 if status.message.contains("may not be changed") => return Ok(Added::Raced),
                    400..=499 => denials.push(Denial {
                        rung,
                        message: said(&status),
                    }),
                    _ => return Err(self.explain(asking, kube::Error::Api(status))),
                },
                Ok(Err(error)) => return Err(self.explain(asking, error)),
                Err(_) => return Err(self.unreachable("no answer to the patch within 20 s".to_owned())),
            }
        }
        Err(TargetError::Admission {
            pod: name.to_owned(),
            namespace: self.namespace.clone(),
            denials,
        })
    }
}

/// The containers of agents of any build that have not ended.
pub(crate) fn agents(pod: &Pod) -> Vec<String> {
    let all = pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_deref());
    let names = all.unwrap_or_default().iter().map(|container| &container.name);
    let ours = names.filter(|name| {
        let parts = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
        parts.is_some_and(|(hash, number)| {
            hash.len() == 10
                && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
                && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    });
    ours.filter(|name| fate(pod, name) == Fate::Open).cloned().collect()
}

/// Whether the pod's status says that an ephemeral container runs.
pub(crate) fn is_running(pod: &Pod, name: &str) -> bool {
    state(pod, name).is_some_and(|state| state.running.is_some())
}

/// What became of an ephemeral container.
pub(crate) fn fate(pod: &Pod, name: &str) -> Fate {
    state(pod, name).map_or(Fate::Open, fate_of)
}

fn state<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerState> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.ephemeral_container_statuses.as_deref());
    let status = statuses.unwrap_or_default().iter().find(|status| status.name == name);
    status.and_then(|status| status.state.as_ref())
}

fn fate_of(state: &ContainerState) -> Fate {
    let words = || pod::describe_state(state).unwrap_or_else(|| "it ended".to_owned());
    if let Some(waiting) = &state.waiting {
        return match waiting.reason.as_deref() {
            None | Some("ContainerCreating" | "PodInitializing") => Fate::Open,
            Some(_) if shell_is_missing(waiting.message.as_deref()) => Fate::NoShell(words()),
            Some(_) => Fate::Failed(words()),
        };
    }
    match &state.terminated {
        None => Fate::Open,
        Some(ended) if shell_is_missing(ended.message.as_deref()) => Fate::NoShell(words()),
        Some(_) => Fate::Failed(words()),
    }
}

/// runc: `exec: "sh": executable file not found in $PATH`; crun: `executable file `sh` not found`; either may speak of the
/// file by its path.
pub(crate) fn shell_is_missing(message: Option<&str>) -> bool {
    let message = message.unwrap_or_default();
    message.contains("sh")
        && message.contains("exec")
        && (message.contains("executable file not found")
            || message.contains("executable file `sh` not found")
            || message.contains("no such file or directory"))
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
