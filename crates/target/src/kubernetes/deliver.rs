//! A pod as a target, and the way of the agent into it.

use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::Api;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::BoxTransport;

use super::client::Cluster;
use super::exec::{self, PodExec};
use super::pod::{self, Running};
use super::probes::{self, PodProbe};
use super::rights::{Rights, Rung};
use super::script;
use super::spec_view::{self, EnvFallback, VolumeMount};
use super::start::{Added, Existing, Fate, Recipe, Stem, fate};
use crate::binary::Program;
use crate::connector::Description;
use crate::error::TargetError;
use crate::options::{AgentSettings, KubeOptions, Needs};
use crate::progress::{Clock, Phase, Progress};
use crate::spec::TargetSpec;

/// A pod object younger than this is not read again.
const FRESH: Duration = Duration::from_secs(2);
/// How long a container may take to answer exec after it was added; pulling an image counts.
const START: Duration = Duration::from_secs(90);
/// Between two tries of exec. Each costs the node a few milliseconds of processor.
const EXEC_PAUSE: Duration = Duration::from_millis(15);
/// Between two looks at the pod's status while exec does not answer yet.
const STATUS_PAUSE: Duration = Duration::from_millis(250);
/// The longest silence of a script.
const SILENCE: Duration = Duration::from_secs(75);
/// The longest that one exec may take to say its first line.
const TRY: Duration = Duration::from_secs(15);
/// The longest that the agent's program may travel: 6 MB at 25 KB/s.
const UPLOAD: Duration = Duration::from_secs(240);
/// How often an agent that ends under the session's hands is followed by another.
const ATTEMPTS: usize = 3;
/// The longest line a script says, in bytes.
const LINE: usize = 256;

/// A running container of a pod.
pub(crate) struct PodTarget {
    cluster: Cluster,
    name: String,
    container: String,
    settings: Settings,
    state: Mutex<State>,
}

struct Settings {
    image: Option<String>,
    linger: Duration,
    log: Option<String>,
    build: String,
    needs: Needs,
    program: Program,
}

struct State {
    pod: Pod,
    /// `None` when the pod has changed since.
    read: Option<Instant>,
    rights: Option<Rights>,
}

