//! The head of a response.

use super::{Body, FieldStorage, declared_body, parse_error, persists};
use crate::counters::RawReason;

/// What matters of a response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHead {
    pub status: u16,
    /// The declared length, before the exceptions by method and status.
    declared: Option<Body>,
    /// Whether the upstream keeps the connection open behind it.
    pub persists: bool,
}

impl ResponseHead {
    /// `bytes` is one whole head as [`super::HeadScan`] found it.
    ///
    /// # Errors
    /// When it is malformed or its framing is ambiguous.
    pub fn parse(bytes: &[u8]) -> Result<Self, RawReason> {
        let mut storage = FieldStorage::default();
        let mut response = httparse::Response::new(&mut []);
        let status = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, bytes, &mut storage.0)
            .map_err(|error| parse_error(error, bytes))?;
        match (status, response.code, response.version) {
            (httparse::Status::Complete(length), Some(status), Some(minor)) if length == bytes.len() => Ok(Self {
                status,
                declared: declared_body(minor, response.headers)?,
                persists: persists(minor, response.headers),
            }),
            _ => Err(RawReason::BadHead),
        }
    }

    /// 100 to 199 but 101: another response head follows.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// Whether the connection becomes a tunnel behind this head.
    #[must_use]
    pub fn switches(&self, to_connect: bool) -> bool {
        self.status == 101 || (to_connect && (200..300).contains(&self.status))
    }

    /// What follows the head (RFC 9112 section 6.3).
    #[must_use]
    pub fn body(&self, to_head: bool) -> Body {
        if to_head || matches!(self.status, 100..=199 | 204 | 304) {
            return Body::Length(0);
        }
        self.declared.unwrap_or(Body::UntilClose)
    }
}
