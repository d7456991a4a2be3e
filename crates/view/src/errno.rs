//! What a failed file operation answers.

use std::fmt;

/// An errno of Linux x86-64, always positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    pub const PERM: Self = Self(libc::EPERM);
    pub const TOOBIG: Self = Self(libc::E2BIG);
    pub const NODATA: Self = Self(libc::ENODATA);
    pub const RANGE: Self = Self(libc::ERANGE);
    pub const NOENT: Self = Self(libc::ENOENT);
    pub const INTR: Self = Self(libc::EINTR);
    pub const IO: Self = Self(libc::EIO);
    pub const ACCES: Self = Self(libc::EACCES);
    pub const NOTDIR: Self = Self(libc::ENOTDIR);
    pub const INVAL: Self = Self(libc::EINVAL);
    pub const FBIG: Self = Self(libc::EFBIG);
    pub const NOSPC: Self = Self(libc::ENOSPC);
    pub const ROFS: Self = Self(libc::EROFS);
    pub const NAMETOOLONG: Self = Self(libc::ENAMETOOLONG);
    pub const NOSYS: Self = Self(libc::ENOSYS);
    pub const LOOP: Self = Self(libc::ELOOP);
    pub const STALE: Self = Self(libc::ESTALE);
    pub const BADF: Self = Self(libc::EBADF);
    pub const OPNOTSUPP: Self = Self(libc::EOPNOTSUPP);

    /// An errno that came over the link: what is none becomes `EIO`.
    #[must_use]
    pub fn from_pod(errno: i32) -> Self {
        // ERESTARTSYS (512) and above never leave a kernel.
        if (1..512).contains(&errno) {
            Self(errno)
        } else {
            Self::IO
        }
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(out)
    }
}
