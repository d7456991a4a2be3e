//! `process/PID`: the agent is a child process on this machine, its stdio the transport.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use wire::BoxTransport;

use crate::binary::Program;
use crate::error::TargetError;
use crate::progress::{Clock, Phase, Progress};

/// The most of the agent's stderr that is kept for an error, in bytes.
const STDERR_KEPT: usize = 8 << 10;
/// How long an agent that closed its stdout may take to end.
const FAREWELL: Duration = Duration::from_secs(1);

/// A process on this machine.
pub(crate) struct ProcessTarget {
    pub(crate) pid: u32,
    pub(crate) command: String,
    program: Program,
    log: Option<String>,
}

impl ProcessTarget {
    /// # Errors
    /// When there is no such process, or it may not be entered.
    pub(crate) fn find(pid: u32, program: Program, log: Option<String>) -> Result<Self, TargetError> {
        let directory = format!("/proc/{pid}");
        let command = match std::fs::read_to_string(format!("{directory}/comm")) {
            Ok(command) => command.trim_end().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(TargetError::NoProcess { pid }),
            Err(error) => {
                return Err(TargetError::ProcessDenied {
                    pid,
                    reason: error.to_string(),
                });
            }
        };
        if state(&directory) == Some('Z') {
            let reason = format!("it ({command}) has ended and waits for its parent");
            return Err(TargetError::ProcessDenied { pid, reason });
        }
        // These links ask the kernel the same question (ptrace_may_access) that entering will ask.
        for link in ["root", "ns/net"] {
            if let Err(error) = std::fs::read_link(Path::new(&directory).join(link)) {
                let reason = format!("/proc/{pid}/{link} ({command}): {error}");
                return Err(TargetError::ProcessDenied { pid, reason });
            }
        }
        Ok(Self {
            pid,
            command,
            program,
            log,
        })
    }

    pub(crate) fn connect(&self, report: &(dyn Fn(Progress) + Send + Sync)) -> Result<BoxTransport, TargetError> {
        let clock = Clock::begin(report, Phase::Attach);
        if std::fs::metadata(format!("/proc/{}", self.pid)).is_err() {
            return Err(TargetError::NoProcess { pid: self.pid });
        }
        let program = self.program.binary.runnable()?;
        let mut command = Command::new(&program.path);
        command
            .arg0("inpod-agent")
            .args(["direct", "--target-pid", &self.pid.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(log) = &self.log {
            command.env("INPOD_LOG", log);
        }
        let mut child = command.spawn().map_err(TargetError::Start)?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(TargetError::Start(io::Error::other("the agent has no stdio")));
        };
        let said = tokio::spawn(listen(stderr));
        clock.end();
        Ok(Box::new(ChildIo {
            stdin: Some(stdin),
            stdout,
            end: Box::pin(end(child, said)),
            ended: false,
        }))
    }
}

/// The state letter of proc_pid_stat(5); the command before it may hold anything, parentheses included.
fn state(directory: &str) -> Option<char> {
    let stat = std::fs::read_to_string(format!("{directory}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Passes the agent's stderr on to this process' log, and gives back the last of it.
async fn listen(mut stderr: ChildStderr) -> String {
    let mut said = Vec::new();
    let mut buffer = [0u8; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        for line in String::from_utf8_lossy(&buffer[..read]).lines() {
            tracing::debug!(target: "inpod_agent", "{line}");
        }
        said.extend_from_slice(&buffer[..read]);
        let excess = said.len().saturating_sub(STDERR_KEPT);
        said.drain(..excess);
    }
    String::from_utf8_lossy(&said).trim().to_owned()
}

/// The agent's stdio. Dropping it kills the agent.
struct ChildIo {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// How the agent ends, and what it said before. Holds the child, which dies with it.
    end: Pin<Box<dyn Future<Output = io::Result<()>> + Send>>,
    ended: bool,
}

async fn end(mut child: Child, said: JoinHandle<String>) -> io::Result<()> {
    let status = match tokio::time::timeout(FAREWELL, child.wait()).await {
        Ok(status) => status?,
        // It has closed its stdout and goes on with something: whatever that is, the transport has ended.
        Err(_) => return Ok(()),
    };
    if status.success() {
        return Ok(());
    }
    let said = tokio::time::timeout(FAREWELL, said)
        .await
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    Err(io::Error::other(format!("the agent ended ({status}){said}")))
}

impl AsyncRead for ChildIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stdout).poll_read(cx, buffer))?;
        if buffer.filled().len() > before || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let end = ready!(self.end.as_mut().poll(cx));
        self.ended = true;
        Poll::Ready(end)
    }
}

