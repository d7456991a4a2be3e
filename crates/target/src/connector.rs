//! The target that a text stands for, reachable as often as needed.

use std::fmt;
use std::time::{Duration, Instant};

use wire::BoxTransport;

use crate::binary::Program;
use crate::error::TargetError;
use crate::kubernetes::deliver::PodTarget;
use crate::kubernetes::probes::PodProbe;
use crate::kubernetes::rights::Rights;
use crate::kubernetes::services::PodServices;
use crate::kubernetes::spec_view::{EnvFromSpec, VolumeMount};
use crate::options::{AgentSettings, KubeOptions};
use crate::process::ProcessTarget;
use crate::progress::{Phase, Progress};
use crate::spec::TargetSpec;

/// A target that was found. [`Connector::connect`] reaches its agent, again after a transport was lost.
pub struct Connector {
    place: Place,
    resolved: Duration,
}

enum Place {
    Pod(Box<PodTarget>),
    Process(ProcessTarget),
}

/// What [`Connector::serving`] finds.
#[derive(Default)]
pub struct Serving {
    pub agents: Vec<BoxTransport>,
    /// Containers of agents that belong to another build of inpod, or to a run of the container that has ended.
    pub others: Vec<String>,
}

/// What the target is, for people and for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Description {
    Pod {
        /// The kubeconfig's context; absent inside a cluster.
        context: Option<String>,
        namespace: String,
        pod: String,
        container: String,
        image: String,
        node: String,
        /// It shares the node's network: steal is refused, its rules would be the node's.
        host_network: bool,
    },
    Process {
        pid: u32,
        command: String,
    },
}

impl Description {
    /// The pod shares its node's network.
    #[must_use]
    pub fn host_network(&self) -> bool {
        matches!(self, Self::Pod { host_network: true, .. })
    }
}

impl fmt::Display for Description {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod {
                namespace,
                pod,
                container,
                node,
                ..
            } => {
                write!(
                    formatter,
                    "pod {namespace}/{pod}, container {container}, on node {node}"
                )
            }
            Self::Process { pid, command } => write!(formatter, "process {pid} ({command})"),
        }
    }
}

impl Connector {
    /// Finds the target and checks everything that can be known before anything is created.
    ///
    /// # Errors
    /// When it does not exist, cannot be asked about, does not run, or cannot be a target; see [`TargetError`].
    pub async fn resolve(
        spec: &TargetSpec,
        options: &KubeOptions,
        settings: AgentSettings,
    ) -> Result<Self, TargetError> {
        let since = Instant::now();
        let place = match spec {
            TargetSpec::Process(pid) => {
                if let Some(container) = &options.container {
                    return Err(crate::spec::SpecError::ProcessContainer(container.clone()).into());
                }
                Place::Process(ProcessTarget::find(*pid, Program::new(settings.binary), settings.log)?)
            }
            TargetSpec::Pod { .. } | TargetSpec::Workload { .. } => {
                Place::Pod(Box::new(PodTarget::find(spec, options, settings).await?))
            }
        };
        Ok(Self {
            place,
            resolved: since.elapsed(),
        })
    }

    /// One transport to the target's agent, which is started where none runs.
    ///
    /// # Errors
    /// When the agent cannot be delivered or does not answer; nothing that was refused stays in the cluster.
    pub async fn connect(&self, progress: impl Fn(Progress) + Send + Sync) -> Result<BoxTransport, TargetError> {
        progress(Progress::Ended(Phase::Resolve, self.resolved));
        match &self.place {
            Place::Pod(pod) => pod.connect(&progress).await,
            Place::Process(process) => process.connect(&progress),
        }
    }

    /// One transport to each agent that serves at the target already; none is started.
    ///
    /// # Errors
    /// When the pod cannot be asked, or an agent in it does not answer; for a process, whose agents serve one session each.
    pub async fn serving(&self) -> Result<Serving, TargetError> {
        match &self.place {
            Place::Pod(pod) => pod.serving().await,
            Place::Process(process) => Err(TargetError::OwnAgents { pid: process.pid }),
        }
    }

    /// What the target is.
    #[must_use]
    pub fn describe(&self) -> Description {
        match &self.place {
            Place::Pod(pod) => pod.describe(),
            Place::Process(process) => Description::Process {
                pid: process.pid,
                command: process.command.clone(),
            },
        }
    }

    /// The HTTP and TCP probes of all containers of the pod; none for a process.
    #[must_use]
    pub fn pod_probes(&self) -> Vec<PodProbe> {
        match &self.place {
            Place::Pod(pod) => pod.probes(),
            Place::Process(_) => Vec::new(),
        }
    }

    /// The TCP ports that the pod's containers declare; none for a process.
    #[must_use]
    pub fn pod_ports(&self) -> Vec<u16> {
        match &self.place {
            Place::Pod(pod) => pod.ports(),
            Place::Process(_) => Vec::new(),
        }
    }

    /// The environment as the pod's spec gives it, for an agent that may not read the process' own; config maps and secrets
    /// are read as far as this user may. `None` for a process, of which nothing else is known.
    pub async fn pod_env(&self) -> Option<EnvFromSpec> {
        match &self.place {
            Place::Pod(pod) => Some(pod.env_from_spec().await),
            Place::Process(_) => None,
        }
    }

    /// The target container's volume mounts as the pod's spec gives them.
    #[must_use]
    pub fn pod_volume_mounts(&self) -> Vec<VolumeMount> {
        match &self.place {
            Place::Pod(pod) => pod.volume_mounts(),
            Place::Process(_) => Vec::new(),
        }
    }

    /// The Services of the pod's namespace, in one request; `None` for a process, to which none leads.
    ///
    /// # Errors
    /// When they may not be listed ([`TargetError::Forbidden`]): the documented minimum of rights does not include it.
    pub async fn services(&self) -> Result<Option<PodServices>, TargetError> {
        match &self.place {
            Place::Pod(pod) => pod.services().await.map(Some),
            Place::Process(_) => Ok(None),
        }
    }

    /// The rights that the agent has, and why not more; known after the first [`Connector::connect`] to a pod.
    #[must_use]
    pub fn rights(&self) -> Option<Rights> {
        match &self.place {
            Place::Pod(pod) => pod.rights(),
            Place::Process(_) => None,
        }
    }
}
