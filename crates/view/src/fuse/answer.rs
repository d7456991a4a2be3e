//! One request: what the tree says, and how the kernel is told.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use super::abi::{self, open};
use super::change::{self, Change};
use super::decode::Operation;
use super::reply::{self, DirectoryReply, Reply};
use super::serve::Connection;
use super::xattr;
use crate::Errno;
use crate::tree::{Directory, FRESH, Figures, File, Found, Node};

/// The outcome of a request, before the kernel is told: so far nothing has been handed out.
pub(crate) enum Answer {
    Failed(Errno),
    Plain(Reply),
    Entry(Found),
    Absent,
    File(File),
    /// A file that was made, and is open.
    Created(Found, File),
    Directory(Directory),
    /// A READDIRPLUS reply and the nodes in it.
    Entries(Reply, Vec<Arc<Node>>),
}

/// What the kernel holds once it has the reply.
#[derive(Default)]
pub(crate) struct Handed {
    nodes: Vec<Arc<Node>>,
    handle: Option<u64>,
}

impl Answer {
    pub(crate) fn hand_out(self, connection: &Connection) -> (Reply, Handed) {
        let tree = &connection.tree;
        match self {
            Self::Failed(errno) => (Reply::Failed(errno), Handed::default()),
            Self::Plain(reply) => (reply, Handed::default()),
            Self::Absent => (Reply::of(&reply::absent(FRESH)), Handed::default()),
            Self::Entry(found) => {
                let (entry, handed) = entry(connection, found);
                (Reply::of(&entry), handed)
            }
            Self::Created(found, file) => {
                let (entry, mut handed) = entry(connection, found);
                let handle = connection.handles.add_file(file);
                handed.handle = Some(handle);
                (Reply::both(&entry, &open_out(handle, 0)), handed)
            }
            Self::Entries(reply, nodes) => {
                nodes.iter().for_each(|node| tree.hand_out(node));
                (reply, Handed { nodes, handle: None })
            }
            Self::File(file) => {
                let mut flags = 0;
                if file.direct {
                    flags |= open::DIRECT_IO;
                } else if file.keep_cache {
                    flags |= open::KEEP_CACHE;
                }
                opened(connection.handles.add_file(file), flags)
            }
            Self::Directory(directory) => opened(connection.handles.add_directory(directory), 0),
        }
    }
}

impl Answer {
    /// Nobody wants it.
    pub(crate) fn discard(self, connection: &Connection) {
        match self {
            Self::Entry(found) | Self::Created(found, _) => connection.tree.unwanted(&found.node),
            Self::Entries(_, nodes) => nodes.iter().for_each(|node| connection.tree.unwanted(node)),
            Self::Failed(_) | Self::Plain(_) | Self::Absent | Self::File(_) | Self::Directory(_) => {}
        }
    }
}

/// The kernel is told of a node.
fn entry(connection: &Connection, found: Found) -> (abi::EntryOut, Handed) {
    let tree = &connection.tree;
    tree.hand_out(&found.node);
    let entry = reply::entry(found.node.id, &tree.shown(&found.attributes), tree.valid(&found));
    let handed = Handed {
        nodes: vec![found.node],
        handle: None,
    };
    (entry, handed)
}

fn open_out(handle: u64, flags: u32) -> abi::OpenOut {
    abi::OpenOut {
        handle,
        flags,
        padding: 0,
    }
}

fn opened(handle: u64, flags: u32) -> (Reply, Handed) {
    let reply = Reply::of(&open_out(handle, flags));
    let handed = Handed {
        nodes: Vec::new(),
        handle: Some(handle),
    };
    (reply, handed)
}

impl Handed {
    pub(crate) fn take_back(self, connection: &Connection) {
        for node in self.nodes {
            connection.tree.forget(node.id, 1);
        }
        if let Some(handle) = self.handle {
            connection.handles.remove(handle);
        }
    }
}

/// Works on one request. Dropping the future before it is done leaves nothing behind.
pub(crate) fn answer(
    connection: Arc<Connection>,
    node: u64,
    caller: u32,
    operation: Operation<'_>,
) -> impl Future<Output = Answer> + Send + 'static {
    let work = Work::of(operation, caller);
    async move {
        match run(&connection, node, work).await {
            Ok(answer) => answer,
            Err(errno) => Answer::Failed(errno),
        }
    }
}

/// An operation that no longer borrows the read buffer.
enum Work {
    /// With the thread that waits for it.
    Lookup(Box<[u8]>, u32),
    Attributes,
    ReadLink,
    Open(u32),
    Read(abi::ReadIn),
    OpenDirectory,
    ReadDirectory(abi::ReadIn, bool),
    StatFs,
    Access(u32),
    Xattr(xattr::Question),
    Change(Change),
    Unknown,
}

