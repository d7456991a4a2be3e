//! Where a body ends.

use super::chunked::ChunkScan;
use crate::counters::RawReason;

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// By its length in bytes; 0 is no body.
    Length(u64),
    Chunked,
    /// By the end of the connection: responses only.
    UntilClose,
}

/// How far a scan got: the first `taken` bytes belong to the body, which ends behind them if `done`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    pub taken: usize,
    pub done: bool,
}

/// Follows a body through its bytes, holding none of them.
#[derive(Debug, Clone)]
pub struct BodyScan(State);

#[derive(Debug, Clone)]
enum State {
    Left(u64),
    Chunked(ChunkScan),
    UntilClose,
}

impl BodyScan {
    #[must_use]
    pub fn new(body: Body) -> Self {
        Self(match body {
            Body::Length(length) => State::Left(length),
            Body::Chunked => State::Chunked(ChunkScan::default()),
            Body::UntilClose => State::UntilClose,
        })
    }

    /// `bytes` are the next bytes of the connection; those not taken belong to what comes behind the body.
    ///
    /// # Errors
    /// When the chunking is malformed: this and what follows belongs, unparsed, to this message's upstream.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scanned, RawReason> {
        self.scan_content(bytes, |_| ())
    }

    /// As [`Self::scan`]; `each` gets the runs of content, without what delimits it.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub fn scan_content(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<Scanned, RawReason> {
        match &mut self.0 {
            State::Left(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                each(&bytes[..taken]);
                Ok(Scanned {
                    taken,
                    done: *left == 0,
                })
            }
            State::Chunked(scan) => scan.scan(bytes, each),
            State::UntilClose => {
                each(bytes);
                Ok(Scanned {
                    taken: bytes.len(),
                    done: false,
                })
            }
        }
    }

    /// Whether the end of the connection is the end of the body.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.0, State::UntilClose)
    }
}
