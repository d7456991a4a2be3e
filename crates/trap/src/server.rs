//! The supervisor's side of the guest protocol: calls with answers, notices without.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use guest::channel::{Channel, ChannelError};
use guest::event::Event;
use guest::protocol::{Answer, Call, FlowId, FromServer, Notice, ToServer};

type Continuation = Box<dyn FnOnce(Option<Answer>) + Send>;

/// The session's server. Invariant: every continuation is called exactly once, with `None` when the server is gone.
pub(crate) struct Server {
    channel: Channel,
    waiting: Mutex<Waiting>,
    next_call: AtomicU32,
    next_flow: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    calls: HashMap<u32, Continuation>,
    gone: bool,
}

impl Server {
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            channel,
            waiting: Mutex::default(),
            next_call: AtomicU32::new(1),
            next_flow: AtomicU64::new(1),
        }
    }

    pub(crate) fn new_flow(&self) -> FlowId {
        FlowId(self.next_flow.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks; `then` runs on the thread that reads answers, so it must not wait for anything. Without a server it runs at
    /// once, on this thread, so the caller must hold no lock that it takes.
    pub(crate) fn call(&self, call: Call, then: impl FnOnce(Option<Answer>) + Send + 'static) {
        let id = self.next_call.fetch_add(1, Ordering::Relaxed);
        {
            let mut waiting = self.waiting();
            if waiting.gone {
                drop(waiting);
                return then(None);
            }
            waiting.calls.insert(id, Box::new(then));
        }
        if self.channel.send(&ToServer::Call { id, call }, &[]).is_err() {
            let then = self.waiting().calls.remove(&id);
            if let Some(then) = then {
                then(None);
            }
        }
    }

    /// Says. A server that is gone is noticed by whoever reads.
    pub(crate) fn notice(&self, notice: Notice, descriptors: &[BorrowedFd<'_>]) {
        if let Err(error) = self.channel.send(&ToServer::Notice(notice), descriptors) {
            tracing::debug!(%error, "a notice was not delivered");
        }
    }

    /// Reads until the server is gone; returns why, in one line.
    pub(crate) fn read_all(&self, events: &(dyn Fn(Event) + Send + Sync)) -> String {
        let why = loop {
            match self.channel.receive::<FromServer>() {
                Ok((FromServer::Answer { id, answer }, _)) => {
                    let then = self.waiting().calls.remove(&id);
                    if let Some(then) = then {
                        then(Some(answer));
                    }
                }
                Ok((FromServer::Event(event), _)) => events(event),
                Ok((FromServer::Ready(_), _)) => {}
                Ok((FromServer::Fatal(failure), _)) => break failure.message,
                Err(ChannelError::Closed) => break "the session's server process is gone".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        let calls = {
            let mut waiting = self.waiting();
            waiting.gone = true;
            std::mem::take(&mut waiting.calls)
        };
        for then in calls.into_values() {
            then(None);
        }
        why
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
