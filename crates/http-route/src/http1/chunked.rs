//! Follows the chunked coding (RFC 9112 section 7.1), with extensions and trailers.

use super::Scanned;
use crate::counters::RawReason;
use crate::detect::is_token;

/// Hexadecimal digits of a chunk size; more is an overflow, or an attempt at one.
const MAX_SIZE_DIGITS: u8 = 15;

/// A state for each place between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the `;`, up to the CR.
    Extension {
        size: u64,
    },
    /// Behind the CR of the size line.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// Behind the data: CR, then LF.
    DataCr,
    DataLf,
    /// At the beginning of a trailer line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    /// Behind the CR of a trailer line.
    TrailerEnd,
    /// Behind the CR of the final empty line.
    LastLf,
    Done,
}

#[derive(Debug, Clone)]
pub(super) struct ChunkScan(State);

impl Default for ChunkScan {
    fn default() -> Self {
        Self(State::Size { size: 0, digits: 0 })
    }
}

impl ChunkScan {
    /// `each` gets the runs of data.
    pub(super) fn scan(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<Scanned, RawReason> {
        let mut taken = 0;
        while taken < bytes.len() && self.0 != State::Done {
            if let State::Data { left } = self.0 {
                let run = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - taken);
                each(&bytes[taken..taken + run]);
                taken += run;
                let left = left - run as u64;
                self.0 = if left == 0 { State::DataCr } else { State::Data { left } };
            } else {
                self.0 = self.0.next(bytes[taken])?;
                taken += 1;
            }
        }
        Ok(Scanned {
            taken,
            done: self.0 == State::Done,
        })
    }
}

impl State {
    /// The strict grammar: no whitespace around the size, no bare CR or LF anywhere, no folded trailer.
    fn next(self, byte: u8) -> Result<Self, RawReason> {
        Ok(match (self, byte) {
            (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() && digits < MAX_SIZE_DIGITS => {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    _ => (byte | 0x20) - b'a' + 10,
                };
                Self::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (Self::Size { size, digits: 1.. }, b';') => Self::Extension { size },
            (Self::Size { size, digits: 1.. } | Self::Extension { size }, b'\r') => Self::SizeEnd { size },
            (Self::Extension { .. }, b'\t' | b' '..=b'~' | 0x80..) => self,
            (Self::SizeEnd { size: 0 }, b'\n') => Self::TrailerStart,
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::TrailerStart, b'\r') => Self::LastLf,
            (Self::TrailerStart | Self::TrailerName, _) if is_token(byte) => Self::TrailerName,
            (Self::TrailerName, b':') => Self::TrailerValue,
            (Self::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => self,
            (Self::TrailerValue, b'\r') => Self::TrailerEnd,
            (Self::TrailerEnd, b'\n') => Self::TrailerStart,
            (Self::LastLf, b'\n') => Self::Done,
            (Self::TrailerStart | Self::TrailerName | Self::TrailerValue | Self::TrailerEnd | Self::LastLf, _) => {
                return Err(RawReason::BadTrailer);
            }
            _ => return Err(RawReason::BadChunk),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked() {
        let check = |bytes: &[u8], expect: Result<(usize, bool), RawReason>| {
            let whole = ChunkScan::default()
                .scan(bytes, |_| ())
                .map(|scanned| (scanned.taken, scanned.done));
            assert_eq!(whole, expect, "{}", bytes.escape_ascii());
            let mut scan = ChunkScan::default();
            let mut taken = 0;
            let mut fed = Ok((0, false));
            for byte in bytes.chunks(1) {
                fed = scan.scan(byte, |_| ()).map(|scanned| {
                    taken += scanned.taken;
                    (taken, scanned.done)
                });
                if fed.is_err() {
                    break;
                }
            }
            assert_eq!(fed, expect, "byte by byte: {}", bytes.escape_ascii());
        };
        check(b"0\r\n\r\n", Ok((5, true)));
        check(b"0\r\n\r\nGET", Ok((5, true)));
        check(b"3\r\nabc\r\n0\r\n\r\n", Ok((13, true)));
        check(b"00a;x=\"y\"\r\n0123456789\r\n000\r\n\r\n", Ok((30, true)));
        check(b"A\r\n01234", Ok((8, false)));
        check(b"0\r\nA: b\r\nC:\r\n\r\n", Ok((15, true)));
        check(b"1\nx", Err(RawReason::BadChunk));
        check(b"1 \r\nx", Err(RawReason::BadChunk));
        check(b"1;a\nx", Err(RawReason::BadChunk));
        check(b"1;a\rx", Err(RawReason::BadChunk));
        check(b"\r\n", Err(RawReason::BadChunk));
        check(b";a\r\n", Err(RawReason::BadChunk));
        check(b"0x1\r\n", Err(RawReason::BadChunk));
        check(b"+1\r\n", Err(RawReason::BadChunk));
        check(b"-1\r\n", Err(RawReason::BadChunk));
        check(b"0000000000000001\r\n", Err(RawReason::BadChunk));
        check(b"1\r\nab\r\n", Err(RawReason::BadChunk));
        check(b"1\r\na\n", Err(RawReason::BadChunk));
        check(b"0\r\n A: b\r\n\r\n", Err(RawReason::BadTrailer));
        check(b"0\r\nA : b\r\n\r\n", Err(RawReason::BadTrailer));
        check(b"0\r\nA: b\n\r\n", Err(RawReason::BadTrailer));
        check(b"0\r\nGET / HTTP/1.1\r\n\r\n", Err(RawReason::BadTrailer));
        check(b"0\r\n\n", Err(RawReason::BadTrailer));
    }
}
