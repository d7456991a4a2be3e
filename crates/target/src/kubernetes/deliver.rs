//! A pod as a target, and the way of the agent into it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::Api;
use tokio::io::AsyncReadExt;
use wire::BoxTransport;

use super::client::Cluster;
use super::enter::TRY;
use super::pod::{self, Running};
use super::probes::{self, PodProbe};
use super::rights::{Rights, Rung};
use super::services::PodServices;
use super::spec_view::{self, EnvFromSpec, VolumeMount};
use super::start::{Added, Existing, Recipe, Stem};
use crate::binary::Program;
use crate::connector::Description;
use crate::error::TargetError;
use crate::options::{AgentSettings, KubeOptions, Needs};
use crate::progress::{Clock, Phase, Progress};
use crate::spec::TargetSpec;

/// A pod object younger than this is not read again.
const FRESH: Duration = Duration::from_secs(2);
/// How often an agent that ends under the session's hands is followed by another.
const ATTEMPTS: usize = 3;

/// A running container of a pod.
pub(crate) struct PodTarget {
    pub(super) cluster: Cluster,
    pub(super) name: String,
    pub(super) container: String,
    pub(super) settings: Settings,
    state: Mutex<State>,
}

pub(super) struct Settings {
    pub(super) image: Option<String>,
    linger: Duration,
    log: Option<String>,
    build: String,
    needs: Needs,
    pub(super) program: Program,
}

struct State {
    pod: Pod,
    /// `None` when the pod has changed since.
    read: Option<Instant>,
    rights: Option<Rights>,
}

pub(super) type Report<'a> = &'a (dyn Fn(Progress) + Send + Sync);

impl PodTarget {
    /// # Errors
    /// When the pod does not exist, does not run, or cannot be a target.
    pub(crate) async fn find(
        spec: &TargetSpec,
        options: &KubeOptions,
        settings: AgentSettings,
    ) -> Result<Self, TargetError> {
        let wanted = match (spec.container(), options.container.as_deref()) {
            (Some(target), Some(option)) if target != option => {
                return Err(TargetError::TwoContainers {
                    target: target.to_owned(),
                    option: option.to_owned(),
                });
            }
            (target, option) => target.or(option),
        };
        let cluster = Cluster::open(options).await?;
        let pod = match spec {
            TargetSpec::Workload { kind, name, .. } => cluster.pod_of(*kind, name).await?,
            TargetSpec::Pod { name, .. } => cluster.pod(name).await?,
            TargetSpec::Process(pid) => return Err(TargetError::NoProcess { pid: *pid }),
        };
        let container = pod::choose(&pod, wanted)?.name.clone();
        pod::check_supported(&pod)?;
        pod::check_running(&pod, &container)?;
        if settings.needs.steal && pod::host_network(&pod) {
            let reason = "it shares its node's network: the packet rules would be the node's".to_owned();
            return Err(TargetError::NoSteal {
                pod: pod::name(&pod).to_owned(),
                reason,
                denials: Vec::new(),
            });
        }
        check_node(&cluster, &pod).await?;
        let settings = Settings {
            image: settings.image,
            linger: settings.linger,
            log: settings.log,
            build: settings.build,
            needs: settings.needs,
            program: Program::new(settings.binary),
        };
        let name = pod::name(&pod).to_owned();
        let state = Mutex::new(State {
            pod,
            read: Some(Instant::now()),
            rights: None,
        });
        Ok(Self {
            cluster,
            name,
            container,
            settings,
            state,
        })
    }

