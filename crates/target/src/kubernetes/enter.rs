//! One session's way into the agent's container: the conversation with [`script::ENTER`] over exec.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use wire::BoxTransport;

use super::deliver::{PodTarget, Report};
use super::exec::{self, PodExec};
use super::pod;
use super::rights::Rights;
use super::script;
use super::start::{Fate, fate};
use crate::error::TargetError;
use crate::progress::{Clock, Phase};

/// How long a container may take to answer exec after it was added; pulling an image counts.
const START: Duration = Duration::from_secs(90);
/// Between two tries of exec. Each costs the node a few milliseconds of processor.
const EXEC_PAUSE: Duration = Duration::from_millis(15);
/// Between two looks at the pod's status while exec does not answer yet.
const STATUS_PAUSE: Duration = Duration::from_millis(250);
/// The longest silence of a script.
const SILENCE: Duration = Duration::from_secs(75);
/// The longest that one exec may take to say its first line.
pub(super) const TRY: Duration = Duration::from_secs(15);
/// The longest that the agent's program may travel, packed 4 MB at 20 KB/s; the scripts wait as long for it.
const UPLOAD: Duration = Duration::from_secs(240);
/// How much of it is sent at once, in bytes.
const PIECE: usize = 64 << 10;
/// The longest line a script says, in bytes.
const LINE: usize = 256;

/// What came of one try of a script.
pub(super) enum Tried {
    /// It runs, and has said its first line.
    Said(PodExec, String),
    /// It ended before.
    Broke(io::Error),
    /// Its container does not take it, or not yet.
    Refused(String),
}

impl PodTarget {
    /// Executes the script in the agent's container, does its part of the delivery, and leaves the stream to the link.
    pub(super) async fn enter(&self, rights: &Rights, report: Report<'_>) -> Result<BoxTransport, TargetError> {
        let program = self.settings.program.bytes().await?;
        let packed = self.settings.program.packed();
        let mut clock = Clock::begin(report, Phase::Start);
        let (mut stream, mut line) = self.knock(rights, program.len(), packed.map(<[u8]>::len)).await?;
        loop {
            let next = match line.as_str() {
                said @ (script::DELIVER | script::DELIVER_PACKED) => {
                    clock = clock.next(Phase::Deliver);
                    let whole: &[u8] = &program;
                    let form = if said == script::DELIVER { Some(whole) } else { packed };
                    deliver(&mut stream, form.unwrap_or_default(), &clock).await
                }
                script::WAIT => {
                    clock = clock.next(Phase::Deliver);
                    within(UPLOAD + SILENCE, &line, read_line(&mut stream)).await
                }
                script::DELIVERED => {
                    clock = clock.next(Phase::Attach);
                    within(SILENCE, &line, read_line(&mut stream)).await
                }
                script::ATTACHING => {
                    clock.end();
                    return Ok(Box::new(stream));
                }
                other => {
                    let message = format!("its container said `{other}`, which is not understood");
                    return Err(TargetError::Delivery {
                        pod: self.name.clone(),
                        message,
                    });
                }
            };
            line = match next {
                Ok(Ok(line)) => line,
                Ok(Err(error)) => return Err(self.broken(rights, &mut stream, error).await),
                Err(message) => {
                    return Err(TargetError::Delivery {
                        pod: self.name.clone(),
                        message,
                    });
                }
            };
        }
    }

    /// One try of a script in a container, up to its first line.
    ///
    /// # Errors
    /// What trying again does not help.
    pub(super) async fn try_exec(&self, container: &str, command: &[&str]) -> Result<Tried, TargetError> {
        let tried = tokio::time::timeout(TRY, async {
            let mut stream = self.cluster.exec(&self.name, container, command, true).await?;
            let line = read_line(&mut stream).await;
            Ok((stream, line))
        });
        Ok(match tried.await {
            Ok(Ok((stream, Ok(line)))) => Tried::Said(stream, line),
            Ok(Ok((_, Err(error)))) => Tried::Broke(error),
            Ok(Err(error)) => match self.cluster.explain(self.cluster.asking("create", "pods/exec"), error) {
                // Not there yet: the kubelet's answer comes as 400, 404 or 500, by version and moment.
                TargetError::Api { message, .. } => Tried::Refused(message),
                error => return Err(error),
            },
            Err(_) => Tried::Refused(format!("exec does not answer within {} s", TRY.as_secs())),
        })
    }

