//! The supervisor: threads that answer, and the main thread that waits, forwards signals and ends the tree.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use guest::channel::Channel;
use guest::event::Event;
use guest::protocol::{Notice, Ready};
use rules::Plan;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::arrivals::Arrivals;
use crate::context::{Context, NamedRoutes, Relays, has_names};
use crate::enterable::Looked;
use crate::files::Files;
use crate::launch::{Calls, Launched};
use crate::notification::Listener;
use crate::reactor::Reactor;
use crate::server::Server;
use crate::skip::Skipped;
use crate::sys::{message, signal};
use crate::table::Table;
use crate::undelivered::Undelivered;
use crate::workers::Workers;
use crate::{answer, exec, forwarded, lifetime, tree};

/// How many threads answer trapped calls while none of them stalls and no crowd calls. One is fastest: see `answer`.
pub const DEFAULT_THREADS: usize = 1;

/// What the supervisor works with.
pub struct Supervision {
    /// To the session's server.
    pub channel: Channel,
    /// The server process: when it ends, so does the app.
    pub server: u32,
    /// Readable when it has ended: its pidfd, where there are any.
    pub server_pidfd: OwnedFd,
    /// With the pod's volumes in its file rules already.
    pub plan: Arc<Plan>,
    pub ready: Ready,
    pub events: Box<dyn Fn(Event) + Send + Sync>,
    /// Say each decision as an event (`-vv`): costs time on every path.
    pub decisions: bool,
    /// Threads that answer; [`DEFAULT_THREADS`] is right for most.
    pub threads: usize,
}

/// How the session went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The app's exit status, 128+n for a signal.
    pub status: i32,
    /// Why the session ended before the app did, in one line.
    pub lost: Option<String>,
    /// Some program of the tree was refused.
    pub refused: bool,
}

/// Signals that mean the app rather than us.
const FORWARDED: &[i32] = &[
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGALRM,
    libc::SIGURG,
    libc::SIGIO,
];

/// Serves the app until it and everything it started have ended. Call it on the thread that launched, with no other
/// child processes that somebody waits for: all children are reaped here. Afterwards the process should end soon: some
/// helper threads stay.
///
/// # Errors
/// When descriptors or threads are short at the start; the app is ended then.
pub fn supervise(launched: Launched, supervision: Supervision) -> io::Result<Ended> {
    let pid = launched.pid;
    let server = Some(supervision.server);
    match start(launched, supervision) {
        Ok(running) => Ok(running.main_loop(pid, server)),
        Err(error) => {
            tree::end(server, |_, _| {});
            Err(error)
        }
    }
}

/// After [`supervise`], on its thread: signals are this process' own again.
pub fn take_signals_back() {
    signal::unblock(FORWARDED);
}

struct Running {
    context: Arc<Context>,
    signals: OwnedFd,
    server_pidfd: OwnedFd,
    /// Readable when `why_lost` has the reason.
    lost: Arc<OwnedFd>,
    why_lost: mpsc::Receiver<String>,
}

