//! Stream sockets at a path in the target's root, connected with the target's permissions.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use wire::{LinkError, Stream};

use crate::Target;
use crate::files::resolve;
use crate::session::Session;

/// How long a full listener is waited for; connect(2) on a unix socket blocks for nothing else.
const BACKLOG: Duration = Duration::from_secs(30);

pub(super) async fn serve(
    session: &Arc<Session>,
    path: Vec<u8>,
    limit: Option<Duration>,
    stream: Stream,
) -> Result<(), LinkError> {
    let shown = String::from_utf8_lossy(&path).into_owned();
    let (reply, connected) = oneshot::channel();
    let agent = Arc::clone(&session.agent);
    session.agent.files.run(move || {
        let _ = reply.send(open(&agent.target, &path, limit.unwrap_or(BACKLOG)));
    });
    let socket = async {
        let fd = connected
            .await
            .map_err(|_| io::Error::from_raw_os_error(libc::EAGAIN))??;
        let socket = std::os::unix::net::UnixStream::from(fd);
        socket.set_nonblocking(true)?;
        Ok((UnixStream::from_std(socket)?, super::nowhere()))
    };
    let what = || format!("connecting to {shown}");
    let Some((socket, stream)) = super::answered(session, socket.await, stream, what).await? else {
        return Ok(());
    };
    let held = stream.receiving();
    super::joined(wire::join(socket, stream, |_| None, held).await)
}

/// Runs on a file worker.
fn open(target: &Target, path: &[u8], limit: Duration) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
    let connected = if let [0, name @ ..] = path {
        // The abstract namespace is the network namespace's.
        connect(&socket, &SocketAddrUnix::new_abstract_name(name)?)
    } else {
        let place = resolve::open(target.root()?, target.own_pid(), path, resolve::FOLLOWED)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode) != FileType::Socket {
            return Err(Errno::CONNREFUSED.into());
        }
        // A socket is connected to by path only; this one leads to the object that was found, whatever is renamed.
        connect(
            &socket,
            &SocketAddrUnix::new(format!("/proc/self/fd/{}", place.as_raw_fd()))?,
        )
    };
    match connected {
        // What SO_SNDTIMEO gives for a listener that takes nobody.
        Err(Errno::AGAIN) => Err(Errno::TIMEDOUT.into()),
        result => {
            result?;
            set_socket_timeout(&socket, Timeout::Send, None)?;
            Ok(socket)
        }
    }
}
