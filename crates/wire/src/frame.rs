//! Messages on a stream: postcard behind a 4-byte big-endian length, which is checked before anything is read or decoded.
//!
//! Reading is not cancel safe: a reader that is dropped between two bytes of a message loses its place. Who waits for
//! several things reads in a task of its own.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::LinkError;
use crate::message::MAX_MESSAGE;

/// What is read of a message's body at once, in bytes: memory follows what really arrives, not what was announced.
const STEP: usize = 64 << 10;

/// A message as it goes on the stream, length included.
///
/// # Errors
/// When it is longer than [`MAX_MESSAGE`].
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, LinkError> {
    let mut bytes = postcard::to_extend(message, vec![0; 4]).map_err(|error| LinkError::Decode {
        what: "an own message",
        why: error.to_string(),
    })?;
    let length = check_length(bytes.len() - 4)?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// Decodes a message's body.
///
/// # Errors
/// When it is too long, is not such a message, or has bytes left over.
pub fn decode<M: DeserializeOwned>(body: &[u8]) -> Result<M, LinkError> {
    check_length(body.len())?;
    let what = std::any::type_name::<M>().rsplit("::").next().unwrap_or("a message");
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(LinkError::Decode {
            what,
            why: format!("{} bytes are left over", rest.len()),
        }),
        Err(error) => Err(LinkError::Decode {
            what,
            why: error.to_string(),
        }),
    }
}

/// Writes one message and flushes.
///
/// # Errors
/// When it is too long, or the stream broke.
pub async fn write_message<W: AsyncWrite + Unpin, M: Serialize>(writer: &mut W, message: &M) -> Result<(), LinkError> {
    write_encoded(writer, &encode(message)?).await
}

/// Writes what [`encode`] gave and flushes.
///
/// # Errors
/// When the stream broke.
pub async fn write_encoded<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> Result<(), LinkError> {
    let result = async {
        writer.write_all(bytes).await?;
        writer.flush().await
    };
    result.await.map_err(|error| LinkError::io("writing a message", error))
}

/// Reads one message that must come.
///
/// # Errors
/// When the stream ends, breaks, or carries something else.
pub async fn read_message<M: DeserializeOwned, R: AsyncRead + Unpin>(reader: &mut R) -> Result<M, LinkError> {
    next_message(reader).await?.ok_or(LinkError::Ended {
        what: "a stream of messages",
    })
}

/// Reads the next message; `None` when the stream has ended in order.
///
/// # Errors
/// When the stream breaks, ends inside a message, or carries something else.
pub async fn next_message<M: DeserializeOwned, R: AsyncRead + Unpin>(reader: &mut R) -> Result<Option<M>, LinkError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => LinkError::Ended { what: "a message" },
        _ => LinkError::io("reading a message", error),
    };
    let mut header = [0; 4];
    let first = reader.read(&mut header).await.map_err(failed)?;
    if first == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut header[first..]).await.map_err(failed)?;
    let length = u32::from_be_bytes(header) as usize;
    check_length(length)?;
    let mut body = Vec::with_capacity(length.min(STEP));
    while body.len() < length {
        let start = body.len();
        body.resize(length.min(start + STEP), 0);
        reader.read_exact(&mut body[start..]).await.map_err(failed)?;
    }
    decode(&body).map(Some)
}

fn check_length(length: usize) -> Result<u32, LinkError> {
    if length > MAX_MESSAGE {
        return Err(LinkError::TooLong {
            what: "a message",
            length,
            limit: MAX_MESSAGE,
        });
    }
    u32::try_from(length).map_err(|_| LinkError::TooLong {
        what: "a message",
        length,
        limit: MAX_MESSAGE,
    })
}
