//! The session's end of the control stream: calls, events, heartbeats.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::calls::{Calls, Protocol, WeakCalls};
use crate::message::{Event, Reply, ReplyBody, Request, RequestBody, ToSession};
use crate::mux::Shared;
use crate::{LinkError, Stream, frame};

/// How often the session asks the agent whether it lives.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long an answer may be missing, and how long the agent waits to hear anything at all.
pub const SILENCE: Duration = Duration::from_secs(15);
/// How long it may be missing while other bytes still arrive: behind a full transport it comes late.
const BUSY_SILENCE: Duration = Duration::from_secs(60);
/// Events that may wait for the session; more are dropped, never the answers behind them.
const EVENTS: usize = 256;

/// Asks on a stream opened with [`crate::message::Open::Control`]. Clones share the stream. While one is alive, heartbeats
/// are sent, and the link ends when they are not answered for [`SILENCE`].
#[derive(Debug, Clone)]
pub struct ControlClient(Calls<Control>);

impl ControlClient {
    /// Takes the stream over; the agent's events come out of the receiver.
    #[must_use]
    pub fn new(stream: Stream) -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let link = Arc::downgrade(&stream.owner().shared);
        let calls = Calls::new(stream, Control { events });
        tokio::spawn(beat(calls.downgrade(), link));
        (Self(calls), receiver)
    }

    /// # Errors
    /// Why the link ended. What fails in the pod is [`ReplyBody::Failed`].
    pub async fn call(&self, request: RequestBody) -> Result<ReplyBody, LinkError> {
        self.0.call(request).await
    }
}

/// The protocol of [`ControlClient`].
#[derive(Debug)]
pub struct Control {
    events: mpsc::Sender<Event>,
}

impl Protocol for Control {
    type Question = RequestBody;
    type Answer = ReplyBody;
    type Message = ToSession;

    fn request(id: u32, body: RequestBody) -> Result<Vec<u8>, LinkError> {
        frame::encode(&Request { id, body })
    }

    fn route(&mut self, message: ToSession) -> Option<(u32, ReplyBody)> {
        match message {
            ToSession::Reply(Reply { id, body }) => Some((id, body)),
            ToSession::Event(event) => {
                if self.events.try_send(event).is_err() {
                    tracing::debug!("an event of the agent was dropped: nobody takes them");
                }
                None
            }
        }
    }
}

async fn beat(calls: WeakCalls<Control>, link: Weak<Shared>) {
    loop {
        let Some(shared) = link.upgrade() else { return };
        tokio::select! {
            _ = shared.ended() => return,
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
        let Some(client) = calls.upgrade() else { return };
        let asked = Instant::now();
        let ping = client.call(RequestBody::Ping);
        tokio::pin!(ping);
        let mut limit = SILENCE;
        loop {
            tokio::select! {
                answer = &mut ping => match answer {
                    Ok(_) => break,
                    Err(_) => return,
                },
                () = tokio::time::sleep_until(asked + limit) => {}
            }
            if shared.pulse.silent_for() >= HEARTBEAT || asked.elapsed() >= BUSY_SILENCE {
                shared.end(LinkError::Timeout {
                    what: "the agent's answer to a heartbeat",
                    limit,
                });
                return;
            }
            limit += HEARTBEAT;
        }
    }
}