type Report<'a> = &'a (dyn Fn(Progress) + Send + Sync);

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
                return Err(TargetError::TwoContainers { target: target.to_owned(), option: option.to_owned() });
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
            return Err(TargetError::NoSteal { pod: pod::name(&pod).to_owned(), reason, denials: Vec::new() });
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
        let state = Mutex::new(State { pod, read: Some(Instant::now()), rights: None });
        Ok(Self { cluster, name, container, settings, state })
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

    pub(crate) fn env_fallback(&self) -> EnvFallback {
        self.with_state(|state| spec_view::env(&state.pod, &self.container))
    }

    pub(crate) fn volume_mounts(&self) -> Vec<VolumeMount> {
        self.with_state(|state| spec_view::volume_mounts(&state.pod, &self.container))
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
            let stem = Stem::new(&target, &self.settings.build);
            let rights = match stem.existing(&pod, |rung| self.enough(rung)) {
                Some(Existing { name, rung }) => Rights { rung, denials: Vec::new(), reused: true, container: name },
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
        Err(TargetError::Delivery { pod: self.name.clone(), message: format!("no agent stayed: {last}") })
    }

    fn enough(&self, rung: Rung) -> bool {
        !self.settings.needs.steal || rung.can_steal()
    }

    async fn pod(&self, again: bool) -> Result<Pod, TargetError> {
        let known = self.with_state(|state| state.read.filter(|read| read.elapsed() < FRESH && !again).map(|_| state.pod.clone()));
        match known {
            Some(pod) => Ok(pod),
            None => self.read().await,
        }
    }

    async fn read(&self) -> Result<Pod, TargetError> {
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
            linger: self.settings.linger.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX),
            log: self.settings.log.as_deref(),
        };
        let added = self.cluster.add(&recipe, |rung| self.enough(rung)).await?;
        self.with_state(|state| state.read = None);
        clock.end();
        Ok(match added {
            Added::Yes(rung, denials) => Some(Rights { rung, denials, reused: false, container: name }),
            Added::Raced => None,
        })
    }

    /// The target's own image where it has a shell, else the configured one.
    async fn image(&self, pod: &Pod, target: &Running, stem: &Stem) -> Result<String, TargetError> {
        let known = stem.no_shell(pod, &target.image);
        match (&self.settings.image, known) {
            (None, None) => Ok(target.image.clone()),
            (None, Some(message)) => {
                Err(TargetError::NoShell { image: target.image.clone(), message, configured: false })
            }
            (Some(image), Some(_)) => Ok(image.clone()),
            (Some(image), None) => {
                // Asked first: a container that cannot start would stay in the pod's status for good.
                Ok(if self.has_shell().await { target.image.clone() } else { image.clone() })
            }
        }
    }

    /// Whether the target container itself can run the shell and what the scripts need.
    async fn has_shell(&self) -> bool {
        let test = ["sh", "-c", "command -v head && command -v mkdir && command -v mv && command -v chmod"];
        let asked = async {
            let mut stream = self.cluster.exec(&self.name, &self.container, &test, false).await.ok()?;
            stream.read_to_end(&mut Vec::new()).await.ok()
        };
        tokio::time::timeout(TRY, asked).await.is_ok_and(|answer| answer.is_some())
    }

    /// Executes the script in the agent's container, does its part of the delivery, and leaves the stream to the link.
    async fn enter(&self, rights: &Rights, report: Report<'_>) -> Result<BoxTransport, TargetError> {
        let program = self.settings.program.bytes().await?;
        let mut clock = Clock::begin(report, Phase::Start);
        let (mut stream, mut line) = self.knock(rights, program.len()).await?;
        loop {
            match line.as_str() {
                script::DELIVER => {
                    clock = clock.next(Phase::Deliver);
                    if let Err(error) = upload(&mut stream, &program).await {
                        return Err(self.broken(rights, &mut stream, error).await);
                    }
                }
                script::WAIT => clock = clock.next(Phase::Deliver),
                script::DELIVERED => clock = clock.next(Phase::Attach),
                script::ATTACHING => {
                    clock.end();
                    return Ok(Box::new(stream));
                }
                other => {
                    let message = format!("its container said `{other}`, which is not understood");
                    return Err(TargetError::Delivery { pod: self.name.clone(), message });
                }
            }
            line = match tokio::time::timeout(SILENCE, read_line(&mut stream)).await {
                Ok(Ok(line)) => line,
                Ok(Err(error)) => return Err(self.broken(rights, &mut stream, error).await),
                Err(_) => {
                    let message = "its container says nothing".to_owned();
                    return Err(TargetError::Silent { pod: self.name.clone(), after: SILENCE, message });
                }
            };
        }
    }

    /// Tries exec until the container answers. Its status would say `running` 150 ms later than exec does.
    async fn knock(&self, rights: &Rights, length: usize) -> Result<(PodExec, String), TargetError> {
        let container = &rights.container;
        let length = length.to_string();
        let command = ["sh", "-c", script::ENTER, "inpod", container, &length];
        let since = Instant::now();
        let mut looked = (!rights.reused).then_some(since);
        loop {
            let tried = tokio::time::timeout(TRY, async {
                let mut stream = self.cluster.exec(&self.name, container, &command, true).await?;
                let line = read_line(&mut stream).await;
                Ok((stream, line))
            });
            let refusal = match tried.await {
                Ok(Ok((stream, Ok(line)))) => return Ok((stream, line)),
                Ok(Ok((_, Err(error)))) => match exec::failure(&error) {
                    Some(failure) if failure.code == Some(script::GAVE_UP) => {
                        return Err(TargetError::Delivery { pod: self.name.clone(), message: failure.to_string() });
                    }
                    _ => error.to_string(),
                },
                Ok(Err(error)) => match self.cluster.explain(self.cluster.asking("create", "pods/exec"), error) {
                    // Not there yet: the kubelet's answer comes as 400, 404 or 500, by version and moment.
                    TargetError::Api { message, .. } => message,
                    error => return Err(error),
                },
                Err(_) => format!("exec does not answer within {} s", TRY.as_secs()),
            };
            tracing::trace!(container, refusal, "not yet");
            if looked.is_none_or(|looked| looked.elapsed() >= STATUS_PAUSE) {
                let pod = self.read().await?;
                self.check_fate(&pod, rights)?;
                looked = Some(Instant::now());
            }
            if since.elapsed() > START {
                let message = format!("{refusal} (after {} s)", START.as_secs());
                return Err(self.container_start(rights, message));
            }
            tokio::time::sleep(EXEC_PAUSE).await;
        }
    }

    /// # Errors
    /// When the agent's container, or the pod around it, has ended or cannot start.
    fn check_fate(&self, pod: &Pod, rights: &Rights) -> Result<(), TargetError> {
        match fate(pod, &rights.container) {
            Fate::Open => pod::check_running(pod, &self.container).map(|_| ()),
            Fate::Failed(message) => Err(self.container_start(rights, message)),
            Fate::NoShell(message) => {
                let ephemeral = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
                let image = ephemeral.filter(|container| container.name == rights.container);
                let image = image.last().and_then(|container| container.image.clone()).unwrap_or_default();
                let configured = self.settings.image.as_ref() == Some(&image);
                Err(TargetError::NoShell { image, message, configured })
            }
        }
    }

    fn container_start(&self, rights: &Rights, message: String) -> TargetError {
        TargetError::ContainerStart {
            namespace: self.cluster.namespace.clone(),
            pod: self.name.clone(),
            container: rights.container.clone(),
            message,
        }
    }

    /// Why the conversation with a script ended: what became of its container says more than the stream.
    async fn broken(&self, rights: &Rights, stream: &mut PodExec, error: io::Error) -> TargetError {
        // A failed write says only that the other side is gone; what it said last can still be read.
        let rest = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut Vec::new())).await;
        let error = match rest {
            Ok(Err(said)) if exec::failure(&said).is_some() => said,
            _ => error,
        };
        if exec::failure(&error).is_none_or(|failure| failure.code != Some(script::GAVE_UP))
            && let Ok(pod) = self.read().await
            && let Err(fate) = self.check_fate(&pod, rights)
        {
            return fate;
        }
        TargetError::Delivery { pod: self.name.clone(), message: error.to_string() }
    }
}

