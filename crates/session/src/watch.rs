//! A session without an app: copies of what comes to a target's ports, for somebody who looks.

use guest::event::Event;
use guest::protocol::{Failure, Transport};
use rules::IncomingRules;
use target::Connector;
use tokio::sync::mpsc;
use wire::message::{self, ClaimState, Incoming, Open, ReplyBody, RequestBody};
use wire::{Acceptor, ControlClient, Hello, Link, Stream};

use crate::claims::Claims;
use crate::error::SessionError;
use crate::server::{Told, agent_event, goodbye};
use crate::start;
use crate::visit::unexpected;

/// A running one. Its claims end with it.
pub struct Watch {
    link: Link,
    control: ControlClient,
    acceptor: Acceptor,
    events: mpsc::Receiver<message::Event>,
}

/// Mirrors the ports that `rules` names; without any, those that the pod's containers declare and those that something
/// listens on now.
///
/// # Errors
/// When the target cannot be reached, or nothing can be mirrored there.
pub async fn watch(
    connector: &Connector,
    hello: &Hello,
    rules: &IncomingRules,
    tell: impl Fn(Event) + Send + Sync,
) -> Result<Watch, Failure> {
    begin(connector, hello, rules, tell)
        .await
        .map_err(|error| error.failure())
}

async fn begin(
    connector: &Connector,
    hello: &Hello,
    rules: &IncomingRules,
    tell: impl Fn(Event) + Send + Sync,
) -> Result<Watch, SessionError> {
    let (link, acceptor, _) = start::connect(connector, hello, &tell).await?;
    let (control, events) = ControlClient::new(link.open(&Open::Control, &[]).await?);
    if let Some(reason) = start::facts(&control).await?.limits.mirror {
        return Err(SessionError::Unseen { reason });
    }
    let ports = match rules.ports.is_empty() {
        true => all_ports(connector, &control).await?,
        false => rules.ports.clone(),
    };
    tell(Event::Started {
        target: connector.describe().to_string(),
        summary: "what comes in is shown, nothing is touched".to_owned(),
    });
    let claims = Claims::new(rules.clone(), Vec::new());
    let wanted = claims.of(ports.into_iter().map(|port| (port, Transport::Tcp)).collect());
    let states = match control.call(RequestBody::Claims(wanted.clone())).await {
        Ok(ReplyBody::Claims(states)) => states,
        other => return Err(unexpected("mirror the ports", other)),
    };
    let mut refused = None;
    for (claim, state) in wanted.iter().zip(&states) {
        let (why, event) = claims.news(claim, state);
        refused = refused.or(why);
        tell(event);
    }
    match refused {
        Some(reason) if !states.iter().any(|state| matches!(state, ClaimState::Active { .. })) => {
            Err(SessionError::Unseen { reason })
        }
        _ => Ok(Watch {
            link,
            control,
            acceptor,
            events,
        }),
    }
}

async fn all_ports(connector: &Connector, control: &ControlClient) -> Result<Vec<u16>, SessionError> {
    let mut ports = connector.pod_ports();
    let reason = match control.call(RequestBody::Listening).await {
        Ok(ReplyBody::Listening(listening)) => {
            ports.extend(listening);
            "nothing listens there, and its containers declare none".to_owned()
        }
        Ok(ReplyBody::Failed(fault)) => format!("its containers declare none, and {fault}"),
        other => return Err(unexpected("say which ports listen", other)),
    };
    match ports.is_empty() {
        true => Err(SessionError::NoPort { reason }),
        false => Ok(ports),
    }
}

impl Watch {
    /// The next connection, with what its client sends.
    ///
    /// # Errors
    /// Why there will be none.
    pub async fn next(&mut self, tell: impl Fn(Event)) -> Result<(Incoming, Stream), Failure> {
        let ended = loop {
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => match agent_event(event) {
                    Told::Event(event) => tell(event),
                    Told::Stopped(by) => break SessionError::Stopped { by },
                },
                opened = self.acceptor.next() => match opened {
                    Some(Ok((Open::Incoming(incoming), stream))) => return Ok((incoming, stream)),
                    Some(other) => tracing::debug!(?other, "the agent opened a stream that is no copy"),
                    None => break SessionError::Lost(self.link.closed().await),
                },
            }
        };
        Err(ended.failure())
    }

    /// Ends it in order.
    pub async fn end(self) {
        goodbye(&self.control).await;
    }
}