fn start(launched: Launched, supervision: Supervision) -> io::Result<Running> {
    let Supervision {
        channel,
        server: _,
        server_pidfd,
        plan,
        ready,
        events,
        decisions,
        threads,
    } = supervision;
    let all: Vec<i32> = FORWARDED.iter().copied().chain([libc::SIGCHLD]).collect();
    let signals = signal::descriptor(&all)?;
    let context = Arc::new(Context {
        engine: launched.engine,
        files: Files::new(launched.paths, plan.clone())?,
        rules_by_name: has_names(&plan),
        plan,
        ready,
        server: Server::new(channel),
        table: Table::default(),
        reactor: Reactor::new()?,
        workers: Workers::default(),
        undelivered: Undelivered::default(),
        skipped: Skipped::default(),
        looked: Looked::default(),
        refused: AtomicBool::new(false),
        relays: Relays::default(),
        arrivals: Arrivals::default(),
        named_routes: NamedRoutes::default(),
        events,
        say_decisions: decisions,
    });
    let listener = match &launched.calls {
        Calls::Filter(listener) => Some(listener.as_fd()),
        Calls::Layer { .. } => None,
    };
    let launch = Notice::Launched { pid: launched.pid };
    context.server.notice(launch, listener.as_slice());
    exec::enter(&context, launched.pid, &launched.executable);

    let destroyed = match message::destroy_groups() {
        Ok(destroyed) => Some(destroyed),
        // gVisor has no sock_diag.
        Err(Errno::PROTONOSUPPORT) => None,
        Err(errno) => return Err(errno.into()),
    };
    spawn("inpod-sockets", &context, move |context| match destroyed {
        Some(destroyed) => lifetime::watch(context, destroyed),
        None => lifetime::look(context),
    })?;
    spawn("inpod-reactor", &context, |context| context.reactor.run())?;
    let (say_lost, why_lost) = mpsc::channel();
    let lost = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
    let wake = lost.clone();
    spawn("inpod-server", &context, move |context| {
        let why = context.server.read_all(&*context.events);
        let _ = say_lost.send(why);
        let _ = rustix::io::write(&*wake, &1_u64.to_ne_bytes());
    })?;
    match launched.calls {
        Calls::Filter(listener) => {
            let listener = Arc::new(Listener::new(listener));
            if !listener.synchronous_wake_up() {
                tracing::debug!("no synchronous wake-up before Linux 6.6: trapped calls cost about 40 us instead of 4");
            }
            answer::start(&context, &listener, threads)?;
        }
        Calls::Layer { socket, direct } => forwarded::start(&context, socket, direct)?,
    }
    Ok(Running {
        context,
        signals,
        server_pidfd,
        lost,
        why_lost,
    })
}

/// A helper thread that no signal reaches.
pub(crate) fn spawn(
    name: &str,
    context: &Arc<Context>,
    run: impl FnOnce(&Arc<Context>) + Send + 'static,
) -> io::Result<()> {
    let context = context.clone();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        signal::block_all();
        run(&context);
    })?;
    Ok(())
}

impl Running {
    fn main_loop(self, app: u32, server: Option<u32>) -> Ended {
        // It may have ended before its signal was listened for.
        let mut status = self.reap(app);
        let mut lost = None;
        while status.is_none() && lost.is_none() {
            let mut polled = [
                PollFd::new(&self.signals, PollFlags::IN),
                PollFd::new(&self.server_pidfd, PollFlags::IN),
                PollFd::new(&*self.lost, PollFlags::IN),
            ];
            if poll(&mut polled, None).is_err() {
                continue;
            }
            let [_, server_ended, channel_lost] = polled.map(|it| !it.revents().is_empty());
            while let Some(delivered) = signal::next(&self.signals) {
                self.forward(app, delivered);
            }
            // The app's own end first: with it, nothing is lost.
            status = self.reap(app);
            if channel_lost {
                lost = self.why_lost.try_recv().ok();
            }
            if server_ended && lost.is_none() {
                lost = Some("the session's server process is gone".to_owned());
            }
        }
        if status.is_some() {
            lost = None;
        }
        let killed = tree::end(server, |pid, ended| {
            if pid.as_raw_pid() as u32 == app {
                status = exit_status(ended).or(status);
            }
        });
        if killed > 0 {
            tracing::debug!(killed, "processes that did not end on SIGTERM");
        }
        let status = status.unwrap_or(128 + libc::SIGKILL);
        self.context.server.notice(Notice::End, &[]);
        let refused = self.context.refused.load(Ordering::Acquire);
        Ended { status, lost, refused }
    }

    /// The terminal sends its signals to the app as well; everybody else's are passed on.
    fn forward(&self, app: u32, delivered: signal::Delivered) {
        if delivered.number != libc::SIGCHLD && !delivered.from_kernel {
            signal::send(app, delivered.number);
        }
    }

    /// Collects ended children, orphans of the tree included, and stops when the app was stopped.
    fn reap(&self, app: u32) -> Option<i32> {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        while let Ok(Some((pid, status))) = rustix::process::wait(options) {
            if Some(pid) != Pid::from_raw(app as i32) {
                continue;
            }
            if status.stopped() {
                signal::stop_self();
            } else if let Some(status) = exit_status(status) {
                return Some(status);
            }
        }
        None
    }
}

fn exit_status(status: WaitStatus) -> Option<i32> {
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}
