//! Why a link could not be made, or ended.

use std::io;
use std::sync::Arc;
use std::time::Duration;

/// One reason for everything that waits on a link, hence `Clone`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    #[error("the other end is not an inpod {expected}{}", said(.excerpt))]
    NotInpod { expected: &'static str, excerpt: String },
    #[error(
        "no common protocol version: this build ({our_build}) speaks {}, the other end ({their_build}) {}",
        range(.ours), range(.theirs)
    )]
    Version {
        ours: (u16, u16),
        theirs: (u16, u16),
        our_build: String,
        their_build: String,
    },
    #[error("{what} is {length} bytes long; at most {limit} are accepted")]
    TooLong {
        what: &'static str,
        length: usize,
        limit: usize,
    },
    #[error("cannot decode {what}: {why}")]
    Decode { what: &'static str, why: String },
    #[error("waited {} s for {what}", .limit.as_secs())]
    Timeout { what: &'static str, limit: Duration },
    #[error("the link was closed by the other end")]
    Closed,
    #[error("the link was closed on this side")]
    ClosedHere,
    #[error("{what} ended too early")]
    Ended { what: &'static str },
    #[error("the stream was reset by the other end")]
    Reset,
    #[error("{what}: {source}")]
    Io { what: &'static str, source: Arc<io::Error> },
    #[error("the other end broke the link's protocol: {0}")]
    Protocol(String),
    #[error("too many streams are open on this link (at most {0})")]
    TooManyStreams(usize),
}

impl LinkError {
    pub(crate) fn io(what: &'static str, source: io::Error) -> Self {
        match source.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
            Some(link) => link.clone(),
            None => Self::Io {
                what,
                source: Arc::new(source),
            },
        }
    }
}

/// How a stream reports it: as a reset, with the reason inside.
impl From<LinkError> for io::Error {
    fn from(error: LinkError) -> Self {
        let kind = match &error {
            LinkError::Timeout { .. } => io::ErrorKind::TimedOut,
            LinkError::TooLong { .. } | LinkError::Decode { .. } => io::ErrorKind::InvalidData,
            LinkError::Ended { .. } => io::ErrorKind::UnexpectedEof,
            LinkError::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::ConnectionReset,
        };
        Self::new(kind, error)
    }
}

fn range(&(low, high): &(u16, u16)) -> String {
    if low == high {
        format!("version {low}")
    } else {
        format!("versions {low} to {high}")
    }
}

fn said(excerpt: &str) -> String {
    if excerpt.is_empty() {
        String::new()
    } else {
        format!("; it said: {excerpt}")
    }
}
