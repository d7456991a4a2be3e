//! Messages on a stream: postcard behind a 4-byte big-endian length, which is checked before anything is read or decoded.
//! With the length's highest bit set the body is packed: its own length, 4 bytes big endian, and an LZ4 block.
//!
//! Reading is not cancel safe: a reader that is dropped between two bytes of a message loses its place. Who waits for
//! several things reads in a task of its own.

use lz4_flex::block;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::LinkError;
use crate::message::MAX_MESSAGE;

/// What is read of a message's body at once, in bytes: memory follows what really arrives, not what was announced.
const STEP: usize = 64 << 10;
const LENGTH: usize = 4;
const PACKED: u32 = 1 << 31;
/// Shorter messages, in bytes, are not worth packing.
const SHORT: usize = 1 << 10;

/// A message as it goes on the stream, length included.
///
/// # Errors
/// When it is longer than [`MAX_MESSAGE`].
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, LinkError> {
    let mut bytes = postcard::to_extend(message, vec![0; LENGTH]).map_err(|error| LinkError::Decode {
        what: "an own message",
        why: error.to_string(),
    })?;
    let length = check_length(bytes.len() - LENGTH)?;
    bytes[..LENGTH].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// The same, packed where that saves an eighth. Only for files: lengths of packed traffic, in which a stranger's bytes stand
/// beside secrets, tell of the secrets (CVE-2012-4929, CRIME).
///
/// # Errors
/// When it is longer than [`MAX_MESSAGE`].
pub fn encode_packed<M: Serialize>(message: &M) -> Result<Vec<u8>, LinkError> {
    let plain = encode(message)?;
    let body = &plain[LENGTH..];
    if body.len() < SHORT {
        return Ok(plain);
    }
    let mut packed = vec![0; 2 * LENGTH + block::get_maximum_output_size(body.len())];
    let Ok(length) = block::compress_into(body, &mut packed[2 * LENGTH..]) else {
        return Ok(plain);
    };
    if length + LENGTH > body.len() - body.len() / 8 {
        return Ok(plain);
    }
    packed.truncate(2 * LENGTH + length);
    let header = check_length(LENGTH + length)? | PACKED;
    packed[..LENGTH].copy_from_slice(&header.to_be_bytes());
    packed[LENGTH..2 * LENGTH].copy_from_slice(&plain[..LENGTH]);
    Ok(packed)
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, LinkError> {
    let malformed = |why: &str| LinkError::Decode {
        what: "a packed message",
        why: why.to_owned(),
    };
    let (length, block) = packed
        .split_first_chunk::<LENGTH>()
        .ok_or_else(|| malformed("it has no length"))?;
    let length = u32::from_be_bytes(*length) as usize;
    check_length(length)?;
    let mut body = vec![0; length];
    match block::decompress_into(block, &mut body) {
        Ok(unpacked) if unpacked == length => Ok(body),
        Ok(unpacked) => Err(malformed(&format!("it has {unpacked} bytes instead of {length}"))),
        Err(error) => Err(malformed(&error.to_string())),
    }
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

/// Writes what [`encode`] or [`encode_packed`] gave and flushes.
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
    let mut header = [0; LENGTH];
    let first = reader.read(&mut header).await.map_err(failed)?;
    if first == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut header[first..]).await.map_err(failed)?;
    let header = u32::from_be_bytes(header);
    let length = (header & !PACKED) as usize;
    check_length(length)?;
    let mut body = Vec::with_capacity(length.min(STEP));
    while body.len() < length {
        let start = body.len();
        body.resize(length.min(start + STEP), 0);
        reader.read_exact(&mut body[start..]).await.map_err(failed)?;
    }
    if header & PACKED != 0 {
        body = unpack(&body)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn there(bytes: &[u8]) -> Result<Option<Vec<u8>>, LinkError> {
        next_message(&mut &bytes[..]).await
    }

    #[tokio::test]
    async fn what_is_packed_comes_as_it_was() {
        let mut state = 1_u64;
        let random: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .take(3000)
        .collect();
        for (message, is_packed) in [
            (b"short".to_vec(), false),
            (vec![b'x'; SHORT - 3], false),
            (vec![b'x'; SHORT], true),
            (b"line of a text\n".repeat(1000), true),
            (vec![0; MAX_MESSAGE - 8], true),
            (random, false),
        ] {
            let packed = encode_packed(&message).unwrap();
            assert_eq!(packed[0] & 0x80 != 0, is_packed, "{} bytes", message.len());
            assert!(packed.len() <= encode(&message).unwrap().len());
            assert_eq!(there(&packed).await.unwrap(), Some(message));
        }
    }

    #[tokio::test]
    async fn what_was_packed_wrong_is_an_error() {
        let packed = encode_packed(&vec![b'x'; 5000]).unwrap();
        let said = |body: &[u8]| {
            let header = u32::try_from(body.len()).unwrap() | PACKED;
            [&header.to_be_bytes(), body].concat()
        };
        for (body, why) in [
            (&b"abc"[..], "it has no length"),
            (&[0, 0, 0x20, 0], "expected"),
            (&[0, 0, 0, 0], "expected"),
            (&packed[LENGTH..packed.len() - 1], ""),
            (&[&[0, 0, 0x13, 0x8b], &packed[2 * LENGTH..]].concat(), "instead of"),
            (&[&[0, 0, 0x13, 0x80], &packed[2 * LENGTH..]].concat(), "too small"),
            (&[&[0x7f, 0, 0, 0], &packed[2 * LENGTH..]].concat(), "at most"),
        ] {
            let error = there(&said(body)).await.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
