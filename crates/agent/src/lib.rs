//! The agent: the half of a session that runs at the target.
//!
//! It dials, resolves and reads files as the target's process would, and takes the target's incoming traffic. One agent
//! serves a target's sessions (`serve`, joined by `attach`), or one session on its stdio (`direct`). [`run`] is the program;
//! [`Agent`] with [`session::serve`] is the same without the process around it, for tests.
//!
//! Invariant: nothing listens but a unix socket in the agent's own container and, while something is stolen, the intercept
//! listener. Invariant: nothing outlives the process; what a session claimed ends with its transport.

mod arguments;
mod attach;
mod check;
mod control;
mod counters;
mod datagrams;
mod descriptors;
mod dial;
mod error;
mod facts;
mod files;
mod fuzz;
mod intercept;
mod limit;
mod mirror;
mod names;
mod node;
mod probes;
mod process;
mod reconnect;
mod serve;
pub mod session;
mod sessions;
mod sys;
mod target;
mod unread;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use arguments::{Command, Who};
pub use error::AgentError;
pub use fuzz::fuzz;
pub use target::Target;

/// What all sessions of one agent share.
pub struct Agent {
    pub(crate) target: Target,
    pub(crate) files: files::Workers,
    pub(crate) names: names::Resolver,
    pub(crate) intercept: Arc<intercept::Intercept>,
    pub(crate) mirror: Arc<mirror::Mirror>,
    pub(crate) datagrams: Arc<datagrams::Datagrams>,
    pub(crate) sessions: sessions::Sessions,
    pub(crate) checks: Arc<check::Checks>,
}

impl Agent {
    /// `netlink` is the process' lowest descriptor, see [`nft::Socket`]; without one nothing can be stolen.
    #[must_use]
    pub fn new(target: Target, netlink: Option<nft::Socket>) -> Arc<Self> {
        let files = files::Workers::new(target.credentials().clone());
        let checks = Arc::new(check::Checks::default());
        let machine = target.shares_the_machines_network();
        let datagrams = datagrams::Datagrams::new(netlink.clone(), machine);
        let intercept = intercept::Intercept::new(netlink, machine, Arc::clone(&checks));
        Arc::new(Self {
            target,
            files,
            names: names::Resolver::default(),
            mirror: mirror::Mirror::new(Arc::clone(&intercept), Arc::clone(&checks)),
            intercept,
            datagrams,
            sessions: sessions::Sessions::new(),
            checks,
        })
    }

    /// Finds out what cannot be stolen or mirrored here, so that the first session need not wait for it: the kernel takes
    /// 15 and 30 ms to take back what was tried (it waits for every processor). Call it inside the runtime.
    pub(crate) fn look_ahead(self: &Arc<Self>) {
        let agent = Arc::clone(self);
        tokio::task::spawn_blocking(move || agent.intercept.limit());
        let agent = Arc::clone(self);
        tokio::task::spawn_blocking(move || agent.mirror.limit());
    }
}

/// The program: parses the arguments, does what they say, says what went wrong on stderr.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    // First of all: whoever shares our uid and process namespace could otherwise read our memory.
    let protected = process::protect();
    let result = protected.and_then(|()| arguments::parse(arguments)).and_then(execute);
    match result {
        Ok(code) => code,
        Err(error) => {
            process::complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn execute(command: Command) -> Result<ExitCode, AgentError> {
    match command {
        Command::Attach { socket } => attach::run(&socket),
        Command::Serve(options) => {
            // Before any other descriptor is opened: see `nft::Socket`. The network is the pod's already.
            let netlink = process::open_netlink();
            process::begin();
            let target = find(&options.target)?;
            process::runtime()?.block_on(serve::run(&options, Agent::new(target, netlink)))
        }
        Command::Direct { target } => {
            let pid = find(&target)?.pid();
            process::enter(pid)?;
            let netlink = process::open_netlink();
            process::begin();
            let target = Target::of_process(pid)?;
            process::runtime()?.block_on(serve::direct(Agent::new(target, netlink)))
        }
    }
}

fn find(who: &Who) -> Result<Target, AgentError> {
    match who {
        Who::Pid(pid) => Target::of_process(*pid),
        Who::Container(id) => Target::of_container(id),
    }
}
