//! Whether a local app without TLS speaks HTTP/2 with prior knowledge (RFC 9113 section 3.3): it is told a client's first
//! words, and what it answers is looked at.

use std::io;
use std::time::Duration;

use http_route::http2;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long an app may take to answer a client's first words. One that is stopped in a debugger does not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// The length of a frame's head (RFC 9113 section 4.1).
const HEAD: usize = 9;
const SETTINGS: u8 = 4;
/// The longest first frame that is waited for, in bytes: what every receiver takes.
const MAX_FRAME: usize = 1 << 14;

/// What an app is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It speaks HTTP/2, and the client has had its first words.
    Http2,
    /// It has said something else, or has closed the connection.
    Other,
    /// It has said nothing for [`PATIENCE`].
    Nothing,
}

/// What the client says before it may be waiting for an answer: the preface and its settings. Less where it says something
/// else, or ends.
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn first(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    while http2::is_prior_knowledge(&first).is_none() {
        if !more(client, &mut first, 1).await? {
            return Ok(first);
        }
    }
    if http2::is_prior_knowledge(&first) == Some(false) {
        return Ok(first);
    }
    let begin = first.len();
    if more(client, &mut first, HEAD).await?
        && let Some((length, _)) = head(&first[begin..])
        && length <= MAX_FRAME
    {
        more(client, &mut first, length).await?;
    }
    Ok(first)
}

/// Reads exactly so many bytes; `false` at an earlier end.
async fn more(client: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>, count: usize) -> io::Result<bool> {
    let read = client.take(count as u64).read_to_end(bytes).await?;
    Ok(read == count)
}

/// Tells the app the client's `first` words. Where it speaks HTTP/2 as well, the client is told what it has answered; otherwise
/// the connection to it has served its purpose.
///
/// # Errors
/// When the client's connection breaks.
pub(crate) async fn ask(
    app: &mut (impl AsyncRead + AsyncWrite + Unpin),
    first: &[u8],
    client: &mut (impl AsyncWrite + Unpin),
) -> io::Result<Answer> {
    let mut answer = Vec::new();
    let asked = async {
        app.write_all(first).await?;
        app.flush().await?;
        more(app, &mut answer, HEAD).await
    };
    match timeout(PATIENCE, asked).await {
        Err(_) => return Ok(Answer::Nothing),
        Ok(Err(_) | Ok(false)) => return Ok(Answer::Other),
        Ok(Ok(true)) => {}
    }
    match head(&answer) {
        Some((length, [SETTINGS, 0, 0, 0, 0, 0])) if length % 6 == 0 => {
            client.write_all(&answer).await?;
            client.flush().await?;
            Ok(Answer::Http2)
        }
        _ => Ok(Answer::Other),
    }
}

/// A frame's length, and what else its head says: kind, flags, stream.
fn head(bytes: &[u8]) -> Option<(usize, [u8; 6])> {
    let (length, rest) = bytes.split_first_chunk::<3>()?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    Some((length, rest.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[tokio::test]
    async fn a_client_is_read_as_far_as_it_may_be_waiting() {
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9];
        let whole = [PREFACE, &settings].concat();
        let long = [PREFACE, &[0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0]].concat();
        let check = async |said: &[u8], read: &[u8]| {
            let mut client = said;
            let got = first(&mut client).await.expect("in memory");
            assert_eq!(got, read, "{}", said.escape_ascii());
            assert_eq!([&got, client].concat(), said, "nothing is lost");
        };
        check(&[&whole[..], b"more"].concat(), &whole).await;
        check(&whole[..30], &whole[..30]).await;
        check(&long, &long).await;
        check(b"", b"").await;
        check(b"PRI * no", b"PRI * n").await;
        check(b"GET / HTTP/1.1\r\n", b"G").await;
    }

    #[tokio::test]
    async fn an_app_shows_by_its_first_frame_what_it_speaks() {
        let check = async |says: &[u8], expect: Answer| {
            let (mut near, mut far) = tokio::io::duplex(1 << 10);
            far.write_all(says).await.expect("room");
            far.shutdown().await.expect("open");
            let mut client = Vec::new();
            let answer = ask(&mut near, PREFACE, &mut client).await.expect("in memory");
            let passed: &[u8] = if expect == Answer::Http2 { &says[..HEAD] } else { &[] };
            assert_eq!((answer, &client[..]), (expect, passed), "{}", says.escape_ascii());
        };
        check(&[0, 0, 0, 4, 0, 0, 0, 0, 0], Answer::Http2).await;
        check(&[0, 0, 12, 4, 0, 0, 0, 0, 0, 9], Answer::Http2).await;
        // An acknowledgement, of a stream, a length that settings do not have.
        check(&[0, 0, 0, 4, 1, 0, 0, 0, 0], Answer::Other).await;
        check(&[0, 0, 0, 4, 0, 0, 0, 0, 1], Answer::Other).await;
        check(&[0, 0, 5, 4, 0, 0, 0, 0, 0], Answer::Other).await;
        check(b"HTTP/1.1 400 Bad Request\r\n\r\n", Answer::Other).await;
        check(b"HTTP", Answer::Other).await;
        check(b"", Answer::Other).await;
    }
}
