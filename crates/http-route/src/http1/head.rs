//! Finds where a head ends.

use crate::counters::RawReason;

/// The longest head, in bytes, its final empty line included.
pub const MAX_HEAD: usize = 64 << 10;
/// The most fields of a head.
pub const MAX_FIELDS: usize = 256;

/// Finds the end of a head in a growing buffer, each byte looked at once.
///
/// Every line must end in CRLF. Empty lines before the first line count as part of the head.
#[derive(Debug, Clone, Default)]
pub struct HeadScan {
    /// Bytes that need not be looked at again.
    seen: usize,
    /// Where the current line begins.
    line: usize,
    /// A line that is not empty was seen.
    begun: bool,
}

impl HeadScan {
    /// `bytes` begins where the head begins, and holds at least what it held the last time. Returns the head's length
    /// once all of it is there.
    ///
    /// # Errors
    /// [`RawReason::BareLineEnd`], and [`RawReason::HeadTooLong`] beyond [`MAX_HEAD`].
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, RawReason> {
        let window = &bytes[..bytes.len().min(MAX_HEAD)];
        while self.seen < window.len() {
            let Some(offset) = window[self.seen..]
                .iter()
                .position(|byte| matches!(byte, b'\n' | b'\r'))
            else {
                self.seen = window.len();
                break;
            };
            let at = self.seen + offset;
            if window[at] == b'\n' {
                return Err(RawReason::BareLineEnd);
            }
            match window.get(at + 1) {
                None => {
                    // The next byte decides about this CR: come back to it.
                    self.seen = at;
                    break;
                }
                Some(b'\n') => {}
                Some(_) => return Err(RawReason::BareLineEnd),
            }
            let empty = at == self.line;
            self.seen = at + 2;
            self.line = self.seen;
            if !empty {
                self.begun = true;
            } else if self.begun {
                return Ok(Some(self.seen));
            }
        }
        if bytes.len() >= MAX_HEAD {
            Err(RawReason::HeadTooLong)
        } else {
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_at_the_empty_line() {
        let check = |bytes: &[u8], expect: Result<Option<usize>, RawReason>| {
            assert_eq!(HeadScan::default().scan(bytes), expect, "{}", bytes.escape_ascii());
            let mut scan = HeadScan::default();
            let fed = (0..=bytes.len())
                .map(|end| scan.scan(&bytes[..end]))
                .find(|step| *step != Ok(None));
            assert_eq!(
                fed.unwrap_or(Ok(None)),
                expect,
                "byte by byte: {}",
                bytes.escape_ascii()
            );
        };
        check(b"", Ok(None));
        check(b"GET / HTTP/1.1\r\n\r\n", Ok(Some(18)));
        check(b"GET / HTTP/1.1\r\n\r\nGET", Ok(Some(18)));
        check(b"GET / HTTP/1.1\r\nA: b\r\n", Ok(None));
        check(b"\r\n\r\nG\r\n\r\n", Ok(Some(9)));
        check(b"\r\n\r\n", Ok(None));
        check(b"G\n\r\n", Err(RawReason::BareLineEnd));
        check(b"G\r\r\n\r\n", Err(RawReason::BareLineEnd));
        check(b"G\r\n\n", Err(RawReason::BareLineEnd));
        let mut long = vec![b'a'; MAX_HEAD - 4];
        long.extend_from_slice(b"\r\n\r\n");
        assert_eq!(HeadScan::default().scan(&long), Ok(Some(MAX_HEAD)));
        long.insert(0, b'a');
        assert_eq!(HeadScan::default().scan(&long), Err(RawReason::HeadTooLong));
    }
}
