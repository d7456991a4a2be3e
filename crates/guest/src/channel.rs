//! A local message channel that passes values and descriptors: one `SOCK_SEQPACKET` socket pair.
//!
//! A message longer than [`INLINE`] bytes travels in a sealed memfd, so there is no limit a large environment could meet.

use std::io::{IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message that travels in the packet itself, in bytes.
const INLINE: usize = 32 << 10;
/// Longest message at all, in bytes: the kernel's own limit for an environment is 2 MiB, JSON and headers are small.
const MAX: u64 = 16 << 20;
/// Most descriptors with one message, the memfd of a long one included.
const DESCRIPTORS: usize = 4;

/// One end. Sending and receiving are each one system call and may be done from different threads; two threads must not
/// receive at once if the order of messages matters.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// A channel that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("the other process of this session is gone")]
    Closed,
    #[error("cannot pass a message to the other process of this session")]
    Io(#[from] std::io::Error),
    #[error("a message between the two processes of this session is malformed")]
    Malformed(#[from] postcard::Error),
    #[error("a message of {0} bytes between the two processes of this session is over the limit of {MAX}")]
    TooLong(u64),
}

impl From<rustix::io::Errno> for ChannelError {
    fn from(errno: rustix::io::Errno) -> Self {
        match errno {
            rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET => Self::Closed,
            other => Self::Io(other.into()),
        }
    }
}

impl Channel {
    /// Two connected ends, close-on-exec.
    ///
    /// # Errors
    /// As `socketpair(2)`.
    pub fn pair() -> std::io::Result<(Self, Self)> {
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self { socket: a }, Self { socket: b }))
    }

    /// Another handle to the same end.
    ///
    /// # Errors
    /// As `fcntl(2)` with `F_DUPFD_CLOEXEC`.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
        })
    }

    /// Sends one message with its descriptors (at most three).
    ///
    /// # Errors
    /// When the other end is gone or memory is short.
    pub fn send<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let bytes = postcard::to_allocvec(message)?;
        let memfd;
        let mut all = descriptors.to_vec();
        let (tag, inline): (u8, &[u8]) = if bytes.len() <= INLINE {
            (0, &bytes)
        } else {
            let mut file = std::fs::File::from(rustix::fs::memfd_create("inpod", rustix::fs::MemfdFlags::CLOEXEC)?);
            file.write_all(&bytes)?;
            memfd = OwnedFd::from(file);
            all.push(memfd.as_fd());
            (1, &[])
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !all.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&all)) {
            return Err(ChannelError::Io(std::io::Error::other(
                "too many descriptors in one message",
            )));
        }
        loop {
            match rustix::net::sendmsg(
                &self.socket,
                &[IoSlice::new(&[tag]), IoSlice::new(inline)],
                &mut control,
                SendFlags::NOSIGNAL,
            ) {
                Err(rustix::io::Errno::INTR) => {}
                other => return other.map(drop).map_err(Into::into),
            }
        }
    }

    /// Waits for one message.
    ///
    /// # Errors
    /// [`ChannelError::Closed`] when the other process is gone.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), ChannelError> {
        let mut bytes = vec![0; INLINE + 1];
        let mut descriptors = Vec::new();
        let length = loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            match rustix::net::recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(received) => {
                    for message in control.drain() {
                        if let RecvAncillaryMessage::ScmRights(rights) = message {
                            descriptors.extend(rights);
                        }
                    }
                    break received.bytes;
                }
            }
        };
        match bytes[..length].split_first() {
            None => Err(ChannelError::Closed),
            Some((0, inline)) => Ok((postcard::from_bytes(inline)?, descriptors)),
            Some(_) => {
                let memfd = descriptors.pop().ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
                let mut file = std::fs::File::from(memfd);
                let size = file.metadata()?.len();
                if size > MAX {
                    return Err(ChannelError::TooLong(size));
                }
                file.rewind()?;
                let mut long = Vec::new();
                file.read_to_end(&mut long)?;
                Ok((postcard::from_bytes(&long)?, descriptors))
            }
        }
    }
}

/// An end that another process was started with.
impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

/// To start another process with.
impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.socket
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_messages_arrive_with_their_descriptors() {
        let (a, b) = Channel::pair().unwrap();
        for length in [0, 10, INLINE, INLINE + 1, 3 << 20] {
            let sent = vec![7_u8; length];
            a.send(&sent, &[std::io::stdin().as_fd()]).unwrap();
            let (received, descriptors): (Vec<u8>, _) = b.receive().unwrap();
            assert_eq!((received.len(), descriptors.len()), (length, 1));
        }
    }

    #[test]
    fn a_closed_end_is_said() {
        let (a, b) = Channel::pair().unwrap();
        drop(a);
        assert!(matches!(b.receive::<u8>(), Err(ChannelError::Closed)));
        assert!(matches!(b.send(&1_u8, &[]), Err(ChannelError::Closed)));
    }
}
