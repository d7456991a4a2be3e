//! How sessions come in: over the unix socket, or one on stdio.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::arguments::ServeOptions;
use crate::descriptors::Descriptors;
use crate::{Agent, AgentError, attach, process, session};

/// How long an attachment may take to hand its descriptors over.
const HAND_OVER: Duration = Duration::from_secs(5);
/// What sessions get to end in order when the agent is told to.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a direct agent stays for connections that were redirected and are still open.
const DIRECT_DRAIN: Duration = Duration::from_secs(60);

/// Serves until no session is left for the linger time, or a signal says so.
pub(crate) async fn run(options: &ServeOptions, agent: Arc<Agent>) -> Result<ExitCode, AgentError> {
    reap_children();
    agent.look_ahead();
    let listener = listen(&options.socket)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| AgentError::io("signals", error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| AgentError::io("signals", error))?;
    let sessions = watch::Sender::new(0_usize);
    process::say_ready();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    sessions.send_modify(|count| *count += 1);
                    let (agent, sessions) = (Arc::clone(&agent), sessions.clone());
                    tokio::spawn(async move {
                        attached(stream, agent).await;
                        sessions.send_modify(|count| *count -= 1);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "taking a session");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            () = idle(sessions.subscribe(), options.linger, &agent) => break,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    let _ = std::fs::remove_file(&options.socket);
    drop(listener);
    agent.intercept.stop_all();
    let mut left = sessions.subscribe();
    let _ = timeout(DRAIN, left.wait_for(|count| *count == 0)).await;
    Ok(ExitCode::SUCCESS)
}

/// One session on stdio; the process ends with it.
pub(crate) async fn direct(agent: Arc<Agent>) -> Result<ExitCode, AgentError> {
    agent.look_ahead();
    let stdio = || -> io::Result<Descriptors> {
        Descriptors::new(
            io::stdin().as_fd().try_clone_to_owned()?,
            io::stdout().as_fd().try_clone_to_owned()?,
        )
    };
    let transport = stdio().map_err(|error| AgentError::io("stdio as the session's transport", error))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| AgentError::io("signals", error))?;
    tokio::select! {
        ended = session::serve(transport, Arc::clone(&agent)) => ended?,
        _ = terminate.recv() => {}
    }
    // Its parent kills the agent when it wants it gone; until then redirected connections go on with the real app.
    let _ = timeout(DIRECT_DRAIN, agent.intercept.drained()).await;
    Ok(ExitCode::SUCCESS)
}

/// Ready when there has been no session for `linger`, and no connection is left that only the agent keeps alive.
async fn idle(mut sessions: watch::Receiver<usize>, linger: Duration, agent: &Agent) {
    loop {
        if sessions.wait_for(|count| *count == 0).await.is_err() {
            return;
        }
        let quiet = async {
            tokio::time::sleep(linger).await;
            agent.intercept.drained().await;
        };
        tokio::select! {
            () = quiet => return,
            _ = sessions.wait_for(|count| *count > 0) => {}
        }
    }
}

fn listen(path: &Path) -> Result<UnixListener, AgentError> {
    let what = || format!("listening at {}", path.display());
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(AgentError::io(what(), io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(AgentError::Taken(path.to_owned()));
        }
        std::fs::remove_file(path).map_err(|error| AgentError::io(what(), error))?;
    }
    // 0600 from its first moment; nothing else is created meanwhile.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    listener.map_err(|error| AgentError::io(what(), error))
}

async fn attached(mut stream: UnixStream, agent: Arc<Agent>) {
    let code = match accept(&stream).await {
        Ok(transport) => match session::serve(transport, agent).await {
            Ok(()) => 0,
            Err(error) => {
                tracing::info!(%error, "a session ended");
                76
            }
        },
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return,
        Err(error) => {
            tracing::warn!(%error, "an attachment was refused");
            77
        }
    };
    let _ = stream.write_all(&[code]).await;
}

async fn accept(stream: &UnixStream) -> io::Result<Descriptors> {
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("uid {peer} may not attach"),
        ));
    }
    let taken = timeout(
        HAND_OVER,
        stream.async_io(tokio::io::Interest::READABLE, || attach::take(stream)),
    );
    let (input, output) = taken.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Descriptors::new(input, output)
}

/// As the first process of its container the agent inherits what others leave behind.
fn reap_children() {
    if std::process::id() != 1 {
        return;
    }
    let Ok(mut ended) = signal(SignalKind::child()) else {
        return;
    };
    tokio::spawn(async move {
        loop {
            while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
            if ended.recv().await.is_none() {
                return;
            }
        }
    });
}