impl AsyncWrite for ChildIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(stdin) = &mut self.stdin else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        match ready!(Pin::new(stdin).poll_write(cx, bytes)) {
            // Who only writes learns the reason too.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && !self.ended => {
                let end = ready!(self.end.as_mut().poll(cx));
                self.ended = true;
                Poll::Ready(Err(end.err().unwrap_or(error)))
            }
            outcome => Poll::Ready(outcome),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::options::AgentBinary;

    fn script(text: &str) -> (tempfile::TempDir, Program) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("agent");
        fixture::executable(format!("#!/bin/sh\n{text}\n"), &path);
        (directory, Program::new(AgentBinary::Path(path)))
    }

    fn this_process(program: Program) -> ProcessTarget {
        ProcessTarget::find(std::process::id(), program, None).expect("this process is there")
    }

    #[tokio::test]
    async fn stdio_of_the_agent() {
        let (_directory, program) = script(r#"echo "$@"; exec cat"#);
        let mut transport = this_process(program).connect(&|_| ()).expect("started");
        transport.write_all(b"hello").await.expect("written");
        transport.shutdown().await.expect("ended");
        let mut said = String::new();
        transport.read_to_string(&mut said).await.expect("it ended well");
        assert_eq!(said, format!("direct --target-pid {}\nhello", std::process::id()));
    }

    #[tokio::test]
    async fn an_agent_that_fails_says_why() {
        let (_directory, program) = script("echo begun; echo 'not permitted' >&2; exit 3");
        let mut transport = this_process(program).connect(&|_| ()).expect("started");
        let mut said = Vec::new();
        let error = transport.read_to_end(&mut said).await.expect_err("it failed");
        assert_eq!(said, b"begun\n");
        assert_eq!(error.to_string(), "the agent ended (exit status: 3): not permitted");
    }

    #[tokio::test]
    async fn who_only_writes_learns_the_reason() {
        let (_directory, program) = script("exec <&-; echo 'not permitted' >&2; exit 3");
        let mut transport = this_process(program).connect(&|_| ()).expect("started");
        let error = loop {
            // The first bytes may still fit into the pipe.
            if let Err(error) = transport.write_all(b"hello").await {
                break error;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(error.to_string(), "the agent ended (exit status: 3): not permitted");
    }

    #[tokio::test]
    async fn dropping_the_transport_ends_the_agent() {
        let (_directory, program) = script("echo $$; exec sleep 1000");
        let mut transport = this_process(program).connect(&|_| ()).expect("started");
        let mut pid = String::new();
        while !pid.ends_with('\n') {
            pid.push(char::from(transport.read_u8().await.expect("its pid")));
        }
        drop(transport);
        let stat = format!("/proc/{}", pid.trim());
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while state(&stat).is_some_and(|state| state != 'Z') {
            assert!(std::time::Instant::now() < deadline, "the agent lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn an_embedded_program_is_run_from_memory() {
        let busybox = std::fs::read("/bin/busybox").expect("busybox is needed: apt-get install busybox-static");
        let target = this_process(Program::new(AgentBinary::Embedded {
            program: busybox.leak(),
            packed: &[],
        }));
        let mut transport = target.connect(&|_| ()).expect("started");
        let error = transport
            .read_to_end(&mut Vec::new())
            .await
            .expect_err("busybox is no agent");
        assert!(error.to_string().contains("applet not found"), "it ran: {error}");
    }

    #[test]
    fn what_cannot_be_entered() {
        let (_directory, program) = script("");
        let error = ProcessTarget::find(4_194_304, program.clone(), None)
            .err()
            .expect("no such process");
        assert_eq!(error.to_string(), "there is no process 4194304 on this machine");
        let mut ended = std::process::Command::new("true").spawn().expect("started");
        let directory = format!("/proc/{}", ended.id());
        while state(&directory) != Some('Z') {
            std::thread::yield_now();
        }
        let error = ProcessTarget::find(ended.id(), program, None)
            .err()
            .expect("it has ended");
        assert!(
            error.to_string().contains("has ended and waits for its parent"),
            "{error}"
        );
        ended.wait().expect("reaped");
    }

    #[tokio::test]
    async fn an_agent_that_is_not_there() {
        let program = Program::new(AgentBinary::Path(PathBuf::from("/nowhere/agent")));
        let error = this_process(program).connect(&|_| ()).err().expect("there is no agent");
        assert!(
            error
                .to_string()
                .starts_with("the agent's program /nowhere/agent cannot be used: No such file"),
            "{error}"
        );
        assert!(!error.hints().is_empty());
    }
}
