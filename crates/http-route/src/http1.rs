//! HTTP/1 message framing (RFC 9112), incremental and without I/O: which bytes belong to which message.
//!
//! Stricter than servers are: whatever two implementations might read in two ways is a [`RawReason`], never a guess.

mod body;
mod chunked;
mod head;
mod request;
mod response;

pub use body::{Body, BodyScan, Scanned};
pub use head::{HeadScan, MAX_FIELDS, MAX_HEAD};
pub use request::{FieldStorage, RequestHead};
pub use response::ResponseHead;

use crate::counters::RawReason;

/// The message length that `Content-Length` and `Transfer-Encoding` declare, without the exceptions by method and status.
///
/// Returns `None` when neither is there.
fn declared_body(minor: u8, fields: &[httparse::Header<'_>]) -> Result<Option<Body>, RawReason> {
    let mut length = None;
    let mut chunked = false;
    for field in fields {
        if field.name.eq_ignore_ascii_case("content-length") {
            if length
                .replace(parse_length(field.value).ok_or(RawReason::BadLength)?)
                .is_some()
            {
                return Err(RawReason::RepeatedLength);
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            // Lists, repeated fields and chunked over HTTP/1.0 are read differently by different servers.
            if chunked || minor == 0 || !field.value.eq_ignore_ascii_case(b"chunked") {
                return Err(RawReason::UnknownCoding);
            }
            chunked = true;
        }
    }
    match (length, chunked) {
        (Some(_), true) => Err(RawReason::BothLengths),
        (None, true) => Ok(Some(Body::Chunked)),
        (length, false) => Ok(length.map(Body::Length)),
    }
}

/// `1*DIGIT`; `+5`, `5, 5` and what exceeds 64 bits are refused.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, digit| {
        sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

/// Whether the connection persists after a message with these fields (RFC 9112 section 9.3).
fn persists(minor: u8, fields: &[httparse::Header<'_>]) -> bool {
    let option = |wanted: &[u8]| {
        fields
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case("connection"))
            .flat_map(|field| field.value.split(|byte| *byte == b','))
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(wanted))
    };
    if minor == 0 {
        option(b"keep-alive") && !option(b"close")
    } else {
        !option(b"close")
    }
}

/// Why `httparse` refused a head whose line ends were found sound; `bytes` is that head.
fn parse_error(error: httparse::Error, bytes: &[u8]) -> RawReason {
    let lines = || bytes.split(|byte| *byte == b'\n').skip(1);
    match error {
        httparse::Error::TooManyHeaders => RawReason::TooManyFields,
        httparse::Error::HeaderName if lines().any(|line| line.starts_with(b" ") || line.starts_with(b"\t")) => {
            RawReason::Folded
        }
        httparse::Error::HeaderName if lines().any(has_space_before_colon) => RawReason::SpaceBeforeColon,
        _ => RawReason::BadHead,
    }
}

fn has_space_before_colon(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return false;
    };
    colon > 0 && matches!(line[colon - 1], b' ' | b'\t')
}

/// A head and its body, as a response (requests are fuzzed through the splitter).
pub(crate) fn fuzz(data: &[u8]) {
    let whole = HeadScan::default().scan(data);
    let mut scan = HeadScan::default();
    let cut = data.len() / 2;
    let stepped = match scan.scan(&data[..cut]) {
        Ok(None) => scan.scan(data),
        found => found,
    };
    assert_eq!(whole, stepped, "a head's end depends on how it is cut");
    let Ok(Some(length)) = whole else { return };
    let Ok(head) = ResponseHead::parse(&data[..length]) else {
        return;
    };
    let mut body = BodyScan::new(head.body(false));
    // Every verdict is good; none may take more than there is.
    if let Ok(scanned) = body.scan(&data[length..]) {
        assert!(scanned.taken <= data.len() - length);
    }
}
