//! What the local app answers to mirrored requests: thrown away, but for where each answer ends.

use std::collections::VecDeque;
use std::future::ready;

use http_route::http1::{BodyScan, HeadScan, ResponseHead};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes that are read at once.
const BUFFER: usize = 16 << 10;

/// What an answer's length hangs on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    pub(super) head: bool,
    pub(super) connect: bool,
}

/// The app's side of one connection.
pub(super) struct Answers<R> {
    from_app: R,
    buffer: Vec<u8>,
    /// Requests whose answers have not begun.
    asked: VecDeque<Asked>,
    /// Answers that are still to come whole.
    missing: u64,
    /// `None` once it cannot be told any more where answers end: then it is as if none were missing.
    framing: Option<Framing>,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Answers<R> {
    pub(super) fn new(from_app: R) -> Self {
        Self {
            from_app,
            buffer: vec![0; BUFFER],
            asked: VecDeque::new(),
            missing: 0,
            framing: Some(Framing::default()),
            ended: false,
        }
    }

    /// A request goes to the app.
    pub(super) fn expect(&mut self, asked: Asked) {
        if self.framing.is_some() {
            self.asked.push_back(asked);
            self.missing += 1;
        }
    }

    /// The app has closed, or is about to: behind the answer that says so nothing is read any more.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Reads until no answer is missing, and what else is here by then; or to the end.
    pub(super) async fn read_all(&mut self) {
        while !self.ended {
            let all = self.missing == 0;
            tokio::select! {
                biased;
                () = self.read() => {}
                () = ready(()), if all => return,
            }
        }
    }

    /// Reads to the end.
    pub(super) async fn read_to_end(&mut self) {
        while !self.ended {
            self.read().await;
        }
    }

    /// Reads once; loses nothing when it is dropped before.
    async fn read(&mut self) {
        let length = match self.from_app.read(&mut self.buffer).await {
            Ok(length) => length,
            Err(error) => {
                tracing::debug!(%error, "the app has broken off a mirrored connection");
                0
            }
        };
        if length == 0 {
            self.ended = true;
            return;
        }
        let Some(framing) = &mut self.framing else { return };
        let asked = &mut self.asked;
        match framing.feed(&self.buffer[..length], &mut || asked.pop_front().unwrap_or_default()) {
            Some(now) => {
                self.missing = self.missing.saturating_sub(now.whole);
                self.ended = now.last;
            }
            None => {
                self.framing = None;
                self.missing = 0;
            }
        }
    }
}

/// Follows answers through their bytes.
#[derive(Default)]
struct Framing {
    /// A head that is not there yet.
    partial: Vec<u8>,
    scan: HeadScan,
    /// Of the answer at hand, and whether the connection lasts longer.
    body: Option<(BodyScan, bool)>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Now {
    whole: u64,
    last: bool,
}

impl Framing {
    /// Takes the next bytes; `asked` is called for each answer. `None` where it is no HTTP/1 any more, or never was.
    fn feed(&mut self, mut bytes: &[u8], asked: &mut dyn FnMut() -> Asked) -> Option<Now> {
        let mut now = Now::default();
        while !now.last {
            let Some((body, persists)) = &mut self.body else {
                self.partial.extend_from_slice(bytes);
                let Some(length) = self.scan.scan(&self.partial).ok()? else {
                    break;
                };
                bytes = &bytes[bytes.len() - (self.partial.len() - length)..];
                let head = ResponseHead::parse(&self.partial[..length]).ok()?;
                self.partial.clear();
                self.scan = HeadScan::default();
                if !head.is_interim() {
                    let asked = asked();
                    if head.switches(asked.connect) {
                        return None;
                    }
                    self.body = Some((BodyScan::new(head.body(asked.head)), head.persists));
                }
                continue;
            };
            let scanned = body.scan(bytes).ok()?;
            bytes = &bytes[scanned.taken..];
            if !scanned.done {
                break;
            }
            now.whole += 1;
            now.last = !*persists;
            self.body = None;
        }
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_where_their_framing_says() {
        let check = |said: &[u8], asked: Asked, expect: Option<(u64, bool)>| {
            let expect = expect.map(|(whole, last)| Now { whole, last });
            assert_eq!(
                Framing::default().feed(said, &mut || asked),
                expect,
                "{}",
                said.escape_ascii()
            );
            // Byte by byte.
            let mut framing = Framing::default();
            let mut sum = Some(Now::default());
            for byte in said {
                let Some(so_far) = sum.as_mut().filter(|so_far| !so_far.last) else {
                    break;
                };
                match framing.feed(&[*byte], &mut || asked) {
                    Some(now) => {
                        so_far.whole += now.whole;
                        so_far.last = now.last;
                    }
                    None => sum = None,
                }
            }
            assert_eq!(sum, expect, "{}", said.escape_ascii());
        };
        let get = Asked::default();
        let length = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        check(length, get, Some((1, false)));
        check(&length[..length.len() - 1], get, Some((0, false)));
        check(
            &[&length[..], b"HTTP/1.1 204 No\r\n\r\n"].concat(),
            get,
            Some((2, false)),
        );
        check(
            b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 304 Old\r\n\r\n",
            get,
            Some((1, false)),
        );
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        check(chunked, get, Some((1, false)));
        let head = Asked { head: true, ..get };
        check(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", head, Some((1, false)));
        check(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            get,
            Some((1, true)),
        );
        check(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", get, Some((1, true)));
        check(b"HTTP/1.0 200 OK\r\n\r\nuntil it closes", get, Some((0, false)));
        check(b"HTTP/1.1 101 Other\r\n\r\n", get, None);
        check(b"220 smtp\r\n\r\n", get, None);
    }
}
