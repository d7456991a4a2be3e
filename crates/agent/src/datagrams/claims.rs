//! One session's claim of one UDP port.

use std::sync::{Arc, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use wire::message::{Claim, ClaimMode, ClaimState, Datagram};

use super::answers::Answers;
use super::stream;
use crate::counters::Counters;
use crate::session::Session;

/// What may wait for the link, in bytes; a socket's receive buffer has some hundred KiB.
const WAITING: usize = 1 << 20;
/// What a datagram costs besides its data.
const OVERHEAD: usize = 256;

/// A datagram that waits, and the room that it takes.
pub(super) struct Waiting {
    pub datagram: Datagram,
    _room: OwnedSemaphorePermit,
}

/// A claim in force. Ends when dropped.
pub(super) struct Held {
    pub mode: ClaimMode,
    port: u16,
    session: Weak<Session>,
    counters: Arc<Counters>,
    queue: mpsc::UnboundedSender<Waiting>,
    room: Arc<Semaphore>,
}

impl Held {
    pub(super) fn begin(session: &Arc<Session>, claim: &Claim, answers: &Arc<Answers>) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        tokio::spawn(stream::serve(
            Arc::clone(session),
            wire::message::Datagrams {
                mode: claim.mode,
                port: claim.port,
            },
            waiting,
            Arc::clone(answers),
        ));
        Self {
            mode: claim.mode,
            port: claim.port,
            session: Arc::downgrade(session),
            counters: session.standing.counters(claim.port, claim.mode),
            queue,
            room: Arc::new(Semaphore::new(WAITING)),
        }
    }

    /// To the session, or dropped and counted when it takes them slower than they come.
    pub(super) fn deliver(&self, datagram: Datagram) {
        let size = u32::try_from(datagram.data.0.len() + OVERHEAD).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(size) else {
            return self.lost();
        };
        if self.queue.send(Waiting { datagram, _room: room }).is_err() {
            return self.lost();
        }
        self.counters.seen();
        if self.mode.steals() {
            self.counters.matched();
        } else {
            self.counters.mirrored();
        }
    }

    /// One that does not reach the session.
    pub(super) fn lost(&self) {
        self.counters.seen();
        self.counters.dropped();
        if let Some(session) = self.session.upgrade() {
            session.standing.warn(format!(
                "port {}/udp: datagrams are lost: they come faster than they are taken, or in fragments of IPv6 \
                 (`inpod sessions` counts them)",
                self.port
            ));
        }
    }

    /// What another session hears that wants to steal the same.
    pub(super) fn taken(&self, port: u16) -> Option<ClaimState> {
        let holder = self.session.upgrade()?;
        Some(ClaimState::Taken {
            session: holder.standing.name(),
            why: format!(
                "{} already steals port {port}/udp (a name that its client gave itself)",
                holder.owner
            ),
        })
    }
}
