//! The kernel's structures and numbers (include/uapi/linux/fuse.h), each once; all fields in native byte order.

/// Reads structures off a request; nothing is read past its end.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A name up to its NUL.
    pub(crate) fn name(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let name = self.take(end)?;
        self.take(1)?;
        Some(name)
    }
}

pub(crate) trait Field: Sized {
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! integer_fields {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn read(reader: &mut Reader<'_>) -> Option<Self> {
                Some(<$type>::from_ne_bytes(reader.take(size_of::<$type>())?.try_into().ok()?))
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_ne_bytes());
            }
        }
    )*};
}
integer_fields!(u16, u32, i32, u64);

macro_rules! structures {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default)]
        pub(crate) struct $name {
            $(pub(crate) $field: $type,)*
        }

        impl Field for $name {
            fn read(reader: &mut Reader<'_>) -> Option<Self> {
                Some(Self { $($field: Field::read(reader)?,)* })
            }

            fn write(&self, out: &mut Vec<u8>) {
                $(self.$field.write(out);)*
            }
        }
    )*};
}

structures! {
    /// `fuse_in_header`
    InHeader {
        length: u32,
        opcode: u32,
        unique: u64,
        node: u64,
        uid: u32,
        gid: u32,
        pid: u32,
        extensions: u16,
        padding: u16,
    }
    /// `fuse_out_header`
    OutHeader {
        length: u32,
        error: i32,
        unique: u64,
    }
    /// `fuse_init_in` up to the fields of protocol 7.6
    InitIn {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
    }
    /// `fuse_init_out`; `unused` is seven words
    InitOut {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
        max_background: u16,
        congestion_threshold: u16,
        max_write: u32,
        time_granularity: u32,
        max_pages: u16,
        map_alignment: u16,
        flags2: u32,
        unused0: u32,
        unused1: u64,
        unused2: u64,
        unused3: u64,
    }
    /// `fuse_attr`
    Attr {
        inode: u64,
        size: u64,
        blocks: u64,
        accessed: u64,
        modified: u64,
        changed: u64,
        accessed_nanoseconds: u32,
        modified_nanoseconds: u32,
        changed_nanoseconds: u32,
        mode: u32,
        links: u32,
        uid: u32,
        gid: u32,
        special_device: u32,
        block_size: u32,
        flags: u32,
    }
    /// `fuse_entry_out`
    EntryOut {
        node: u64,
        generation: u64,
        entry_seconds: u64,
        attr_seconds: u64,
        entry_nanoseconds: u32,
        attr_nanoseconds: u32,
        attr: Attr,
    }
    /// `fuse_attr_out`
    AttrOut {
        seconds: u64,
        nanoseconds: u32,
        dummy: u32,
        attr: Attr,
    }
    /// `fuse_open_in`
    OpenIn {
        flags: u32,
        open_flags: u32,
    }
    /// `fuse_open_out`
    OpenOut {
        handle: u64,
        flags: u32,
        padding: u32,
    }
    /// `fuse_read_in`, for READ, READDIR and READDIRPLUS
    ReadIn {
        handle: u64,
        offset: u64,
        size: u32,
        read_flags: u32,
        lock_owner: u64,
        flags: u32,
        padding: u32,
    }
    /// `fuse_setattr_in`; which fields count is said by `valid`
    SetAttrIn {
        valid: u32,
        padding: u32,
        handle: u64,
        size: u64,
        lock_owner: u64,
        accessed: u64,
        modified: u64,
        changed: u64,
        accessed_nanoseconds: u32,
        modified_nanoseconds: u32,
        changed_nanoseconds: u32,
        mode: u32,
        unused4: u32,
        uid: u32,
        gid: u32,
        unused5: u32,
    }
    /// `fuse_mknod_in`
    MknodIn {
        mode: u32,
        device: u32,
        umask: u32,
        padding: u32,
    }
    /// `fuse_mkdir_in`
    MkdirIn {
        mode: u32,
        umask: u32,
    }
    /// `fuse_rename_in`
    RenameIn {
        directory: u64,
    }
    /// `fuse_rename2_in`
    Rename2In {
        directory: u64,
        flags: u32,
        padding: u32,
    }
    /// `fuse_link_in`
    LinkIn {
        node: u64,
    }
    /// `fuse_create_in`
    CreateIn {
        flags: u32,
        mode: u32,
        umask: u32,
        open_flags: u32,
    }
    /// `fuse_write_in`; the data follows
    WriteIn {
        handle: u64,
        offset: u64,
        size: u32,
        write_flags: u32,
        lock_owner: u64,
        flags: u32,
        padding: u32,
    }
    /// `fuse_write_out`
    WriteOut {
        size: u32,
        padding: u32,
    }
    /// `fuse_fsync_in`
    FsyncIn {
        handle: u64,
        flags: u32,
        padding: u32,
    }
    /// `fuse_fallocate_in`
    FallocateIn {
        handle: u64,
        offset: u64,
        length: u64,
        mode: u32,
        padding: u32,
    }
    /// `fuse_setxattr_in` before `FUSE_SETXATTR_EXT`; the name and the value follow
    SetXattrIn {
        size: u32,
        flags: u32,
    }
    /// `fuse_getxattr_in`, for GETXATTR with a name behind it, and LISTXATTR
    GetXattrIn {
        size: u32,
        padding: u32,
    }
    /// `fuse_getxattr_out`
    GetXattrOut {
        size: u32,
        padding: u32,
    }
    /// `fuse_notify_inval_inode_out`
    InvalidInodeOut {
        node: u64,
        offset: u64,
        length: u64,
    }
    /// `fuse_release_in`
    ReleaseIn {
        handle: u64,
        flags: u32,
        release_flags: u32,
        lock_owner: u64,
    }
    /// `fuse_forget_one`
    ForgetOne {
        node: u64,
        lookups: u64,
    }
    /// `fuse_batch_forget_in`
    BatchForgetIn {
        count: u32,
        dummy: u32,
    }
    /// `fuse_access_in`
    AccessIn {
        mask: u32,
        padding: u32,
    }
    /// `fuse_dirent`, without the name
    Dirent {
        inode: u64,
        next: u64,
        name_length: u32,
        kind: u32,
    }
    /// `fuse_statfs_out`: a `fuse_kstatfs`
    StatfsOut {
        blocks: u64,
        free: u64,
        available: u64,
        files: u64,
        free_files: u64,
        block_size: u32,
        name_length: u32,
        fragment_size: u32,
        padding: u32,
        spare0: u64,
        spare1: u64,
        spare2: u64,
    }
}

