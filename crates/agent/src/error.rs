//! Why the agent's process ends.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("{0}\n\n{usage}", usage = crate::arguments::USAGE)]
    Usage(String),
    #[error("no process with pid {0}")]
    NoProcess(u32),
    #[error("no process of container {0} is visible here: does this container share the target's process namespace?")]
    NoContainer(String),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("cannot enter the network of pid {pid}: {source}")]
    Enter { pid: u32, source: io::Error },
    #[error("another agent serves {0}")]
    Taken(PathBuf),
    #[error("the session ended: {0}")]
    Session(#[from] wire::LinkError),
}

impl AgentError {
    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io {
            what: what.into(),
            source: source.into(),
        }
    }

    /// As sysexits.h has them.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::NoProcess(_) | Self::NoContainer(_) => 69,
            Self::Taken(_) => 75,
            Self::Enter { .. } => 77,
            Self::Session(_) => 76,
            Self::Io { .. } => 71,
        }
    }
}
