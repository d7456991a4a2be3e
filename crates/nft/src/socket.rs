//! The netlink socket and one atomic transaction over it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

use crate::error::{Error, Step, meaning};
use crate::message::{Reply, Writer, replies};
use crate::uapi::{self, nfproto, nlm};

/// A datagram of replies is never longer: acknowledgements carry headers only, errors our own request back.
const REPLY: usize = 32 * 1024;

/// The netlink socket that owns a [`Table`](crate::Table). Clones are the same descriptor.
///
/// **Open it before any other descriptor**, so that it is the process' lowest above the standard ones. The kernel
/// closes descriptors in ascending order when a process dies, but releases sockets last closed first (task work), so
/// the lowest is released last (measured). If the table went before the sockets of redirected clients, their closing
/// segments would no longer be translated and the clients would hang.
///
/// It belongs to the network namespace of the thread that opens it.
#[derive(Debug, Clone)]
pub struct Socket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    /// The next sequence number; the lock also keeps a request and its replies together.
    sequence: Mutex<u32>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl Socket {
    /// Opens the socket (close-on-exec). Needs no privilege and creates nothing.
    ///
    /// # Errors
    /// [`Error::Missing`] when the kernel has no netfilter netlink.
    pub fn open() -> Result<Socket, Error> {
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::NETFILTER),
        )
        .map_err(|errno| meaning("opening a netfilter netlink socket", Step::Whole, errno))?;
        Ok(Socket(Arc::new(Inner {
            fd,
            sequence: Mutex::new(1),
        })))
    }

    /// Sends the batch; all of it takes effect at once, or nothing does.
    pub(crate) fn commit(&self, batch: &Batch) -> Result<(), Error> {
        self.transact(batch, true)
    }

    /// Lets the kernel check the batch and take all of it back: a batch without its end is aborted
    /// (net/netfilter/nfnetlink.c, `nfnetlink_rcv_batch`).
    pub(crate) fn check(&self, batch: &Batch) -> Result<(), Error> {
        self.transact(batch, false)
    }

    fn transact(&self, batch: &Batch, commit: bool) -> Result<(), Error> {
        let mut sequence = self.0.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        let first = *sequence;
        let mut writer = Writer::default();
        let mut number = || {
            let number = *sequence;
            *sequence = sequence.wrapping_add(1);
            number
        };
        let edge = |writer: &mut Writer, kind, number| {
            writer.message(kind, nlm::REQUEST, number, |body| body.raw(&header(0, uapi::SUBSYSTEM)));
        };
        edge(&mut writer, uapi::BATCH_BEGIN, number());
        for message in &batch.messages {
            let kind = uapi::SUBSYSTEM << 8 | u16::from(message.kind);
            writer.message(kind, nlm::REQUEST | nlm::ACK | message.flags, number(), |body| {
                body.raw(&header(nfproto::INET, 0));
                body.raw(message.body.as_bytes());
            });
        }
        if commit {
            edge(&mut writer, uapi::BATCH_END, number());
        }
        let mut acknowledged = 0usize;
        // The earliest failed step: what follows it usually fails only because of it.
        let mut failed: Option<(usize, Errno)> = None;
        self.exchange(writer.as_bytes(), batch.doing, |reply| {
            let Some(errno) = reply.errno() else { return };
            let index = usize::try_from(reply.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
            if index > batch.messages.len() {
                return;
            }
            if errno == 0 {
                acknowledged += 1;
            } else if failed.is_none_or(|(earliest, _)| index < earliest) {
                failed = Some((index, Errno::from_raw_os_error(errno)));
            }
        })?;
        match failed {
            Some((0, errno)) => Err(meaning(batch.doing, Step::Whole, errno)),
            Some((index, errno)) => {
                let message = &batch.messages[index - 1];
                Err(meaning(
                    &format!("{}: {}", batch.doing, message.what),
                    message.step,
                    errno,
                ))
            }
            None if acknowledged < batch.messages.len() => Err(Error::Kernel {
                doing: batch.doing.to_owned(),
                errno: Errno::NOBUFS,
            }),
            None => Ok(()),
        }
    }

    /// One request that is not part of a batch, such as reading a table.
    pub(crate) fn request(
        &self,
        message: &Message,
        doing: &str,
        mut each: impl FnMut(&Reply<'_>),
    ) -> Result<(), Error> {
        let mut sequence = self.0.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *sequence;
        *sequence = sequence.wrapping_add(1);
        let mut writer = Writer::default();
        let kind = uapi::SUBSYSTEM << 8 | u16::from(message.kind);
        writer.message(kind, nlm::REQUEST | message.flags, number, |body| {
            body.raw(&header(nfproto::INET, 0));
            body.raw(message.body.as_bytes());
        });
        self.exchange(writer.as_bytes(), doing, |reply| {
            if reply.sequence == number {
                each(reply);
            }
        })
    }

    /// nf_tables answers within the send call, so every reply is there when it returns.
    fn exchange(&self, request: &[u8], doing: &str, mut each: impl FnMut(&Reply<'_>)) -> Result<(), Error> {
        let fail = |errno| meaning(doing, Step::Whole, errno);
        rustix::io::retry_on_intr(|| send(&self.0.fd, request, SendFlags::empty())).map_err(fail)?;
        let mut buffer = vec![0; REPLY];
        loop {
            match rustix::io::retry_on_intr(|| recv(&self.0.fd, &mut buffer[..], RecvFlags::DONTWAIT)) {
                Ok((length, _)) => replies(&buffer[..length.min(REPLY)]).for_each(|reply| each(&reply)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(fail(errno)),
            }
        }
    }
}

/// `struct nfgenmsg`: family, version 0, resource id.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// One step of a request.
pub(crate) struct Message {
    pub kind: u8,
    pub flags: u16,
    pub step: Step,
    pub what: String,
    pub body: Writer,
}

/// Steps that take effect together.
pub(crate) struct Batch {
    doing: &'static str,
    messages: Vec<Message>,
}

impl Batch {
    pub(crate) fn new(doing: &'static str) -> Batch {
        Batch {
            doing,
            messages: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, message: Message) {
        self.messages.push(message);
    }
}
