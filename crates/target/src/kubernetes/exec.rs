//! One exec in a pod as a byte stream: `v4.channel.k8s.io` and `v5.channel.k8s.io` over WebSocket
//! (k8s.io/apimachinery/pkg/util/remotecommand/constants.go).
//!
//! Read and written in place: kube's `AttachedProcess` copies every byte through two pipes and a task, which costs a third
//! of a round trip and, with its usual sizes, most of the throughput.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Sink, Stream};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Resource;
use kube::api::AttachParams;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::client::Cluster;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
/// Only in v5: the channel named by the next byte ends.
const CLOSE: u8 = 255;
/// The most bytes of one message: the channel, and as much as the kubelet and the runtime pass on at once, so that they
/// make one piece of it.
const MESSAGE: usize = 1 + (32 << 10);
/// What is read at once, in bytes: a TLS record carries no more than half of it. tungstenite fills this much with zeros
/// before each read, so its own choice of 128 KiB costs more than the reading.
const READ: usize = 32 << 10;
/// The most of stderr that is kept for an error, in bytes.
const STDERR_KEPT: usize = 8 << 10;

/// A running command's stdio. Stderr is kept for the error that its failure becomes. Writes need a flush.
pub(crate) struct ExecStream<W> {
    socket: W,
    /// Stdin can be ended alone (v5).
    half_close: bool,
    stdout: Bytes,
    stderr: Vec<u8>,
    end: End,
    closing: bool,
}

/// An exec through the API server.
pub(crate) type PodExec = ExecStream<Box<dyn Socket>>;

/// What a WebSocket is to this module.
pub(crate) trait Socket:
    Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Send + Unpin
{
}

impl<S> Socket for S where S: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Send + Unpin {}

impl Cluster {
    /// Starts a command in a container of a pod. An answer does not mean that it runs: the API server may first say yes and
    /// then send the kubelet's refusal as the command's failure.
    pub(crate) async fn exec(
        &self,
        pod: &str,
        container: &str,
        command: &[&str],
        stdin: bool,
    ) -> kube::Result<PodExec> {
        let parameters = AttachParams::default()
            .container(container)
            .stdin(stdin)
            .stdout(true)
            .stderr(true);
        let path = Pod::url_path(&(), Some(&self.namespace));
        let request = kube::core::Request::new(path).exec(pod, command.iter().copied(), &parameters);
        let mut request = request.map_err(kube::Error::BuildRequest)?;
        request.extensions_mut().insert("exec");
        let connection = self.client.connect(request).await?;
        let half_close = connection.supports_stream_close();
        // Nothing has been read through kube's own WebSocket yet, so none of it is lost with it.
        let upgraded = connection.into_stream().into_inner();
        let config = WebSocketConfig::default().read_buffer_size(READ);
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
        Ok(ExecStream::new(Box::new(socket), half_close))
    }
}

enum End {
    Running,
    /// Stdout has ended; how is told once.
    Failed(Option<ExecFailure>),
    Ended,
}

/// How a command failed, in the words of the runtime and of its stderr.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", text(self))]
pub(crate) struct ExecFailure {
    /// The command's exit status, when it ran.
    pub(crate) code: Option<i32>,
    pub(crate) message: String,
    pub(crate) stderr: String,
}

fn text(failure: &ExecFailure) -> String {
    match (failure.stderr.is_empty(), failure.code) {
        (true, _) => failure.message.clone(),
        (false, Some(_)) => failure.stderr.clone(),
        (false, None) => format!("{}: {}", failure.message, failure.stderr),
    }
}

impl<W> ExecStream<W> {
    pub(crate) fn new(socket: W, half_close: bool) -> Self {
        Self {
            socket,
            half_close,
            stdout: Bytes::new(),
            stderr: Vec::new(),
            end: End::Running,
            closing: false,
        }
    }

