//! The base layer: one seccomp filter on the app and everything it starts, and a supervisor that answers the calls which
//! take a path or an address.
//!
//! [`launch`] forks, installs the filter and executes the app; [`supervise`] serves it until it ends. What may go to the
//! pod is decided by `rules`; what goes there is done by the session's server, over the guest protocol. Local is always the
//! kernel's own work: the call simply continues.
//!
//! Invariant: the kernel keeps the state. Nothing is done on read, write, dup, close, poll or fork; what must be remembered
//! about a socket is kept under its cookie, until the kernel says that it is gone.
//!
//! Invariant: a trapped call is answered exactly once, whatever happens here ([`notification::Pending`]); one that a
//! signal interrupted loses nothing, because what was done for it is kept for its restart.
//!
//! Invariant: no thread that answers waits for anything but the next call.

mod answer;
mod arrivals;
mod astray;
mod bpf;
mod calls;
mod change;
mod connect;
mod context;
mod datagram;
mod engine;
mod enterable;
mod exec;
mod files;
mod forwarded;
mod hello;
mod hostname;
mod launch;
mod led;
mod lifetime;
mod listen;
pub mod machine;
mod memory;
mod message;
mod names;
mod notification;
mod path_call;
pub mod preload;
mod reactor;
mod resolve;
mod server;
mod skip;
mod sockaddr;
mod socket;
mod supervise;
mod sys;
mod table;
mod task;
mod tree;
mod undelivered;
mod unix;
mod workers;

pub use engine::Engine;
pub use files::PathView;
pub use launch::{Calls, Launch, LaunchError, Launched, Prepare, launch};
pub use supervise::{DEFAULT_THREADS, Ended, Supervision, supervise, take_signals_back};

/// The names of all trapped calls, for the documentation: each with whether it is trapped only where paths are translated.
pub fn trapped_calls() -> impl Iterator<Item = (&'static str, bool)> {
    calls::CALLS
        .iter()
        .map(|call| (call.name, call.scope == calls::Scope::Paths))
}

/// Entry for fuzzing: every decoder of foreign bytes here. Must not panic.
pub fn fuzz(data: &[u8]) {
    let _ = sockaddr::Address::parse(data);
    let _ = message::Header::parse(memory::Pointer(0), data);
    let _ = message::names_source(data);
    let _ = lifetime::cookies(data);
    tree::fuzz(data);
}
