//! Which agent a flow goes through. Keyed by agent, with a primary, so that many replicas fit in.

use std::collections::BTreeMap;
use std::sync::{Arc, Once};

use guest::event::Event;
use wire::message::{Open, ReplyBody, RequestBody};
use wire::{ControlClient, FilesClient, Link, LinkError, Stream};

use crate::guests::Guests;

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
    guests: Guests,
    /// Set once the person was told that no more can be opened.
    told: Arc<Once>,
}

impl Router {
    pub(crate) fn single(agent: Agent, guests: Guests) -> Self {
        let primary = AgentId(0);
        Self {
            agents: BTreeMap::from([(primary, agent)]),
            primary,
            guests,
            told: Arc::new(Once::new()),
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
        let opened = self.primary().link.open(open, &[]).await;
        if let Err(LinkError::TooManyStreams(most)) = &opened {
            self.told.call_once(|| {
                self.guests.event(Event::Warning {
                    message: format!(
                        "the program has {most} connections and datagram flows through the pod at once, which is the most: until some \
                         end, others fail with EADDRNOTAVAIL"
                    ),
                });
            });
        }
        opened
    }

    /// Asks the primary.
    pub(crate) async fn call(&self, request: RequestBody) -> Result<ReplyBody, LinkError> {
        self.primary().control.call(request).await
    }
}
