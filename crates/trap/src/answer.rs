//! The threads that answer trapped calls: one, as long as it keeps up.
//!
//! Each further thread that waits on the listener is woken for every call and adds 2 us to it (measured, Linux 6.18: the
//! kernel wakes all waiters). So there are more only while several of the app's threads call at once, when there is hardly
//! ever one that waits: two then answer a third more calls than one. Nothing here is meant to block, but a path on somebody's
//! stalled file system or a page that is slow to come can, so a watch adds a thread when none is left and takes it back
//! afterwards.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use guest::forward::{RESOLVE, TRANSLATE};

use crate::calls::{self, Action};
use crate::context::Context;
use crate::names::{self, End};
use crate::notification::{Listener, Pending};
use crate::{astray, connect, datagram, exec, hello, hostname, listen, path_call, resolve, supervise};

/// How often the watch looks; a stalled thread delays others for at most two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Most threads at once.
const MOST: usize = 32;
/// Most threads for a crowd of callers: more than this only get in each other's way.
const MOST_FOR_CROWD: usize = 4;
/// Every so many calls it is looked whether the next one waits already.
const SAMPLE: u64 = 64;
/// As many samples make a judgement: some thousand calls within one look.
const ENOUGH_SAMPLES: usize = 32;

/// What the threads know of each other.
#[derive(Debug)]
struct Crew {
    /// How many threads stay when there is nothing to do.
    wanted: AtomicUsize,
    /// Threads that wait for a call.
    idle: AtomicUsize,
    alive: AtomicUsize,
    /// Calls taken so far: standing still with nobody idle means that all are stuck.
    taken: AtomicU64,
    /// Samples since the last look, and those in which the next call waited already.
    sampled: AtomicUsize,
    crowded: AtomicUsize,
}

impl Crew {
    fn new(threads: usize) -> Self {
        Self {
            wanted: AtomicUsize::new(threads),
            idle: AtomicUsize::new(0),
            alive: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            sampled: AtomicUsize::new(0),
            crowded: AtomicUsize::new(0),
        }
    }

    /// Counts a call that a thread has taken.
    fn take(&self, listener: &Listener) {
        if self.taken.fetch_add(1, Ordering::AcqRel).is_multiple_of(SAMPLE) {
            self.sampled.fetch_add(1, Ordering::Relaxed);
            if listener.has_next() {
                self.crowded.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether many called at once since the last time this was asked.
    fn was_crowded(&self) -> bool {
        let (sampled, crowded) = (
            self.sampled.swap(0, Ordering::Relaxed),
            self.crowded.swap(0, Ordering::Relaxed),
        );
        sampled >= ENOUGH_SAMPLES && crowded * 2 > sampled
    }
}

/// Starts `threads` threads, which stay, and the watch.
///
/// # Errors
/// When a thread cannot be made.
pub(crate) fn start(context: &Arc<Context>, listener: &Arc<Listener>, threads: usize) -> io::Result<()> {
    let least = threads.max(1);
    let crew = Arc::new(Crew::new(least));
    for _ in 0..least {
        add(context, listener, &crew)?;
    }
    let listener = listener.clone();
    supervise::spawn("inpod-watch", context, move |context| {
        watch(context, &listener, &crew, least);
    })
}

fn add(context: &Arc<Context>, listener: &Arc<Listener>, crew: &Arc<Crew>) -> io::Result<()> {
    let (listener, own) = (listener.clone(), crew.clone());
    crew.alive.fetch_add(1, Ordering::AcqRel);
    crew.idle.fetch_add(1, Ordering::AcqRel);
    supervise::spawn("inpod-trap", context, move |context| {
        while let Some(pending) = listener.next() {
            own.take(&listener);
            own.idle.fetch_sub(1, Ordering::AcqRel);
            // A panic drops the call, which then fails with EIO; the next one is served.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dispatch(context, pending)));
            // Whoever returns to enough others is not needed any more.
            if own.idle.load(Ordering::Acquire) >= own.wanted.load(Ordering::Acquire) {
                break;
            }
            own.idle.fetch_add(1, Ordering::AcqRel);
        }
        own.alive.fetch_sub(1, Ordering::AcqRel);
    })
}

fn watch(context: &Arc<Context>, listener: &Arc<Listener>, crew: &Arc<Crew>, least: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let for_crowd = cores.min(MOST_FOR_CROWD).max(least);
    let mut before = None;
    while crew.alive.load(Ordering::Acquire) > 0 {
        std::thread::sleep(LOOK);
        let wanted = if crew.was_crowded() { for_crowd } else { least };
        crew.wanted.store(wanted, Ordering::Release);
        for _ in crew.alive.load(Ordering::Acquire)..wanted {
            let _ = add(context, listener, crew);
        }
        let idle = crew.idle.load(Ordering::Acquire);
        let taken = (idle == 0).then(|| crew.taken.load(Ordering::Acquire));
        if taken.is_some() && taken == before && crew.alive.load(Ordering::Acquire) < MOST {
            tracing::debug!("a trapped call takes long: one more thread answers");
            let _ = add(context, listener, crew);
        }
        before = taken;
    }
}

/// Answers one call, or sees to it that it is answered later.
pub(crate) fn dispatch(context: &Arc<Context>, pending: Pending) {
    context.reactor.displace(pending.tid());
    let Some(call) = calls::of(pending.number()) else {
        return match pending.number() {
            _ if context.skipped.contains(pending.tid()) => pending.proceed(),
            TRANSLATE if pending.is_forwarded() => path_call::translate(context, pending),
            RESOLVE if pending.is_forwarded() => resolve::resolve(context, pending),
            _ => pending.proceed(),
        };
    };
    if call.action == Action::PendingError && hello::is_hello(&pending) {
        return hello::answer(context, pending);
    }
    let executes = matches!(call.action, Action::Execute | Action::ExecuteAt);
    if !executes && context.skipped.contains(pending.tid()) {
        return pending.proceed();
    }
    match call.action {
        Action::Connect => connect::connect(context, pending),
        Action::Bind => listen::bind(context, pending),
        Action::Listen => listen::listen(context, pending),
        Action::Accept => listen::accept(context, pending),
        Action::LocalName => names::name(context, pending, End::Local),
        Action::PeerName => names::name(context, pending, End::Peer),
        Action::PendingError => connect::pending_error(context, pending),
        Action::SendTo => datagram::send_to(context, pending),
        Action::ReceiveFrom => datagram::receive_from(context, pending),
        Action::SendMessage => datagram::send_message(context, pending, false),
        Action::SendMessages => datagram::send_message(context, pending, true),
        Action::ReceiveMessage => datagram::receive_message(context, pending, false),
        Action::ReceiveMessages => datagram::receive_message(context, pending, true),
        Action::HostName => hostname::uname(context, pending),
        Action::Execute => exec::execute(context, pending, None, 0),
        Action::ExecuteAt => exec::execute(context, pending, Some(0), 1),
        Action::WorkingDirectory => astray::working_directory(context, pending),
        Action::Path(call) => path_call::path_call(context, pending, call),
    }
}
