//! What a client of an unfiltered port says first, looked at without taking it.

use std::time::Duration;

use http_route::{Detected, detect_line};
use tokio::time::Instant;

use super::socket::Socket;

/// The longest request line that is recognised, in bytes.
const LINE: usize = 8 << 10;
/// How long a line that has begun may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that have come but do not yet tell are looked at again after this; the socket stays readable meanwhile.
const AGAIN: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// A request line of HTTP/1.
    Http,
    /// The preface of HTTP/2 with prior knowledge.
    Http2,
    /// Bytes of any other kind.
    Other,
    /// The client has ended its direction without a byte.
    Nothing,
}

/// Waits for the client to speak. A client that waits for the server waits here, too.
///
/// # Errors
/// When the connection breaks.
pub(super) async fn first(client: &mut Socket) -> std::io::Result<First> {
    // The usual request line; one that is longer is looked at again.
    let mut bytes = vec![0; 512];
    let mut begun = None;
    loop {
        let count = client.peek(&mut bytes).await?;
        if count == 0 {
            return Ok(if begun.is_none() { First::Nothing } else { First::Other });
        }
        if let Some(first) = judge(&bytes[..count]) {
            return Ok(first);
        }
        if count == bytes.len() && count < LINE {
            bytes.resize(LINE, 0);
        } else if count == LINE || begun.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return Ok(First::Other);
        } else {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn judge(bytes: &[u8]) -> Option<First> {
    match detect_line(bytes) {
        Detected::NeedMore => None,
        Detected::Http1 => Some(First::Http),
        Detected::Http2 => Some(First::Http2),
        Detected::Tls | Detected::Other => Some(First::Other),
    }
}

/// Any bytes as the first ones of a client.
pub(crate) fn fuzz(data: &[u8]) {
    let _ = judge(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines_and_what_only_begins_like_one() {
        let check = |bytes: &str, expect| assert_eq!(judge(bytes.as_bytes()), expect, "{bytes:?}");
        check("", None);
        check("GET / HT", None);
        check("GET / HTTP/1.1\r", None);
        check("GET / HTTP/1.1\r\n", Some(First::Http));
        check("\r\nPOST /a b HTTP/1.0\nx", Some(First::Http));
        check("get foo\r\n", Some(First::Other));
        check("set key 0 0 5", None);
        check("SET key HTTP/2.0\r\n", Some(First::Other));
        check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(First::Http2));
        check("\x16\x03\x01", Some(First::Other));
        check("PING\r\n", Some(First::Other));
    }
}
