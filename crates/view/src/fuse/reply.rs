//! Replies as the kernel reads them.

use std::time::Duration;

use bytes::Bytes;
use wire::message::Attributes;

use super::abi::{self, Attr, Field};
use crate::Errno;

/// What a request is answered with.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Failed(Errno),
    /// The parts of the payload, in order.
    Data(Vec<Bytes>),
}

impl Reply {
    pub(crate) const EMPTY: Self = Self::Data(Vec::new());

    pub(crate) fn of(field: &impl Field) -> Self {
        let mut out = Vec::with_capacity(abi::ENTRY_OUT);
        field.write(&mut out);
        Self::Data(vec![out.into()])
    }

    pub(crate) fn both(first: &impl Field, second: &impl Field) -> Self {
        let mut out = Vec::with_capacity(2 * abi::ENTRY_OUT);
        first.write(&mut out);
        second.write(&mut out);
        Self::Data(vec![out.into()])
    }
}

impl From<Errno> for Reply {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

fn attr(attributes: &Attributes) -> Attr {
    Attr {
        inode: attributes.inode,
        size: attributes.size,
        blocks: attributes.blocks,
        accessed: attributes.accessed.seconds.cast_unsigned(),
        modified: attributes.modified.seconds.cast_unsigned(),
        changed: attributes.changed.seconds.cast_unsigned(),
        accessed_nanoseconds: attributes.accessed.nanoseconds.min(999_999_999),
        modified_nanoseconds: attributes.modified.nanoseconds.min(999_999_999),
        changed_nanoseconds: attributes.changed.nanoseconds.min(999_999_999),
        mode: attributes.mode,
        links: attributes.links,
        uid: attributes.uid,
        gid: attributes.gid,
        special_device: special_device(attributes.special_device),
        block_size: 4096,
        flags: 0,
    }
}

/// The same in answer to GETATTR and SETATTR.
pub(crate) fn attributes(attributes: &Attributes, valid: Duration) -> abi::AttrOut {
    abi::AttrOut {
        seconds: valid.as_secs(),
        nanoseconds: valid.subsec_nanos(),
        dummy: 0,
        attr: attr(attributes),
    }
}

/// A `dev_t` of user space from the kernel's `new_encode_dev`.
pub(crate) fn device(encoded: u32) -> u64 {
    libc::makedev((encoded >> 8) & 0xfff, (encoded & 0xff) | ((encoded >> 12) & 0xfff00))
}

/// The kernel's `new_encode_dev` from a `dev_t` of user space.
fn special_device(device: u64) -> u32 {
    let (major, minor) = (libc::major(device), libc::minor(device));
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12)
}

/// Attributes as programs are to see them.
pub(crate) fn entry(node: u64, attributes: &Attributes, valid: Duration) -> abi::EntryOut {
    abi::EntryOut {
        node,
        generation: 0,
        entry_seconds: valid.as_secs(),
        attr_seconds: valid.as_secs(),
        entry_nanoseconds: valid.subsec_nanos(),
        attr_nanoseconds: valid.subsec_nanos(),
        attr: attr(attributes),
    }
}

/// A name that does not exist, remembered by the kernel.
pub(crate) fn absent(valid: Duration) -> abi::EntryOut {
    abi::EntryOut {
        entry_seconds: valid.as_secs(),
        entry_nanoseconds: valid.subsec_nanos(),
        ..abi::EntryOut::default()
    }
}

/// Fills a READDIR or READDIRPLUS reply up to the size the kernel asked for.
pub(crate) struct DirectoryReply {
    out: Vec<u8>,
    limit: usize,
}

impl DirectoryReply {
    pub(crate) fn new(limit: u32) -> Self {
        // A request asks for at most max_pages.
        let limit = (limit as usize).min(1 << 20);
        Self {
            out: Vec::with_capacity(limit.min(32 << 10)),
            limit,
        }
    }

    /// Whether an entry with a name of this length fits.
    pub(crate) fn fits(&self, name: usize, plus: bool) -> bool {
        let head = if plus { abi::ENTRY_OUT } else { 0 };
        self.out.len() + head + align(abi::DIRENT + name) <= self.limit
    }

    /// `next` is the offset that continues behind this entry.
    pub(crate) fn push(&mut self, name: &[u8], inode: u64, mode: u32, next: u64, plus: Option<&abi::EntryOut>) {
        if let Some(entry) = plus {
            entry.write(&mut self.out);
        }
        abi::Dirent {
            inode,
            next,
            name_length: u32::try_from(name.len()).unwrap_or(0),
            // DT_* values are the type bits of the mode.
            kind: (mode & libc::S_IFMT) >> 12,
        }
        .write(&mut self.out);
        self.out.extend_from_slice(name);
        self.out.resize(align(self.out.len()), 0);
    }

    pub(crate) fn into_reply(self) -> Reply {
        Reply::Data(vec![self.out.into()])
    }
}

fn align(length: usize) -> usize {
    length.next_multiple_of(8)
}
