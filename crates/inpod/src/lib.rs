//! The command's parts, one file per subcommand; `main` puts them together.
//!
//! Invariant: this crate is the only one that prints, and stdout belongs to the app (`ls`, `plan`,
//! `sessions`, `dump` and `doctor` are the exceptions: there is none).

mod agent;
mod changes;
pub mod cli;
pub mod doctor;
pub mod dump;
mod engine;
pub mod error;
pub mod exec;
mod layer;
pub mod log;
pub mod ls;
pub mod machine;
pub mod plan;
pub mod report;
mod runtime;
pub mod sessions;
mod sys;
mod text;
mod variables;
