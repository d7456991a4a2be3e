//! What the local app answers to mirrored requests: thrown away, but for where each answer ends.

use std::io;

use http_route::http1::{BodyScan, HeadScan, ResponseHead};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, watch};

/// Bytes that are read at once.
const BUFFER: usize = 16 << 10;

/// What an answer's length hangs on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    pub(super) head: bool,
    pub(super) connect: bool,
}

/// Reads until the app's end, or until the answer behind which it will close. `whole` counts the answers that have come whole;
/// where that can no longer be told it is as if all had.
///
/// # Errors
/// When the connection breaks.
pub(super) async fn read(
    mut from_app: impl AsyncRead + Unpin,
    mut asked: mpsc::UnboundedReceiver<Asked>,
    whole: watch::Sender<u64>,
) -> io::Result<()> {
    let mut answers = Answers::default();
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from_app.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let Some(now) = answers.feed(&buffer[..length], &mut || asked.try_recv().unwrap_or_default()) else {
            whole.send_replace(u64::MAX);
            return tokio::io::copy(&mut from_app, &mut tokio::io::sink()).await.map(drop);
        };
        if now.whole > 0 {
            whole.send_modify(|whole| *whole += now.whole);
        }
        if now.last {
            return Ok(());
        }
    }
}

/// Follows answers through their bytes.
#[derive(Default)]
struct Answers {
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

impl Answers {
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
                Answers::default().feed(said, &mut || asked),
                expect,
                "{}",
                said.escape_ascii()
            );
            // Byte by byte.
            let mut answers = Answers::default();
            let mut sum = Some(Now::default());
            for byte in said {
                let Some(so_far) = sum.as_mut().filter(|so_far| !so_far.last) else {
                    break;
                };
                match answers.feed(&[*byte], &mut || asked) {
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
