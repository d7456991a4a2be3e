//! How sessions come in: over the unix socket, or one on stdio.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
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
    let take = |stream| {
        sessions.send_modify(|count| *count += 1);
        let (agent, sessions) = (Arc::clone(&agent), sessions.clone());
        tokio::spawn(async move {
            attached(stream, agent).await;
            sessions.send_modify(|count| *count -= 1);
        });
    };
    process::say_ready();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => take(stream),
                Err(error) => {
                    tracing::warn!(%error, "taking a session");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            () = idle(sessions.subscribe(), options.linger, &agent) => {
                // A session may be on its way in: first nobody finds the socket any more, then who did is looked for.
                let aside = beside(&options.socket);
                let hidden = std::fs::rename(&options.socket, &aside).is_ok();
                let Some(stream) = waiting(&listener) else {
                    let _ = std::fs::remove_file(&aside);
                    break;
                };
                if hidden {
                    std::fs::rename(&aside, &options.socket).map_err(|error| AgentError::io("the socket's name", error))?;
                }
                take(stream);
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    let _ = std::fs::remove_file(&options.socket);
    drop(listener);
    agent.intercept.stop_all();
    agent.datagrams.stop_all();
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
            // A visitor's coming and going changes nothing.
            tokio::time::sleep(linger.saturating_sub(agent.sessions.left().elapsed())).await;
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
    // Binding makes the name, and only then does the socket listen: who saw the name between would be refused.
    let unfinished = beside(path);
    let _ = std::fs::remove_file(&unfinished);
    // 0600 from its first moment; nothing else is created meanwhile.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(&unfinished);
    rustix::process::umask(before);
    let listener = listener.map_err(|error| AgentError::io(what(), error))?;
    std::fs::rename(&unfinished, path).map_err(|error| AgentError::io(what(), error))?;
    Ok(listener)
}

/// One who has connected already; the runtime may not have heard of it yet, so the kernel is asked.
fn waiting(listener: &UnixListener) -> Option<UnixStream> {
    let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
    let stream = rustix::net::accept_with(listener, flags).ok()?;
    UnixStream::from_std(stream.into()).ok()
}

/// The name of a socket that nobody is to find: while it does not listen yet, and when it ends.
fn beside(path: &Path) -> PathBuf {
    path.with_extension("hidden")
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn who_connected_is_waiting() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let listener = listen(&path).expect("a listener");
        assert!(waiting(&listener).is_none());
        let _client = std::os::unix::net::UnixStream::connect(&path).expect("it listens");
        assert!(waiting(&listener).is_some());
    }

    #[tokio::test]
    async fn who_sees_the_socket_can_attach() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    match std::os::unix::net::UnixStream::connect(&path) {
                        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return false,
                        _ => {}
                    }
                }
                true
            });
            let mut listeners = Vec::new();
            for _ in 0..500 {
                // They stay open: who looks may have found the name of an earlier one.
                listeners.push(listen(&path).expect("a listener"));
                std::fs::rename(&path, directory.path().join("before")).expect("moved");
            }
            over.store(true, Ordering::Relaxed);
            assert!(looking.join().expect("looked"), "a socket was seen that did not listen");
        });
    }
}
