//! The preface on a transport: magic, length (4 bytes, big endian), hello; the session speaks first, the agent answers even
//! when the versions do not overlap, so that both ends can say why.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::hello::{MAGIC, check_length};
use crate::{Hello, LinkError, Transport};

/// How long each end waits for the other's preface.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);
/// How much of what a stranger said is shown, in bytes, and how long it may take to say it.
const EXCERPT: usize = 400;
const EXCERPT_WAIT: Duration = Duration::from_millis(200);

/// The session's half.
pub(crate) async fn call<T: Transport>(transport: &mut T, ours: &Hello) -> Result<Hello, LinkError> {
    send(transport, ours).await?;
    let theirs = receive(transport, "agent", "the agent's hello").await?;
    ours.common_version(&theirs)?;
    Ok(theirs)
}

/// The agent's half; `make` sees the session's hello. Gives (theirs, ours).
pub(crate) async fn answer<T: Transport>(
    transport: &mut T,
    make: impl FnOnce(&Hello) -> Hello,
) -> Result<(Hello, Hello), LinkError> {
    let theirs = receive(transport, "session", "the session's hello").await?;
    let ours = make(&theirs);
    send(transport, &ours).await?;
    ours.common_version(&theirs)?;
    Ok((theirs, ours))
}

async fn send<T: Transport>(transport: &mut T, hello: &Hello) -> Result<(), LinkError> {
    let body = hello.encode()?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&body);
    let what = "the transport to take the hello";
    timeout(DEADLINE, async {
        transport.write_all(&bytes).await?;
        transport.flush().await
    })
    .await
    .map_err(|_| LinkError::Timeout { what, limit: DEADLINE })?
    .map_err(|error| LinkError::io("sending the hello", error))
}

async fn receive<T: Transport>(
    transport: &mut T,
    expected: &'static str,
    what: &'static str,
) -> Result<Hello, LinkError> {
    timeout(DEADLINE, read(transport, expected, what))
        .await
        .unwrap_or(Err(LinkError::Timeout { what, limit: DEADLINE }))
}

async fn read<T: Transport>(transport: &mut T, expected: &'static str, what: &'static str) -> Result<Hello, LinkError> {
    let mut magic = [0; MAGIC.len()];
    let mut have = 0;
    while have < magic.len() {
        let count = transport
            .read(&mut magic[have..])
            .await
            .map_err(|error| LinkError::io(what, error))?;
        have += count;
        if magic[..have] != MAGIC[..have] || (count == 0 && have > 0) {
            return Err(stranger(transport, expected, magic[..have].to_vec()).await);
        }
        if count == 0 {
            return Err(LinkError::Ended { what });
        }
    }
    let ended = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => LinkError::Ended { what },
        _ => LinkError::io(what, error),
    };
    let length = transport.read_u32().await.map_err(ended)? as usize;
    check_length(length)?;
    let mut body = vec![0; length];
    transport.read_exact(&mut body).await.map_err(ended)?;
    Hello::decode(&body)
}

/// Who answers with something else usually says why: a shell's message, a proxy's error page.
async fn stranger<T: Transport>(transport: &mut T, expected: &'static str, mut said: Vec<u8>) -> LinkError {
    let _ = timeout(EXCERPT_WAIT, async {
        while said.len() < EXCERPT {
            match transport.read_buf(&mut said).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    })
    .await;
    said.truncate(EXCERPT);
    let excerpt = String::from_utf8_lossy(&said).trim().escape_debug().to_string();
    LinkError::NotInpod { expected, excerpt }
}