    /// Tries exec until the container answers. Its status would say `running` 150 ms later than exec does.
    async fn knock(
        &self,
        rights: &Rights,
        length: usize,
        packed: Option<usize>,
    ) -> Result<(PodExec, String), TargetError> {
        let container = &rights.container;
        let length = length.to_string();
        let packed = packed.map(|length| length.to_string()).unwrap_or_default();
        let command = ["sh", "-c", script::ENTER, "inpod", container, &length, &packed];
        let since = Instant::now();
        let mut looked = (!rights.reused).then_some(since);
        loop {
            let refusal = match self.try_exec(container, &command).await? {
                Tried::Said(stream, line) => return Ok((stream, line)),
                Tried::Broke(error) => match exec::failure(&error) {
                    Some(failure) if failure.code == Some(script::GAVE_UP) => {
                        return Err(TargetError::Delivery {
                            pod: self.name.clone(),
                            message: failure.to_string(),
                        });
                    }
                    _ => error.to_string(),
                },
                Tried::Refused(message) => message,
            };
            tracing::trace!(container, refusal, "not yet");
            if looked.is_none_or(|looked| looked.elapsed() >= STATUS_PAUSE) {
                let pod = self.read().await?;
                self.check_fate(&pod, rights)?;
                looked = Some(Instant::now());
            }
            if since.elapsed() > START {
                let message = format!("{refusal} (after {} s)", START.as_secs());
                return Err(self.container_start(rights, message));
            }
            tokio::time::sleep(EXEC_PAUSE).await;
        }
    }

    /// # Errors
    /// When the agent's container, or the pod around it, has ended or cannot start.
    fn check_fate(&self, pod: &Pod, rights: &Rights) -> Result<(), TargetError> {
        match fate(pod, &rights.container) {
            Fate::Open => pod::check_running(pod, &self.container).map(|_| ()),
            Fate::Failed(message) => Err(self.container_start(rights, message)),
            Fate::NoShell(message) => {
                let ephemeral = pod
                    .spec
                    .iter()
                    .flat_map(|spec| spec.ephemeral_containers.iter().flatten());
                let mut image = ephemeral.filter(|container| container.name == rights.container);
                let image = image
                    .next_back()
                    .and_then(|container| container.image.clone())
                    .unwrap_or_default();
                let configured = self.settings.image.as_ref() == Some(&image);
                Err(TargetError::NoShell {
                    image,
                    message,
                    configured,
                })
            }
        }
    }

    fn container_start(&self, rights: &Rights, message: String) -> TargetError {
        TargetError::ContainerStart {
            namespace: self.cluster.namespace.clone(),
            pod: self.name.clone(),
            container: rights.container.clone(),
            message,
        }
    }

    /// Why the conversation with a script ended: what became of its container says more than the stream.
    async fn broken(&self, rights: &Rights, stream: &mut PodExec, error: io::Error) -> TargetError {
        // A failed write says only that the other side is gone; what it said last can still be read.
        let rest = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut Vec::new())).await;
        let error = match rest {
            Ok(Err(said)) if exec::failure(&said).is_some() => said,
            _ => error,
        };
        if exec::failure(&error).is_none_or(|failure| failure.code != Some(script::GAVE_UP))
            && let Ok(pod) = self.read().await
            && let Err(fate) = self.check_fate(&pod, rights)
        {
            return fate;
        }
        TargetError::Delivery {
            pod: self.name.clone(),
            message: error.to_string(),
        }
    }
}

/// What a script says within this time; else that it did not.
async fn within(
    limit: Duration,
    last: &str,
    line: impl Future<Output = io::Result<String>>,
) -> Result<io::Result<String>, String> {
    let seconds = limit.as_secs();
    let said = tokio::time::timeout(limit, line).await;
    said.map_err(|_| format!("its container said `{last}` and nothing more for {seconds} s"))
}

