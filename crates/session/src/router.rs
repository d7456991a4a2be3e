//! Which agent a flow goes through. Keyed by agent, with a primary, so that many replicas fit in.

use std::collections::BTreeMap;

use wire::message::{Open, ReplyBody, RequestBody};
use wire::{ControlClient, FilesClient, Link, LinkError, Stream};

/// One agent of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AgentId(pub(crate) u16);

/// What the session holds of one agent.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) link: Link,
    pub(crate) control: ControlClient,
    pub(crate) files: FilesClient,
}

/// The agents of a session. Outgoing flows, names and files go through the primary.
#[derive(Clone)]
pub(crate) struct Router {
    agents: BTreeMap<AgentId, Agent>,
    primary: AgentId,
}

impl Router {
    pub(crate) fn single(agent: Agent) -> Self {
        let primary = AgentId(0);
        Self {
            agents: BTreeMap::from([(primary, agent)]),
            primary,
        }
    }

    pub(crate) fn primary(&self) -> &Agent {
        &self.agents[&self.primary]
    }

    pub(crate) fn agents(&self) -> impl Iterator<Item = (AgentId, &Agent)> {
        self.agents.iter().map(|(id, agent)| (*id, agent))
    }

    /// Opens a stream at the primary.
    pub(crate) async fn open(&self, open: &Open) -> Result<Stream, LinkError> {
        self.primary().link.open(open, &[]).await
    }

    /// Asks the primary.
    pub(crate) async fn call(&self, request: RequestBody) -> Result<ReplyBody, LinkError> {
        self.primary().control.call(request).await
    }
}
