//! What is remote and what is local: one immutable [`Plan`] and pure decisions over it.
//!
//! The trap, the session, the view, the agent and `inpod plan` all ask here, so a path, an address, a name, a variable or
//! a request is decided once and in one way. Nothing here does I/O, reads the environment or knows the time.
//!
//! Invariant: every decision can name the rule that made it ([`Verdict::why`]).

mod address;
mod env;
mod name;
mod path;
mod request;
mod skip;
mod tls;

pub use address::{AddressContext, AddressRule, AddressRuleError, Endpoints, OutgoingRules, Protocol};
pub use env::{EXCLUDED, EnvRules};
pub use name::{NamePattern, NamePatternError, NameRules};
pub use path::{DEVELOPER, HIDDEN_NAME_SERVICES, IDENTITY, KERNEL, SCRATCH, SYSTEM};
pub use path::{FileMode, FileRules, PathPattern, normal};
pub use request::{
    Condition, Content, Filter, HeaderPattern, MAX_PATTERN_BYTES, MAX_TERMS, PatternError, Request, Term, fuzz,
};
pub use skip::{BUILD_TOOLS, SkipRules};
pub use tls::{Pem, TlsPort};

use std::collections::BTreeMap;

/// Where something is served from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The pod.
    Remote,
    /// This machine, untouched.
    Local,
    /// Nowhere: it does not exist for the app.
    Hidden,
}

/// A decision and the rule behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub place: Place,
    /// The rule in words a person can find in the documentation or in their configuration.
    pub why: std::borrow::Cow<'static, str>,
}

impl Verdict {
    pub(crate) fn new(place: Place, why: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { place, why: why.into() }
    }
}

/// How the pod's incoming traffic reaches the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncomingMode {
    /// A copy; the real app keeps answering.
    #[default]
    Mirror,
    /// The traffic itself.
    Steal,
    /// None.
    Off,
}

/// What to do where somebody else steals the same requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenTaken {
    /// Say so and go without.
    #[default]
    Refuse,
    /// Until they end.
    Wait,
    /// End their session.
    TakeOver,
}

/// What the session asks of the pod's incoming traffic.
#[derive(Debug, Clone, Default)]
pub struct IncomingRules {
    pub mode: IncomingMode,
    /// The person asked for this mode by name: if it cannot work the session is refused instead of warned.
    pub explicit: bool,
    /// Pod ports to take; empty means every port the app listens on.
    pub ports: Vec<u16>,
    /// Local port to pod port, where they differ.
    pub port_map: BTreeMap<u16, u16>,
    pub filter: Filter,
    pub when_taken: WhenTaken,
    /// Close the connections that were open before, once they are idle.
    pub reconnect_clients: bool,
    /// Pod ports whose TLS ends at the agent, in the app's name.
    pub tls: BTreeMap<u16, TlsPort>,
}

impl IncomingRules {
    /// The pod port that a local listener on `local` stands for, or `None` when it takes no traffic.
    #[must_use]
    pub fn pod_port(&self, local: u16) -> Option<u16> {
        if self.mode == IncomingMode::Off {
            return None;
        }
        let pod = self.port_map.get(&local).copied().unwrap_or(local);
        (self.ports.is_empty() || self.ports.contains(&pod)).then_some(pod)
    }
}

/// Everything that was decided before the app starts; immutable for the life of the session.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub env: EnvRules,
    pub files: FileRules,
    pub incoming: IncomingRules,
    pub outgoing: OutgoingRules,
    pub dns: NameRules,
    pub skip: SkipRules,
}