impl Work {
    fn of(operation: Operation<'_>, caller: u32) -> Self {
        match operation {
            Operation::Lookup { name } => Self::Lookup(Box::from(name), caller),
            Operation::Attributes => Self::Attributes,
            Operation::ReadLink => Self::ReadLink,
            Operation::Open { flags } => Self::Open(flags),
            Operation::Read(read) => Self::Read(read),
            Operation::OpenDirectory => Self::OpenDirectory,
            Operation::ReadDirectory { read, plus } => Self::ReadDirectory(read, plus),
            Operation::StatFs => Self::StatFs,
            Operation::Access { mask } => Self::Access(mask),
            Operation::Xattr(question) => Self::Xattr(question),
            Operation::Change(change) => Self::Change(change),
            _ => Self::Unknown,
        }
    }
}

async fn run(connection: &Connection, node: u64, work: Work) -> Result<Answer, Errno> {
    let tree = &connection.tree;
    Ok(match work {
        Work::Lookup(name, caller) => match tree.lookup(&tree.node(node)?, &name, caller).await {
            Ok(found) if tree.is_refused(&found, caller) => {
                tree.unwanted(&found.node);
                return Err(Errno::ACCES);
            }
            Ok(found) => Answer::Entry(found),
            Err(Errno::NOENT) => Answer::Absent,
            Err(errno) => return Err(errno),
        },
        Work::Attributes => {
            let (attributes, valid) = tree.attributes(&tree.node(node)?).await?;
            Answer::Plain(Reply::of(&reply::attributes(&tree.shown(&attributes), valid)))
        }
        Work::ReadLink => {
            let target = tree.link(&tree.node(node)?).await?;
            Answer::Plain(Reply::Data(vec![Bytes::from(target)]))
        }
        // For good, and for all files of the mount.
        Work::Open(_) if tree.opens_unasked() => return Err(Errno::NOSYS),
        Work::Open(flags) => Answer::File(tree.open(&tree.node(node)?, flags).await?),
        Work::Read(read) => {
            let size = read.size.min(1 << 20);
            let parts = match connection.handles.opened(read.handle)? {
                Some(file) => tree.read(&file, read.offset, size).await?,
                None => tree.read_unasked(&tree.node(node)?, read.offset, size).await?,
            };
            Answer::Plain(Reply::Data(parts))
        }
        Work::OpenDirectory => {
            let node = tree.node(node)?;
            if !node.is_directory() {
                return Err(Errno::NOTDIR);
            }
            Answer::Directory(Directory::new(node))
        }
        Work::ReadDirectory(read, plus) => read_directory(connection, &read, plus).await?,
        Work::StatFs => Answer::Plain(Reply::of(&statfs(&tree.figures().await?))),
        Work::Access(mask) => {
            let node = tree.node(node)?;
            let (attributes, _) = tree.attributes(&node).await?;
            tree.may(&node, &attributes, mask)?;
            Answer::Plain(Reply::EMPTY)
        }
        Work::Xattr(question) => Answer::Plain(xattr::answer(tree, &tree.node(node)?, &question).await?),
        Work::Change(change) => change::run(connection, node, change).await?,
        Work::Unknown => return Err(Errno::NOSYS),
    })
}

/// Offsets: 0 begins with `.`, 1 is behind it, 2 behind `..`, then the entries.
async fn read_directory(connection: &Connection, read: &abi::ReadIn, plus: bool) -> Result<Answer, Errno> {
    let tree = &connection.tree;
    let directory = connection.handles.directory(read.handle)?;
    let mut directory = directory.lock().await;
    if read.offset == 0 {
        directory.rewind();
    }
    let mut out = DirectoryReply::new(read.size);
    let mut offset = read.offset;
    let here = Arc::clone(&directory.node);
    for (at, name) in [b".".as_slice(), b".."].into_iter().enumerate() {
        if offset == at as u64 && out.fits(name.len(), plus) {
            let attributes = here.state().attributes;
            let inode = tree.inode(&attributes);
            offset += 1;
            // Nothing is looked up by these: an empty entry says so.
            let nothing = abi::EntryOut::default();
            out.push(name, inode, libc::S_IFDIR, offset, plus.then_some(&nothing));
        }
    }
    let mut nodes = Vec::new();
    if offset >= 2 {
        let index = usize::try_from(offset - 2).map_err(|_| Errno::INVAL)?;
        let (entries, fetched) = directory.from(tree, index).await?;
        let age = fetched.elapsed();
        for listed in entries {
            if !out.fits(listed.name.len(), plus) {
                break;
            }
            offset += 1;
            let mut mode = listed.attributes.mode;
            if plus {
                let found = tree.found_listed(&here, listed, age);
                let shown = tree.shown(&found.attributes);
                let entry = reply::entry(found.node.id, &shown, tree.valid(&found));
                mode = found.attributes.mode;
                out.push(&listed.name, shown.inode, mode, offset, Some(&entry));
                nodes.push(found.node);
            } else {
                out.push(&listed.name, tree.inode(&listed.attributes), mode, offset, None);
            }
        }
    }
    Ok(Answer::Entries(out.into_reply(), nodes))
}

fn statfs(figures: &Figures) -> abi::StatfsOut {
    abi::StatfsOut {
        blocks: figures.blocks,
        free: figures.free,
        available: figures.available,
        files: figures.files,
        free_files: figures.free_files,
        block_size: figures.block_size,
        name_length: figures.name_max,
        fragment_size: figures.block_size,
        ..abi::StatfsOut::default()
    }
}