    fn take_message(&mut self, mut message: Bytes) {
        if message.len() < 2 {
            // Each channel is announced by its number alone.
            return;
        }
        let channel = message.split_to(1)[0];
        match channel {
            STDOUT => self.stdout = message,
            STDERR => {
                self.stderr.extend_from_slice(&message);
                if let Some(excess) = self.stderr.len().checked_sub(STDERR_KEPT) {
                    self.stderr.drain(..excess);
                }
            }
            STATUS => self.end = self.outcome(&message),
            _ => {}
        }
    }

    fn outcome(&self, status: &[u8]) -> End {
        let stderr = String::from_utf8_lossy(&self.stderr).trim().to_owned();
        let status: Status = match serde_json::from_slice(status) {
            Ok(status) => status,
            Err(error) => {
                let message = format!("the API server's status of the command cannot be read: {error}");
                return End::Failed(Some(ExecFailure {
                    code: None,
                    message,
                    stderr,
                }));
            }
        };
        if status.status.as_deref() == Some("Success") {
            return End::Ended;
        }
        let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
        let code = causes
            .iter()
            .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
            .and_then(|cause| cause.message.as_deref()?.parse().ok());
        let message = status
            .message
            .or(status.reason)
            .unwrap_or_else(|| "the command failed".to_owned());
        End::Failed(Some(ExecFailure { code, message, stderr }))
    }
}

impl<W> AsyncRead for ExecStream<W>
where
    W: Stream<Item = Result<Message, WsError>> + Unpin,
{
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.stdout.is_empty() {
                let length = this.stdout.len().min(buffer.remaining());
                buffer.put_slice(&this.stdout.split_to(length));
                return Poll::Ready(Ok(()));
            }
            match &mut this.end {
                End::Running => {}
                End::Ended => return Poll::Ready(Ok(())),
                End::Failed(failure) => {
                    return Poll::Ready(failure.take().map_or(Ok(()), |failure| Err(io::Error::other(failure))));
                }
            }
            match ready!(Pin::new(&mut this.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(message))) => this.take_message(message),
                // Without a status before it, it was the connection that ended, not the command.
                Some(Ok(Message::Close(_))) | None => {
                    this.end = End::Ended;
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::ConnectionReset,
                        "the API server ended the exec stream",
                    )));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
            }
        }
    }
}

impl<W> AsyncWrite for ExecStream<W>
where
    W: Sink<Message, Error = WsError> + Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(into_io)?;
        let length = bytes.len().min(MESSAGE - 1);
        let mut message = Vec::with_capacity(length + 1);
        message.push(STDIN);
        message.extend_from_slice(&bytes[..length]);
        Pin::new(&mut self.socket)
            .start_send(Message::Binary(message.into()))
            .map_err(into_io)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(into_io)
    }

    /// Ends the command's stdin; its output can still be read where the server speaks v5. With v4 only the whole can end.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.half_close {
            self.closing = true;
            return Pin::new(&mut self.socket).poll_close(cx).map_err(into_io);
        }
        if !self.closing {
            ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(into_io)?;
            let message = Message::Binary(Bytes::from_static(&[CLOSE, STDIN]));
            Pin::new(&mut self.socket).start_send(message).map_err(into_io)?;
            self.closing = true;
        }
        Pin::new(&mut self.socket).poll_flush(cx).map_err(into_io)
    }
}

fn into_io(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        WsError::ConnectionClosed | WsError::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::other(other),
    }
}