async fn upload(stream: &mut PodExec, program: &[u8]) -> io::Result<()> {
    let sent = async {
        stream.write_all(program).await?;
        stream.flush().await
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("not taken within {} s", UPLOAD.as_secs()));
    tokio::time::timeout(UPLOAD, sent).await.unwrap_or_else(|_| Err(late()))
}

/// One line of a script, without its end. Nothing behind it is taken from the stream.
async fn read_line(stream: &mut PodExec) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
            _ if line.len() == LINE => {
                return Err(io::Error::other(format!("it said: {}...", String::from_utf8_lossy(&line))));
            }
            byte => line.push(byte),
        }
    }
}

/// # Errors
/// When the node's kernel or architecture is not one that the agent is built for. Who may not read nodes learns it from
/// the agent's container instead.
async fn check_node(cluster: &Cluster, pod: &Pod) -> Result<(), TargetError> {
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let node = cluster.ask(cluster.asking("get", "nodes"), nodes.get(pod::node(pod))).await;
    let info = match node {
        Ok(node) => node.status.and_then(|status| status.node_info),
        Err(TargetError::Forbidden { .. } | TargetError::Api { .. }) => None,
        Err(error) => return Err(error),
    };
    let Some(info) = info else { return Ok(()) };
    if info.operating_system != "linux" {
        let reason = format!("its node runs {}; the agent is for Linux", info.operating_system);
        return Err(TargetError::Unsupported { pod: pod::name(pod).to_owned(), reason });
    }
    pod::check_architecture(pod, &info.architecture)
}
