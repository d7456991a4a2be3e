//! The agent's own process: protected before anything else, then where and how it runs.

use std::io::Write;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::{AgentError, sys};

/// Threads that run tasks. Blocking work has its own.
pub(crate) const WORKERS: usize = 2;
pub(crate) const STACK: usize = 512 << 10;

/// Nobody with our uid may read our memory, or reach our root and descriptors through /proc.
pub(crate) fn protect() -> Result<(), AgentError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| AgentError::io("protecting the process (PR_SET_DUMPABLE)", errno))
}

/// The socket that will own packet rules. Its lack is a limit, told when somebody wants to steal.
pub(crate) fn open_netlink() -> Option<nft::Socket> {
    nft::Socket::open().ok()
}

/// No umask: who asks for a file to be made has applied the app's own, and what the agent makes for itself says its mode. The
/// threads of a process share it, and a thread may not have one of its own in a `restricted` pod (unshare(2)).
///
/// Best effort: under memory pressure the agent goes before the app, and the app's processor time comes first.
pub(crate) fn begin() {
    rustix::process::umask(rustix::fs::Mode::empty());
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let _ = rustix::process::nice(5);
    let filter = std::env::var("INPOD_LOG").unwrap_or_else(|_| "warn".to_owned());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_default())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}

/// Joins the target's network and host name. Once, while the process has a single thread: all later ones are there too.
pub(crate) fn enter(pid: u32) -> Result<(), AgentError> {
    sys::enter_namespaces(pid).map_err(|source| AgentError::Enter { pid, source })
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, AgentError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(8)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .map_err(|error| AgentError::io("starting the agent's threads", error))
}

/// The last words; stderr goes to whoever started the agent.
pub(crate) fn complain(error: &AgentError) {
    let _ = writeln!(std::io::stderr(), "inpod agent: {error}");
}

/// The line that says that sessions may come.
pub(crate) fn say_ready() {
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "inpod agent ready {}", env!("CARGO_PKG_VERSION"));
    let _ = stdout.flush();
}