/// Feeds `data` to the decoder of exec messages: one byte of length before each. Nothing may panic.
pub(crate) fn fuzz(data: &[u8]) {
    let mut stream = ExecStream::new((), true);
    let mut rest = data;
    while let Some((length, tail)) = rest.split_first() {
        let (message, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        stream.take_message(Bytes::copy_from_slice(message));
        rest = tail;
    }
    assert!(stream.stderr.len() <= STDERR_KEPT, "what is kept is bounded");
}

/// The exec's failure inside an error of [`ExecStream`]'s reading side.
pub(crate) fn failure(error: &io::Error) -> Option<&ExecFailure> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use futures::{SinkExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    async fn pair() -> (
        ExecStream<WebSocketStream<tokio::io::DuplexStream>>,
        WebSocketStream<tokio::io::DuplexStream>,
    ) {
        let (near, far) = tokio::io::duplex(16 << 10);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        (ExecStream::new(near, true), far)
    }

    fn frame(channel: u8, data: &[u8]) -> Message {
        let mut message = vec![channel];
        message.extend_from_slice(data);
        Message::Binary(message.into())
    }

    #[tokio::test]
    async fn output_in_pieces_then_success() {
        let (mut near, mut far) = pair().await;
        tokio::spawn(async move {
            for message in [
                frame(STDOUT, b""),
                frame(STDERR, b"noise"),
                frame(STDOUT, b"hel"),
                frame(STDOUT, b"lo"),
            ] {
                far.send(message).await.expect("sent");
            }
            far.send(frame(STATUS, br#"{"status":"Success"}"#)).await.expect("sent");
        });
        let mut said = String::new();
        near.read_to_string(&mut said).await.expect("it ended well");
        assert_eq!(said, "hello");
    }

    #[tokio::test]
    async fn failure_says_what_stderr_said() {
        let (mut near, mut far) = pair().await;
        tokio::spawn(async move {
            far.send(frame(STDOUT, b"x")).await.expect("sent");
            far.send(frame(STDERR, b"inpod: no room\n")).await.expect("sent");
            let status = br#"{"status":"Failure","reason":"NonZeroExitCode","message":"command terminated with non-zero exit code","details":{"causes":[{"reason":"ExitCode","message":"70"}]}}"#;
            far.send(frame(STATUS, status)).await.expect("sent");
        });
        let mut said = Vec::new();
        let error = near.read_to_end(&mut said).await.expect_err("it failed");
        assert_eq!(said, b"x");
        let failed = failure(&error).expect("an exec failure");
        assert_eq!((failed.code, failed.stderr.as_str()), (Some(70), "inpod: no room"));
        assert_eq!(error.to_string(), "inpod: no room");
    }

    #[tokio::test]
    async fn a_cut_connection_is_an_error() {
        let (mut near, mut far) = pair().await;
        far.close(None).await.expect("closed");
        let error = near.read_u8().await.expect_err("cut");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn input_is_cut_into_messages_and_ended() {
        let (mut near, mut far) = pair().await;
        let sent: Vec<u8> = (0..100_000u32).map(|index| index.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let received = tokio::spawn(async move {
            let mut received = Vec::new();
            while let Some(Ok(Message::Binary(message))) = far.next().await {
                if message[..] == [CLOSE, STDIN] {
                    return received;
                }
                assert_eq!(message[0], STDIN);
                assert!(message.len() <= MESSAGE);
                received.extend_from_slice(&message[1..]);
            }
            panic!("stdin was not ended");
        });
        near.write_all(&sent).await.expect("written");
        near.shutdown().await.expect("ended");
        assert_eq!(received.await.expect("read"), expected);
    }

    #[tokio::test]
    async fn garbage_for_a_status_is_an_error() {
        let (mut near, mut far) = pair().await;
        far.send(frame(STATUS, b"{")).await.expect("sent");
        assert!(near.read_u8().await.is_err());
    }

    #[test]
    fn any_bytes_are_taken() {
        let mut state = 1u64;
        for length in 0..600 {
            let next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Small numbers are channels.
                let byte = state.to_le_bytes()[7];
                if byte > 200 { byte & 3 } else { byte }
            };
            let data: Vec<u8> = std::iter::repeat_with(next).take(length).collect();
            fuzz(&data);
        }
        fuzz(b"\x03\x03{}");
        fuzz(br#"#?{"status":1,"details":{"causes":[{}]}}"#);
    }
}