    fn with_state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        // A panic while it was held cannot have left it half written: every change is one assignment.
        with(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(crate) fn describe(&self) -> Description {
        self.with_state(|state| Description::Pod {
            context: self.cluster.context.clone(),
            namespace: self.cluster.namespace.clone(),
            pod: self.name.clone(),
            container: self.container.clone(),
            image: pod::container(&state.pod, &self.container)
                .and_then(|container| container.image.clone())
                .unwrap_or_default(),
            node: pod::node(&state.pod).to_owned(),
            host_network: pod::host_network(&state.pod),
        })
    }

    pub(crate) fn probes(&self) -> Vec<PodProbe> {
        self.with_state(|state| probes::of(&state.pod))
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.with_state(|state| pod::ports(&state.pod))
    }

    /// Reads what the spec only refers to, as far as the user may.
    pub(crate) async fn env_from_spec(&self) -> EnvFromSpec {
        let pod = self.with_state(|state| state.pod.clone());
        let contents = self.cluster.contents(spec_view::objects(&pod, &self.container)).await;
        spec_view::env(&pod, &self.container, &contents)
    }

    pub(crate) fn volume_mounts(&self) -> Vec<VolumeMount> {
        self.with_state(|state| spec_view::volume_mounts(&state.pod, &self.container))
    }

    pub(crate) async fn services(&self) -> Result<PodServices, TargetError> {
        let pod = self.with_state(|state| state.pod.clone());
        PodServices::list(&self.cluster, pod).await
    }

    pub(crate) fn rights(&self) -> Option<Rights> {
        self.with_state(|state| state.rights.clone())
    }

    /// One transport to the agent of this pod, which is started where none serves.
    pub(crate) async fn connect(&self, report: Report<'_>) -> Result<BoxTransport, TargetError> {
        let mut last = String::new();
        for attempt in 0..ATTEMPTS {
            let pod = self.pod(attempt > 0).await?;
            let target = pod::check_running(&pod, &self.container)?;
            let stem = self.stem(&target);
            let rights = match stem.existing(&pod, |rung| self.enough(rung)) {
                Some(Existing { name, rung }) => Rights {
                    rung,
                    denials: Vec::new(),
                    reused: true,
                    container: name,
                },
                None => match self.add(&pod, &target, &stem, report).await? {
                    Some(rights) => rights,
                    None => continue,
                },
            };
            match self.enter(&rights, report).await {
                Ok(transport) => {
                    self.with_state(|state| state.rights = Some(rights));
                    return Ok(transport);
                }
                // An agent may end (its linger is over) between the look at the pod and the exec: then another follows.
                Err(TargetError::ContainerStart { message, .. }) if rights.reused => last = message,
                Err(error) => return Err(error),
            }
        }
        Err(TargetError::Delivery {
            pod: self.name.clone(),
            message: format!("no agent stayed: {last}"),
        })
    }

    fn enough(&self, rung: Rung) -> bool {
        !self.settings.needs.steal || rung.can_steal()
    }

    pub(super) fn stem(&self, target: &Running) -> Stem {
        Stem::new(target, &self.settings.build)
    }

    pub(super) async fn pod(&self, again: bool) -> Result<Pod, TargetError> {
        let known = self.with_state(|state| {
            state
                .read
                .filter(|read| read.elapsed() < FRESH && !again)
                .map(|_| state.pod.clone())
        });
        match known {
            Some(pod) => Ok(pod),
            None => self.read().await,
        }
    }

    pub(super) async fn read(&self) -> Result<Pod, TargetError> {
        let pod = self.cluster.pod(&self.name).await?;
        self.with_state(|state| {
            state.pod = pod.clone();
            state.read = Some(Instant::now());
        });
        Ok(pod)
    }

    /// Adds an agent's container; `None` when another session was faster and the pod has to be looked at again.
    async fn add(
        &self,
        pod: &Pod,
        target: &Running,
        stem: &Stem,
        report: Report<'_>,
    ) -> Result<Option<Rights>, TargetError> {
        let clock = Clock::begin(report, Phase::Patch);
        let image = self.image(pod, target, stem).await?;
        let name = stem.next(pod);
        let recipe = Recipe {
            pod,
            target,
            name: &name,
            image: &image,
            linger: self
                .settings
                .linger
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX),
            log: self.settings.log.as_deref(),
        };
        let added = self.cluster.add(&recipe, |rung| self.enough(rung)).await?;
        self.with_state(|state| state.read = None);
        clock.end();
        Ok(match added {
            Added::Yes(rung, denials) => Some(Rights {
                rung,
                denials,
                reused: false,
                container: name,
            }),
            Added::Raced => None,
        })
    }

    /// The target's own image where it has a shell, else the configured one.
    async fn image(&self, pod: &Pod, target: &Running, stem: &Stem) -> Result<String, TargetError> {
        let known = stem.no_shell(pod, &target.image);
        match (&self.settings.image, known) {
            (None, None) => Ok(target.image.clone()),
            (None, Some(message)) => Err(TargetError::NoShell {
                image: target.image.clone(),
                message,
                configured: false,
            }),
            (Some(image), Some(_)) => Ok(image.clone()),
            (Some(image), None) => {
                // Asked first: a container that cannot start would stay in the pod's status for good.
                Ok(if self.has_shell().await {
                    target.image.clone()
                } else {
                    image.clone()
                })
            }
        }
    }

    /// Whether the target container itself can run the shell and what the scripts need.
    async fn has_shell(&self) -> bool {
        let test = [
            "sh",
            "-c",
            "command -v head && command -v mkdir && command -v mv && command -v chmod",
        ];
        let asked = async {
            let mut stream = self
                .cluster
                .exec(&self.name, &self.container, &test, false)
                .await
                .ok()?;
            stream.read_to_end(&mut Vec::new()).await.ok()
        };
        tokio::time::timeout(TRY, asked)
            .await
            .is_ok_and(|answer| answer.is_some())
    }
}

/// # Errors
/// When the node's kernel or architecture is not one that the agent is built for. Who may not read nodes learns it from
/// the agent's container instead.
async fn check_node(cluster: &Cluster, pod: &Pod) -> Result<(), TargetError> {
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let node = cluster
        .ask(cluster.asking("get", "nodes"), nodes.get(pod::node(pod)))
        .await;
    let info = match node {
        Ok(node) => node.status.and_then(|status| status.node_info),
        Err(TargetError::Forbidden { .. } | TargetError::Api { .. }) => None,
        Err(error) => return Err(error),
    };
    let Some(info) = info else { return Ok(()) };
    if info.operating_system != "linux" {
        let reason = format!("its node runs {}; the agent is for Linux", info.operating_system);
        return Err(TargetError::Unsupported {
            pod: pod::name(pod).to_owned(),
            reason,
        });
    }
    pod::check_architecture(pod, &info.architecture)
}
