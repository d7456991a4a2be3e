//! What the caller decides before a target is looked for.

use std::path::PathBuf;
use std::time::Duration;

/// Which cluster, and where in it: as kubectl takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KubeOptions {
    /// The context's own, else `default`, where absent.
    pub namespace: Option<String>,
    /// The kubeconfig's current context where absent.
    pub context: Option<String>,
    /// Instead of `$KUBECONFIG` and `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// The container in the pod; the target's own text may name it too.
    pub container: Option<String>,
}

/// The agent's program.
#[derive(Debug, Clone)]
pub enum AgentBinary {
    /// A file: development finds the agent beside the command.
    Path(PathBuf),
    /// Inside this executable, and the same in gzip's format.
    Embedded {
        program: &'static [u8],
        packed: &'static [u8],
    },
}

/// What the session cannot do without. A rung of the ladder that leaves it out is not taken, so a session that would be
/// useless ends before anything is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Packet rules in the pod's network namespace: `CAP_NET_ADMIN`, and a network namespace of the pod's own.
    pub steal: bool,
}

/// How the agent is delivered and run.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// The image of the agent's container where the target's own has no shell.
    pub image: Option<String>,
    /// How long an agent without sessions stays; rounded up to whole seconds.
    pub linger: Duration,
    /// The agent's log filter, in the form of `RUST_LOG`.
    pub log: Option<String>,
    pub binary: AgentBinary,
    /// Agents are shared by sessions that say the same here; the package's version and the protocol's are always part.
    pub build: String,
    pub needs: Needs,
}

impl AgentSettings {
    /// The usual settings for a program.
    #[must_use]
    pub fn new(binary: AgentBinary) -> Self {
        Self {
            image: None,
            linger: Duration::from_secs(120),
            log: None,
            binary,
            build: String::new(),
            needs: Needs::default(),
        }
    }
}
