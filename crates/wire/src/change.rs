//! What changes the pod's files.

use serde::{Deserialize, Serialize};

use crate::message::{Attributes, Bytes, Time};
use crate::xattr::{MAX_XATTR_NAME, MAX_XATTR_VALUE, at_most};

/// Paths are absolute in the target's root and resolved inside it; the last component is never followed. Each is one call
/// under the target's credentials, with its umask left to the asker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Opens a regular file for writing. Answered by [`Changed::Opened`].
    Open {
        path: Bytes,
        /// For reading too.
        read: bool,
        truncate: bool,
        /// Makes it where it is not there.
        create: Option<Create>,
    },
    /// At most [`crate::message::MAX_WRITE`] bytes. Answered by [`Changed::Written`].
    Write {
        handle: u64,
        offset: u64,
        /// At the end of the file, wherever that is by then; `offset` is not looked at.
        append: bool,
        data: Bytes,
    },
    /// Attributes, and the length: those that are given. Answered by [`Changed::Now`], as all that follow but two.
    Set {
        object: Object,
        attributes: SetAttributes,
    },
    MakeDirectory {
        path: Bytes,
        mode: u32,
    },
    /// As mknod(2): type and permission bits.
    MakeNode {
        path: Bytes,
        mode: u32,
        device: u64,
    },
    Symlink {
        path: Bytes,
        target: Bytes,
    },
    /// Another name for what is at `from`.
    Link {
        from: Bytes,
        to: Bytes,
    },
    /// `flags` as in renameat2(2). Answered by [`Changed::Done`].
    Rename {
        from: Bytes,
        to: Bytes,
        flags: u32,
    },
    /// Answered by [`Changed::Done`].
    Remove {
        path: Bytes,
        directory: bool,
    },
    /// On the pod's disk when it is answered, as fsync(2); `data` as fdatasync(2).
    Sync {
        object: Object,
        data: bool,
    },
    /// As fallocate(2).
    Allocate {
        handle: u64,
        mode: u32,
        offset: u64,
        length: u64,
    },
    /// An extended attribute, if it is one that [`crate::message::XattrKind`] names; `flags` as in setxattr(2).
    SetXattr {
        path: Bytes,
        #[serde(deserialize_with = "at_most::<MAX_XATTR_NAME, _>")]
        name: Bytes,
        #[serde(deserialize_with = "at_most::<MAX_XATTR_VALUE, _>")]
        value: Bytes,
        flags: u32,
    },
    RemoveXattr {
        path: Bytes,
        #[serde(deserialize_with = "at_most::<MAX_XATTR_NAME, _>")]
        name: Bytes,
    },
}

/// What is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Object {
    Path(Bytes),
    /// A handle of [`Change::Open`]: also when its name is gone.
    Handle(u64),
}

/// How a file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// Permission bits, the umask already applied.
    pub mode: u32,
    /// As `O_EXCL`.
    pub exclusive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub accessed: Option<SetTime>,
    pub modified: Option<SetTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetTime {
    /// The pod's clock.
    Now,
    To(Time),
}

/// The answer to a [`Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Changed {
    Opened {
        attributes: Attributes,
        handle: u64,
    },
    /// `length` may be shorter than what was sent (a full disk).
    Written {
        length: u32,
        attributes: Attributes,
    },
    /// The object afterwards.
    Now(Attributes),
    Done,
}
