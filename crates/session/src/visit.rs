//! A look at the agents of a target, by one who wants nothing of the target itself.

use guest::protocol::Failure;
use target::{Connector, Serving};
use wire::hello::feature;
use wire::message::{Open, ReplyBody, RequestBody, SessionEntry};
use wire::{ControlClient, Hello, LinkError};

use crate::error::SessionError;

/// The agents that were there, each with a link of its own.
pub struct Visit {
    agents: Vec<ControlClient>,
    /// As [`Serving::others`]: they are not asked.
    pub others: Vec<String>,
}

/// Reaches the agents that serve at the target; starts none. `owner` is what the person calls themselves.
///
/// # Errors
/// When the target cannot be asked, or an agent does not answer.
pub async fn visit(connector: &Connector, session: [u8; 16], owner: &str) -> Result<Visit, Failure> {
    reach(connector, session, owner).await.map_err(|error| error.failure())
}

async fn reach(connector: &Connector, session: [u8; 16], owner: &str) -> Result<Visit, SessionError> {
    let Serving { agents, others } = connector.serving().await?;
    let hello = Hello {
        features: feature::VISITOR,
        ..Hello::new(session, [0; 16], owner)
    };
    let mut reached = Vec::new();
    for transport in agents {
        let link = match wire::connect(transport, hello.clone()).await {
            Ok((link, ..)) => link,
            // It has ended meanwhile, which it does only without sessions.
            Err(LinkError::Ended { .. } | LinkError::Io { .. } | LinkError::Closed) => continue,
            Err(error) => return Err(error.into()),
        };
        reached.push(ControlClient::new(link.open(&Open::Control, &[]).await?).0);
    }
    Ok(Visit {
        agents: reached,
        others,
    })
}

impl Visit {
    /// How many agents were there.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.agents.len()
    }

    /// All sessions, the oldest first.
    ///
    /// # Errors
    /// When an agent does not answer.
    pub async fn sessions(&self) -> Result<Vec<SessionEntry>, Failure> {
        let mut sessions = Vec::new();
        for agent in &self.agents {
            match agent.call(RequestBody::Sessions).await {
                Ok(ReplyBody::Sessions(entries)) => sessions.extend(entries),
                other => return Err(unexpected("list its sessions", other).failure()),
            }
        }
        sessions.sort_by_key(|entry: &SessionEntry| std::cmp::Reverse(entry.age_ms));
        Ok(sessions)
    }

    /// Ends a session; `false` where it has gone already.
    ///
    /// # Errors
    /// When an agent does not answer.
    pub async fn stop(&self, session: [u8; 16]) -> Result<bool, Failure> {
        let mut stopped = false;
        for agent in &self.agents {
            match agent.call(RequestBody::StopSession(session)).await {
                Ok(ReplyBody::Stopped) => stopped = true,
                Ok(ReplyBody::Failed(_)) => {}
                other => return Err(unexpected("stop the session", other).failure()),
            }
        }
        Ok(stopped)
    }
}

pub(crate) fn unexpected(what: &'static str, reply: Result<ReplyBody, LinkError>) -> SessionError {
    match reply {
        Ok(ReplyBody::Failed(fault)) => SessionError::Agent { what, fault },
        Ok(_) => SessionError::Confused { what },
        Err(error) => error.into(),
    }
}