/// What the script says when it has the program; else how far that came.
async fn deliver(stream: &mut PodExec, program: &[u8], clock: &Clock<'_>) -> Result<io::Result<String>, String> {
    let all = program.len();
    let sent = AtomicUsize::new(0);
    let tell = |bytes| {
        sent.store(bytes, Ordering::Relaxed);
        clock.sent(bytes, all);
    };
    let said = tokio::time::timeout(UPLOAD, upload(stream, program, tell)).await;
    said.map_err(|_| {
        format!(
            "after {} s, {} of {} kB of the agent's program were on their way to its container, which did not say that it has \
             them: the connection to the cluster is too slow, or stands still",
            UPLOAD.as_secs(),
            sent.load(Ordering::Relaxed) / 1000,
            all / 1000,
        )
    })
}

/// Sends the program and gives back what the script says then. A script that fails meanwhile does not read on: its
/// failure ends the sending.
async fn upload(stream: &mut PodExec, program: &[u8], tell: impl Fn(usize)) -> io::Result<String> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent = async {
        let mut bytes = 0;
        for piece in program.chunks(PIECE) {
            tell(bytes);
            writer.write_all(piece).await?;
            writer.flush().await?;
            bytes += piece.len();
        }
        tell(bytes);
        Ok(())
    };
    let ((), line) = tokio::try_join!(sent, read_line(&mut reader))?;
    Ok(line)
}

/// One line of a script, without its end. Nothing behind it is taken from the stream.
async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
            _ if line.len() == LINE => {
                return Err(io::Error::other(format!(
                    "it said: {}...",
                    String::from_utf8_lossy(&line)
                )));
            }
            byte => line.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{SinkExt, StreamExt};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::kubernetes::exec::ExecStream;

    async fn pair() -> (PodExec, WebSocketStream<tokio::io::DuplexStream>) {
        let (near, far) = tokio::io::duplex(4 << 10);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        (ExecStream::new(Box::new(near), true), far)
    }

    #[tokio::test]
    async fn a_script_that_fails_ends_the_upload() {
        let (mut near, mut far) = pair().await;
        let refusal = async {
            let stderr = b"\x02inpod: no space left";
            let status = br#"?{"status":"Failure","message":"exit 70","details":{"causes":[{"reason":"ExitCode","message":"70"}]}}"#;
            let mut status = status.to_vec();
            status[0] = 3;
            far.send(Message::Binary(stderr.to_vec().into())).await.expect("sent");
            far.send(Message::Binary(status.into())).await.expect("sent");
            // And nothing is read: the program does not fit into the pipe.
        };
        let program = vec![0; 1 << 20];
        let (sent, ()) = tokio::join!(
            tokio::time::timeout(SILENCE, upload(&mut near, &program, |_| {})),
            refusal
        );
        let error = sent.expect("it does not hang").expect_err("it failed");
        assert_eq!(error.to_string(), "inpod: no space left");
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_stands_still_is_told_with_how_far_it_came() {
        let (mut near, _far) = pair().await;
        let clock = Clock::begin(&|_| {}, Phase::Deliver);
        let sent = deliver(&mut near, &vec![0; 1 << 20], &clock).await;
        let message = sent.expect_err("nobody reads");
        assert!(
            message.starts_with("after 240 s, 0 of 1048 kB of the agent's"),
            "{message}"
        );
        let silent = within(SILENCE, script::DELIVERED, read_line(&mut near)).await;
        let message = silent.expect_err("nobody speaks");
        assert_eq!(
            message,
            "its container said `inpod delivered` and nothing more for 75 s"
        );
    }

    #[tokio::test]
    async fn lines_end_where_the_link_begins() {
        let (mut near, mut far) = pair().await;
        far.send(Message::Binary(b"\x01inpod attach\nlink".to_vec().into()))
            .await
            .expect("sent");
        assert_eq!(read_line(&mut near).await.expect("a line"), script::ATTACHING);
        let mut rest = [0; 4];
        near.read_exact(&mut rest).await.expect("the rest");
        assert_eq!(&rest, b"link");
        let noise = [vec![1], vec![b'x'; LINE + 1]].concat();
        far.send(Message::Binary(noise.into())).await.expect("sent");
        assert!(read_line(&mut near).await.is_err(), "a line has an end");
        drop(near);
        while far.next().await.is_some_and(|message| message.is_ok()) {}
    }
}