/// Bytes of a `fuse_in_header`.
#[cfg(test)]
pub(crate) const IN_HEADER: usize = 40;
/// Bytes of a `fuse_out_header`.
pub(crate) const OUT_HEADER: usize = 16;
/// Bytes of a `fuse_dirent` without its name.
pub(crate) const DIRENT: usize = 24;
/// Bytes of a `fuse_entry_out`.
pub(crate) const ENTRY_OUT: usize = 128;

/// The protocol spoken: 7.x, from 7.31 (Linux 5.4) on.
pub(crate) const MAJOR: u32 = 7;
pub(crate) const MINOR_LEAST: u32 = 31;
pub(crate) const MINOR_MOST: u32 = 38;

/// Bits of the INIT reply.
pub(crate) mod init {
    pub(crate) const ASYNC_READ: u32 = 1 << 0;
    /// OPEN gets `O_TRUNC`, instead of a SETATTR behind it.
    pub(crate) const ATOMIC_O_TRUNC: u32 = 1 << 3;
    /// A WRITE may have more than one page.
    pub(crate) const BIG_WRITES: u32 = 1 << 5;
    /// Drop cached pages when mtime or size changed.
    pub(crate) const AUTO_INVAL_DATA: u32 = 1 << 12;
    pub(crate) const DO_READDIRPLUS: u32 = 1 << 13;
    pub(crate) const READDIRPLUS_AUTO: u32 = 1 << 14;
    pub(crate) const ASYNC_DIO: u32 = 1 << 15;
    pub(crate) const PARALLEL_DIROPS: u32 = 1 << 18;
    pub(crate) const MAX_PAGES: u32 = 1 << 22;
    pub(crate) const CACHE_SYMLINKS: u32 = 1 << 23;
}

/// Bits of the OPEN reply.
pub(crate) mod open {
    pub(crate) const DIRECT_IO: u32 = 1 << 0;
    pub(crate) const KEEP_CACHE: u32 = 1 << 1;
}

/// Bits of `SetAttrIn::valid` (`FATTR_*`).
pub(crate) mod set {
    pub(crate) const MODE: u32 = 1 << 0;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const ACCESSED: u32 = 1 << 4;
    pub(crate) const MODIFIED: u32 = 1 << 5;
    pub(crate) const HANDLE: u32 = 1 << 6;
    pub(crate) const ACCESSED_NOW: u32 = 1 << 7;
    pub(crate) const MODIFIED_NOW: u32 = 1 << 8;
}

/// Bit of `WriteIn::write_flags`: pages that were written through a mapping, at their own offset whatever `flags` says.
pub(crate) const WRITE_CACHE: u32 = 1 << 0;
/// Bit of `FsyncIn::flags`.
pub(crate) const FSYNC_DATA: u32 = 1 << 0;

/// Said unasked, in the place of an error (`enum fuse_notify_code`): what is known of a node is not believed any more.
pub(crate) const NOTIFY_INVALID_INODE: i32 = 2;
/// An offset of [`InvalidInodeOut`]: its attributes only, and not the pages.
pub(crate) const ATTRIBUTES_ONLY: u64 = u64::MAX;

/// Request numbers (`enum fuse_opcode`).
pub(crate) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const ACCESS: u32 = 34;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
}
