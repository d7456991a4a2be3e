//! A session's server process: it holds the link to the target, the router, the relays and the file view.
//!
//! `inpod exec` forks it before anything else ([`bond::fork_server`]); from then on the two processes speak the guest
//! protocol. One call of the app goes: supervisor, `guests` (the channel's end here), `flows` or `incoming`, the
//! link, the agent.
//!
//! Invariant: nothing here prints; what a person should know goes out as an [`guest::event::Event`].
//! Invariant: this process holds /dev/fuse, so it never resolves a path in the app's mount namespace.

mod app;
mod arrivals;
pub mod bond;
mod check;
mod claims;
mod directory;
mod error;
mod flows;
mod guests;
mod incoming;
mod lookup;
mod mirrored;
mod names;
mod prior_knowledge;
mod reap;
mod relay;
mod replay;
mod router;
mod server;
mod spec;
mod start;
mod sys;
mod terminated;
mod translate;
mod udp;
mod unix;
mod visit;
mod waiting;
mod watch;

pub use claims::transport;
pub use directory::Directory;
pub use names::fuzz;
pub use server::{GOODBYE, Settings};
pub use visit::{Visit, visit};
pub use watch::{Watch, watch};
