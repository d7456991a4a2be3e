//! Calls that the layer hands over where no filter does (`guest::forward`): the same code answers them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use guest::forward::{MAX_MOVE, REQUEST, Reply, Request};
use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::context::Context;
use crate::notification::Pending;
use crate::{answer, supervise, tree};

/// How long a caller may take to say its next word: it is one system call away, unless it was stopped or killed.
const PATIENCE: Duration = Duration::from_secs(30);

/// One call's connection.
#[derive(Debug)]
pub(crate) struct Conversation {
    connection: OwnedFd,
    /// The descriptor that the call is about.
    pub(crate) subject: Option<OwnedFd>,
    /// Its memory can be reached by `process_vm_readv(2)`.
    pub(crate) direct: bool,
}

/// The socket where the layer's calls arrive: only this user reaches it, only the app's tree is heard.
///
/// # Errors
/// When the socket cannot be made there.
pub(crate) fn listen(path: &Path) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o600))?;
    rustix::net::listen(&socket, 4096)?;
    Ok(socket)
}

/// Serves the layer's calls.
///
/// # Errors
/// When a thread cannot be made.
pub(crate) fn start(context: &Arc<Context>, socket: OwnedFd, direct: bool) -> io::Result<()> {
    supervise::spawn("inpod-forward", context, move |context| {
        loop {
            match rustix::net::accept_with(&socket, SocketFlags::CLOEXEC) {
                Ok(connection) => {
                    let then = context.clone();
                    context.workers.run(move || serve(&then, connection, direct));
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                // Too many at once: those that are open end soon.
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return tracing::error!(%error, "the layer's calls are no longer answered"),
            }
        }
    })
}

fn serve(context: &Arc<Context>, connection: OwnedFd, direct: bool) {
    let Ok(peer) = rustix::net::sockopt::socket_peercred(&connection) else {
        return;
    };
    let peer = peer.pid.as_raw_pid() as u32;
    // gVisor names whoever asks as everybody's peer. There the caller's word must do: only this user reaches the socket.
    let is_unknown = peer == std::process::id();
    if !is_unknown && is_stranger(peer) {
        return;
    }
    let _ = set_socket_timeout(&connection, Timeout::Recv, Some(PATIENCE));
    let mut bytes = [0; REQUEST + 1];
    let Ok((length, subject)) = receive(&connection, &mut bytes) else {
        return;
    };
    let Some(request) = Request::decode(&bytes[..length]) else {
        tracing::warn!(peer, "a malformed call at the layer's socket was dropped");
        return;
    };
    if is_unknown && is_stranger(request.tid) {
        return;
    }
    let conversation = Conversation {
        connection,
        subject,
        direct,
    };
    answer::dispatch(context, Pending::forwarded(request, conversation));
}

fn is_stranger(process: u32) -> bool {
    let is_stranger = !tree::is_descendant(process);
    if is_stranger {
        tracing::warn!(process, "a stranger at the layer's socket was turned away");
    }
    is_stranger
}

fn receive(connection: &OwnedFd, bytes: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = again(|| {
        rustix::net::recvmsg(
            connection,
            &mut [IoSliceMut::new(bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    Ok((received.bytes, descriptor))
}

/// Who was stopped and goes on gets EINTR from a receive with a timeout, without any handler (signal(7)).
fn again<T>(receive: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    rustix::io::retry_on_intr(receive)
}

impl Conversation {
    /// Says something.
    ///
    /// # Errors
    /// EPIPE when the caller has given up.
    pub(crate) fn say(&self, reply: Reply, descriptor: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let bytes = reply.encode();
        rustix::net::sendmsg(
            &self.connection,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
        .map(drop)
    }

    pub(crate) fn is_alive(&self) -> bool {
        let mut polled = [PollFd::new(&self.connection, PollFlags::RDHUP)];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
    }

    /// Something that becomes ready when the caller gives up.
    pub(crate) fn end(&self) -> Option<OwnedFd> {
        self.connection.try_clone().ok()
    }

    /// Bytes of the caller's memory, by asking it; how many came, 0 where nothing is mapped.
    ///
    /// # Errors
    /// When the caller has given up.
    pub(crate) fn peek(&self, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let wanted = into.len().min(MAX_MOVE);
        self.say(
            Reply::Peek {
                address,
                length: wanted as u64,
            },
            None,
        )?;
        let mut status = [1];
        let mut space = [];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = again(|| {
            rustix::net::recvmsg(
                &self.connection,
                &mut [IoSliceMut::new(&mut status), IoSliceMut::new(&mut into[..wanted])],
                &mut control,
                RecvFlags::empty(),
            )
        })?;
        match (received.bytes, status) {
            (0, _) => Err(Errno::SRCH),
            (length, [0]) => Ok(length - 1),
            _ => Err(Errno::FAULT),
        }
    }

    /// Writes to the caller's memory, by asking it; how many bytes went.
    ///
    /// # Errors
    /// EFAULT where it may not write; when the caller has given up.
    pub(crate) fn poke(&self, address: u64, from: &[u8]) -> Result<usize, Errno> {
        let part = &from[..from.len().min(MAX_MOVE)];
        self.say(
            Reply::Poke {
                address,
                length: part.len() as u64,
            },
            None,
        )?;
        rustix::net::send(&self.connection, part, SendFlags::NOSIGNAL)?;
        let mut status = [1];
        match again(|| rustix::net::recv(&self.connection, &mut status, RecvFlags::empty()))? {
            (0, _) => Err(Errno::SRCH),
            _ if status == [0] => Ok(part.len()),
            _ => Err(Errno::FAULT),
        }
    }
}

impl AsFd for Conversation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}
