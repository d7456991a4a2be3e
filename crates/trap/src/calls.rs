//! The table of trapped calls: the source of the filter, of the dispatch and of the documentation.

use libc::*;

/// One system call that stops for an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trapped {
    pub(crate) number: i64,
    pub(crate) name: &'static str,
    pub(crate) condition: Condition,
    pub(crate) scope: Scope,
    /// The call does not use its sixth argument, so a marked one passes.
    pub(crate) may_be_marked: bool,
    pub(crate) action: Action,
}

/// What the filter looks at before it stops a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Always,
    /// This argument is not null.
    NotNull(usize),
    /// The low halves of these arguments have these values.
    Equal(&'static [(usize, u32)]),
}

/// When a call is trapped at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Always,
    /// Only where paths must be translated: the mount-namespace view needs no help.
    Paths,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Connect,
    Bind,
    Listen,
    Accept,
    LocalName,
    PeerName,
    PendingError,
    SendTo,
    ReceiveFrom,
    SendMessage,
    SendMessages,
    ReceiveMessage,
    ReceiveMessages,
    HostName,
    Execute,
    ExecuteAt,
    WorkingDirectory,
    Path(PathCall),
}

/// Where a path call has its path, and what it does with it. Numbers are argument positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathCall {
    /// The directory descriptor, for the `*at` calls.
    pub(crate) directory: Option<usize>,
    pub(crate) path: usize,
    pub(crate) action: PathAction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathAction {
    Open {
        flags: usize,
    },
    OpenHow {
        how: usize,
        size: usize,
    },
    Create,
    Stat {
        buffer: usize,
        follow: bool,
    },
    StatAt {
        buffer: usize,
        flags: usize,
    },
    Statx {
        flags: usize,
        mask: usize,
        buffer: usize,
    },
    Access {
        mode: usize,
        flags: Option<usize>,
    },
    ReadLink {
        buffer: usize,
        size: usize,
    },
    StatFs {
        buffer: usize,
    },
    Xattr {
        name: Option<usize>,
        buffer: usize,
        size: usize,
        follow: bool,
    },
    ChangeDirectory,
    /// Changes what the path names. `second` is another path (directory, path), whose last component is never followed.
    Write {
        second: Option<(Option<usize>, usize)>,
        last: Last,
        more: More,
    },
}

impl PathAction {
    /// The other path of rename and link: its directory and the path itself.
    pub(crate) fn second(self) -> Option<(Option<usize>, usize)> {
        match self {
            Self::Write { second, .. } => second,
            _ => None,
        }
    }
}

/// What becomes of a link at the end of a path that is changed; the numbers are arguments with flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    Kept,
    Followed,
    /// `AT_SYMLINK_NOFOLLOW`.
    FollowedUnless(usize),
    /// `AT_SYMLINK_FOLLOW`.
    FollowedIf(usize),
}

/// What else a call points to, by argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum More {
    Nothing,
    /// A string.
    Text(usize),
    /// So many bytes, or null.
    Bytes(usize, usize),
    /// An extended attribute's name, its value and how long that is.
    Value {
        name: usize,
        value: usize,
        size: usize,
    },
}

const fn socket_call(number: i64, name: &'static str, action: Action) -> Trapped {
    Trapped {
        number,
        name,
        condition: Condition::Always,
        scope: Scope::Always,
        may_be_marked: true,
        action,
    }
}

const fn with_address(number: i64, name: &'static str, argument: usize, sixth: bool, action: Action) -> Trapped {
    let condition = Condition::NotNull(argument);
    Trapped {
        number,
        name,
        condition,
        scope: Scope::Always,
        may_be_marked: !sixth,
        action,
    }
}

const fn path(number: i64, name: &'static str, directory: Option<usize>, path: usize, action: PathAction) -> Trapped {
    Trapped {
        number,
        name,
        condition: Condition::Always,
        scope: Scope::Paths,
        may_be_marked: true,
        action: Action::Path(PathCall {
            directory,
            path,
            action,
        }),
    }
}

const fn write(
    number: i64,
    name: &'static str,
    directory: Option<usize>,
    at: usize,
    last: Last,
    more: More,
) -> Trapped {
    let second = None;
    path(number, name, directory, at, PathAction::Write { second, last, more })
}

