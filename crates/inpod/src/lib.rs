//! The command's parts, one file per subcommand; `main` puts them together.
//!
//! Invariant: this crate is the only one that prints, and stdout belongs to the app (`ls` is the exception: there is none).

mod agent;
pub mod cli;
mod engine;
pub mod error;
pub mod exec;
pub mod log;
mod layer;
pub mod ls;
pub mod report;
mod sys;
mod text;
