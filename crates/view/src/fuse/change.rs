//! Requests that change something: decoded, and done.

use wire::message::{SetAttributes, SetTime, Time};

use super::abi::{self, Field, Reader, opcode, set};
use super::answer::Answer;
use super::decode::Operation;
use super::reply::{self, Reply};
use super::serve::Connection;
use crate::Errno;

/// Does not borrow the read buffer: it outlives it.
#[derive(Debug)]
pub(crate) enum Change {
    Set {
        handle: Option<u64>,
        attributes: SetAttributes,
    },
    Symlink {
        name: Box<[u8]>,
        target: Box<[u8]>,
    },
    MakeNode {
        mode: u32,
        device: u64,
        name: Box<[u8]>,
    },
    MakeDirectory {
        mode: u32,
        name: Box<[u8]>,
    },
    Remove {
        name: Box<[u8]>,
        directory: bool,
    },
    Rename {
        name: Box<[u8]>,
        directory: u64,
        new_name: Box<[u8]>,
        flags: u32,
    },
    Link {
        node: u64,
        name: Box<[u8]>,
    },
    Create {
        flags: u32,
        mode: u32,
        name: Box<[u8]>,
    },
    Write {
        handle: u64,
        offset: u64,
        append: bool,
        data: Vec<u8>,
    },
    Sync {
        /// A directory is not known by its handle.
        handle: Option<u64>,
        data: bool,
    },
    Allocate(abi::FallocateIn),
    SetXattr {
        name: Box<[u8]>,
        value: Box<[u8]>,
        flags: u32,
    },
    RemoveXattr {
        name: Box<[u8]>,
    },
}

impl Change {
    /// Whether it is made by a descriptor, which its caller may have been given.
    pub(super) fn is_of_open_file(&self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::Allocate(_)
                | Self::Set { handle: Some(_), .. }
                | Self::Sync { handle: Some(_), .. }
        )
    }
}

