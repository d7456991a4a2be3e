//! Pods as targets: found through the API server, reached through exec.

mod client;
pub(crate) mod deliver;
mod enter;
pub(crate) mod exec;
mod find;
pub(crate) mod list;
mod look;
mod pod;
pub(crate) mod probes;
pub(crate) mod rights;
mod script;
pub(crate) mod services;
mod spec_read;
pub(crate) mod spec_view;
mod start;