const fn write_two(
    number: i64,
    name: &'static str,
    first: (Option<usize>, usize),
    second: (Option<usize>, usize),
    last: Last,
) -> Trapped {
    let (second, more) = (Some(second), More::Nothing);
    path(number, name, first.0, first.1, PathAction::Write { second, last, more })
}

/// Of `setxattr(2)`.
const VALUE: More = More::Value {
    name: 1,
    value: 2,
    size: 3,
};

/// `getsockopt(fd, SOL_SOCKET, SO_ERROR, ...)`.
const PENDING_ERROR: Condition = Condition::Equal(&[(1, SOL_SOCKET as u32), (2, SO_ERROR as u32)]);

/// Every trapped call.
pub(crate) static CALLS: &[Trapped] = &[
    socket_call(SYS_connect, "connect", Action::Connect),
    socket_call(SYS_bind, "bind", Action::Bind),
    socket_call(SYS_listen, "listen", Action::Listen),
    with_address(SYS_accept, "accept", 1, false, Action::Accept),
    with_address(SYS_accept4, "accept4", 1, false, Action::Accept),
    socket_call(SYS_getsockname, "getsockname", Action::LocalName),
    socket_call(SYS_getpeername, "getpeername", Action::PeerName),
    Trapped {
        number: SYS_getsockopt,
        name: "getsockopt",
        condition: PENDING_ERROR,
        scope: Scope::Always,
        may_be_marked: true,
        action: Action::PendingError,
    },
    with_address(SYS_sendto, "sendto", 4, true, Action::SendTo),
    with_address(SYS_recvfrom, "recvfrom", 4, true, Action::ReceiveFrom),
    socket_call(SYS_sendmsg, "sendmsg", Action::SendMessage),
    socket_call(SYS_sendmmsg, "sendmmsg", Action::SendMessages),
    socket_call(SYS_recvmsg, "recvmsg", Action::ReceiveMessage),
    socket_call(SYS_recvmmsg, "recvmmsg", Action::ReceiveMessages),
    socket_call(SYS_uname, "uname", Action::HostName),
    socket_call(SYS_execve, "execve", Action::Execute),
    socket_call(SYS_execveat, "execveat", Action::ExecuteAt),
    path(SYS_open, "open", None, 0, PathAction::Open { flags: 1 }),
    path(SYS_openat, "openat", Some(0), 1, PathAction::Open { flags: 2 }),
    path(
        SYS_openat2,
        "openat2",
        Some(0),
        1,
        PathAction::OpenHow { how: 2, size: 3 },
    ),
    path(SYS_creat, "creat", None, 0, PathAction::Create),
    path(
        SYS_stat,
        "stat",
        None,
        0,
        PathAction::Stat {
            buffer: 1,
            follow: true,
        },
    ),
    path(
        SYS_lstat,
        "lstat",
        None,
        0,
        PathAction::Stat {
            buffer: 1,
            follow: false,
        },
    ),
    path(
        SYS_newfstatat,
        "newfstatat",
        Some(0),
        1,
        PathAction::StatAt { buffer: 2, flags: 3 },
    ),
    path(
        SYS_statx,
        "statx",
        Some(0),
        1,
        PathAction::Statx {
            flags: 2,
            mask: 3,
            buffer: 4,
        },
    ),
    path(
        SYS_access,
        "access",
        None,
        0,
        PathAction::Access { mode: 1, flags: None },
    ),
    path(
        SYS_faccessat,
        "faccessat",
        Some(0),
        1,
        PathAction::Access { mode: 2, flags: None },
    ),
    path(
        SYS_faccessat2,
        "faccessat2",
        Some(0),
        1,
        PathAction::Access {
            mode: 2,
            flags: Some(3),
        },
    ),
    path(
        SYS_readlink,
        "readlink",
        None,
        0,
        PathAction::ReadLink { buffer: 1, size: 2 },
    ),
    path(
        SYS_readlinkat,
        "readlinkat",
        Some(0),
        1,
        PathAction::ReadLink { buffer: 2, size: 3 },
    ),
    path(SYS_statfs, "statfs", None, 0, PathAction::StatFs { buffer: 1 }),
    path(
        SYS_getxattr,
        "getxattr",
        None,
        0,
        PathAction::Xattr {
            name: Some(1),
            buffer: 2,
            size: 3,
            follow: true,
        },
    ),
    path(
        SYS_lgetxattr,
        "lgetxattr",
        None,
        0,
        PathAction::Xattr {
            name: Some(1),
            buffer: 2,
            size: 3,
            follow: false,
        },
    ),
    path(
        SYS_listxattr,
        "listxattr",
        None,
        0,
        PathAction::Xattr {
            name: None,
            buffer: 1,
            size: 2,
            follow: true,
        },
    ),
    path(
        SYS_llistxattr,
        "llistxattr",
        None,
        0,
        PathAction::Xattr {
            name: None,
            buffer: 1,
            size: 2,
            follow: false,
        },
    ),
    path(SYS_chdir, "chdir", None, 0, PathAction::ChangeDirectory),
    Trapped {
        scope: Scope::Paths,
        ..socket_call(SYS_getcwd, "getcwd", Action::WorkingDirectory)
    },
    write(SYS_truncate, "truncate", None, 0, Last::Followed, More::Nothing),
    write(SYS_mkdir, "mkdir", None, 0, Last::Kept, More::Nothing),
    write(SYS_mkdirat, "mkdirat", Some(0), 1, Last::Kept, More::Nothing),
    write(SYS_rmdir, "rmdir", None, 0, Last::Kept, More::Nothing),
    write(SYS_unlink, "unlink", None, 0, Last::Kept, More::Nothing),
    write(SYS_unlinkat, "unlinkat", Some(0), 1, Last::Kept, More::Nothing),
    write(SYS_symlink, "symlink", None, 1, Last::Kept, More::Text(0)),
    write(SYS_symlinkat, "symlinkat", Some(1), 2, Last::Kept, More::Text(0)),
    write(SYS_chmod, "chmod", None, 0, Last::Followed, More::Nothing),
    write(SYS_fchmodat, "fchmodat", Some(0), 1, Last::Followed, More::Nothing),
    write(452, "fchmodat2", Some(0), 1, Last::FollowedUnless(3), More::Nothing),
    write(SYS_chown, "chown", None, 0, Last::Followed, More::Nothing),
    write(SYS_lchown, "lchown", None, 0, Last::Kept, More::Nothing),
    write(
        SYS_fchownat,
        "fchownat",
        Some(0),
        1,
        Last::FollowedUnless(4),
        More::Nothing,
    ),
    write(SYS_utime, "utime", None, 0, Last::Followed, More::Bytes(1, 16)),
    write(SYS_utimes, "utimes", None, 0, Last::Followed, More::Bytes(1, 32)),
    write(
        SYS_futimesat,
        "futimesat",
        Some(0),
        1,
        Last::Followed,
        More::Bytes(2, 32),
    ),
    write(
        SYS_utimensat,
        "utimensat",
        Some(0),
        1,
        Last::FollowedUnless(3),
        More::Bytes(2, 32),
    ),
    write(SYS_mknod, "mknod", None, 0, Last::Kept, More::Nothing),
    write(SYS_mknodat, "mknodat", Some(0), 1, Last::Kept, More::Nothing),
    write(SYS_setxattr, "setxattr", None, 0, Last::Followed, VALUE),
    write(SYS_lsetxattr, "lsetxattr", None, 0, Last::Kept, VALUE),
    write(SYS_removexattr, "removexattr", None, 0, Last::Followed, More::Text(1)),
    write(SYS_lremovexattr, "lremovexattr", None, 0, Last::Kept, More::Text(1)),
    write_two(SYS_rename, "rename", (None, 0), (None, 1), Last::Kept),
    write_two(SYS_renameat, "renameat", (Some(0), 1), (Some(2), 3), Last::Kept),
    write_two(SYS_renameat2, "renameat2", (Some(0), 1), (Some(2), 3), Last::Kept),
    write_two(SYS_link, "link", (None, 0), (None, 1), Last::Kept),
    write_two(SYS_linkat, "linkat", (Some(0), 1), (Some(2), 3), Last::FollowedIf(4)),
];

/// The row of a call number.
pub(crate) fn of(number: i64) -> Option<&'static Trapped> {
    CALLS.iter().find(|call| call.number == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_listed_twice() {
        let mut numbers: Vec<i64> = CALLS.iter().map(|call| call.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), CALLS.len());
    }
}