/// [`Operation::Unknown`] for what is no change; `None`: cut short.
pub(crate) fn decode(code: u32, reader: &mut Reader<'_>) -> Option<Operation<'static>> {
    Some(Operation::Change(match code {
        opcode::SETATTR => attributes(&Field::read(reader)?),
        opcode::SYMLINK => Change::Symlink {
            name: name(reader)?,
            target: name(reader)?,
        },
        opcode::MKNOD => {
            let abi::MknodIn { mode, device, .. } = Field::read(reader)?;
            Change::MakeNode {
                mode,
                device: reply::device(device),
                name: name(reader)?,
            }
        }
        opcode::MKDIR => Change::MakeDirectory {
            mode: abi::MkdirIn::read(reader)?.mode,
            name: name(reader)?,
        },
        opcode::UNLINK | opcode::RMDIR => Change::Remove {
            name: name(reader)?,
            directory: code == opcode::RMDIR,
        },
        opcode::RENAME | opcode::RENAME2 => {
            let (directory, flags) = if code == opcode::RENAME {
                (abi::RenameIn::read(reader)?.directory, 0)
            } else {
                let rename = abi::Rename2In::read(reader)?;
                (rename.directory, rename.flags)
            };
            Change::Rename {
                name: name(reader)?,
                directory,
                new_name: name(reader)?,
                flags,
            }
        }
        opcode::LINK => Change::Link {
            node: abi::LinkIn::read(reader)?.node,
            name: name(reader)?,
        },
        opcode::CREATE => {
            let abi::CreateIn { flags, mode, .. } = Field::read(reader)?;
            Change::Create {
                flags,
                mode,
                name: name(reader)?,
            }
        }
        opcode::WRITE => {
            let write = abi::WriteIn::read(reader)?;
            Change::Write {
                handle: write.handle,
                offset: write.offset,
                append: write.write_flags & abi::WRITE_CACHE == 0 && write.flags.cast_signed() & libc::O_APPEND != 0,
                data: reader.take(write.size as usize)?.to_vec(),
            }
        }
        opcode::FSYNC | opcode::FSYNCDIR => {
            let abi::FsyncIn { handle, flags, .. } = Field::read(reader)?;
            Change::Sync {
                handle: (code == opcode::FSYNC).then_some(handle),
                data: flags & abi::FSYNC_DATA != 0,
            }
        }
        opcode::FALLOCATE => Change::Allocate(Field::read(reader)?),
        opcode::SETXATTR => {
            let abi::SetXattrIn { size, flags } = Field::read(reader)?;
            Change::SetXattr {
                name: name(reader)?,
                value: reader.take(size as usize)?.into(),
                flags,
            }
        }
        opcode::REMOVEXATTR => Change::RemoveXattr { name: name(reader)? },
        _ => return Some(Operation::Unknown),
    }))
}

fn name(reader: &mut Reader<'_>) -> Option<Box<[u8]>> {
    reader.name().map(Box::from)
}

fn attributes(asked: &abi::SetAttrIn) -> Change {
    let has = |bit| asked.valid & bit != 0;
    let time = |bit, now, seconds: u64, nanoseconds| {
        let time = Time {
            seconds: seconds.cast_signed(),
            nanoseconds,
        };
        match (has(bit), has(now)) {
            (_, true) => Some(SetTime::Now),
            (true, false) => Some(SetTime::To(time)),
            (false, false) => None,
        }
    };
    Change::Set {
        handle: has(set::HANDLE).then_some(asked.handle),
        attributes: SetAttributes {
            mode: has(set::MODE).then_some(asked.mode & 0o7777),
            uid: has(set::UID).then_some(asked.uid),
            gid: has(set::GID).then_some(asked.gid),
            size: has(set::SIZE).then_some(asked.size),
            accessed: time(
                set::ACCESSED,
                set::ACCESSED_NOW,
                asked.accessed,
                asked.accessed_nanoseconds,
            ),
            modified: time(
                set::MODIFIED,
                set::MODIFIED_NOW,
                asked.modified,
                asked.modified_nanoseconds,
            ),
        },
    }
}

/// Does it at `node`: the object, or the directory of the name.
pub(crate) async fn run(connection: &Connection, node: u64, change: Change) -> Result<Answer, Errno> {
    let tree = &connection.tree;
    let node = tree.node(node)?;
    let file = |handle: Option<u64>| handle.map(|handle| connection.handles.file(handle)).transpose();
    Ok(match change {
        Change::Set { handle, attributes } => {
            let file = file(handle)?;
            let (attributes, valid) = tree.set(&node, file.as_deref(), attributes).await?;
            Answer::Plain(Reply::of(&reply::attributes(&tree.shown(&attributes), valid)))
        }
        Change::Symlink { name, target } => Answer::Entry(tree.make_link((&node, &name), &target).await?),
        Change::MakeNode { mode, device, name } => Answer::Entry(tree.make_node((&node, &name), mode, device).await?),
        Change::MakeDirectory { mode, name } => Answer::Entry(tree.make_directory((&node, &name), mode).await?),
        Change::Remove { name, directory } => {
            tree.remove((&node, &name), directory).await?;
            Answer::Plain(Reply::EMPTY)
        }
        Change::Rename {
            name,
            directory,
            new_name,
            flags,
        } => {
            let directory = tree.node(directory)?;
            tree.rename((&node, &name), (&directory, &new_name), flags).await?;
            Answer::Plain(Reply::EMPTY)
        }
        Change::Link { node: linked, name } => Answer::Entry(tree.link_to(&tree.node(linked)?, (&node, &name)).await?),
        Change::Create { flags, mode, name } => {
            let (found, file) = tree.create((&node, &name), mode, flags).await?;
            Answer::Created(found, file)
        }
        Change::Write {
            handle,
            offset,
            append,
            data,
        } => {
            let file = connection.handles.file(handle)?;
            let size = tree.write(&file, offset, append, data).await?;
            Answer::Plain(Reply::of(&abi::WriteOut { size, padding: 0 }))
        }
        Change::Sync { handle, data } => {
            let file = match handle {
                Some(handle) => connection.handles.opened(handle)?,
                None => None,
            };
            tree.sync(&node, file.as_deref(), data).await?;
            Answer::Plain(Reply::EMPTY)
        }
        Change::Allocate(asked) => {
            let file = connection.handles.file(asked.handle)?;
            tree.allocate(&file, asked.mode, asked.offset, asked.length).await?;
            Answer::Plain(Reply::EMPTY)
        }
        Change::SetXattr { name, value, flags } => {
            tree.set_xattr(&node, &name, &value, flags).await?;
            connection.outdated(node.id);
            Answer::Plain(Reply::EMPTY)
        }
        Change::RemoveXattr { name } => {
            tree.remove_xattr(&node, &name).await?;
            connection.outdated(node.id);
            Answer::Plain(Reply::EMPTY)
        }
    })
}
