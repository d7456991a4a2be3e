//! Datagrams on a stream: each behind its length (2 bytes, big endian). An empty datagram is a datagram.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::LinkError;
use crate::message::MAX_DATAGRAM;

/// Writes one datagram and flushes. `scratch` is reused from call to call.
///
/// # Errors
/// When it is longer than [`MAX_DATAGRAM`], or the stream broke.
pub async fn write<W: AsyncWrite + Unpin>(
    writer: &mut W,
    datagram: &[u8],
    scratch: &mut Vec<u8>,
) -> Result<(), LinkError> {
    let length = u16::try_from(datagram.len()).map_err(|_| LinkError::TooLong {
        what: "a datagram",
        length: datagram.len(),
        limit: MAX_DATAGRAM,
    })?;
    scratch.clear();
    scratch.extend_from_slice(&length.to_be_bytes());
    scratch.extend_from_slice(datagram);
    let result = async {
        writer.write_all(scratch).await?;
        writer.flush().await
    };
    result.await.map_err(|error| LinkError::io("writing a datagram", error))
}

/// Reads one datagram into `datagram`, replacing what it held; `false` when the stream has ended in order. Not cancel safe.
///
/// # Errors
/// When the stream breaks or ends inside a datagram.
pub async fn read<R: AsyncRead + Unpin>(reader: &mut R, datagram: &mut Vec<u8>) -> Result<bool, LinkError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => LinkError::Ended { what: "a datagram" },
        _ => LinkError::io("reading a datagram", error),
    };
    let mut header = [0; 2];
    let first = reader.read(&mut header).await.map_err(failed)?;
    if first == 0 {
        return Ok(false);
    }
    reader.read_exact(&mut header[first..]).await.map_err(failed)?;
    datagram.clear();
    datagram.resize(usize::from(u16::from_be_bytes(header)), 0);
    reader.read_exact(datagram).await.map_err(failed)?;
    Ok(true)
}
