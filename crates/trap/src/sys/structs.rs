//! Kernel structures as the bytes a guest expects.

use std::ffi::CStr;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// Makes a call again that ends with EINTR: a mounted view's do so when this process is stopped and goes on, of which the app
/// must not learn.
fn whole(mut call: impl FnMut() -> libc::c_long) -> Result<libc::c_long, Errno> {
    loop {
        match call() {
            ..0 => match super::process::last_errno() {
                Errno::INTR => {}
                errno => return Err(errno),
            },
            result => return Ok(result),
        }
    }
}

fn filled<T>(mut call: impl FnMut(*mut T) -> libc::c_long) -> Result<Vec<u8>, Errno> {
    let mut value = MaybeUninit::<T>::zeroed();
    whole(|| call(value.as_mut_ptr()))?;
    // SAFETY: the memory was zeroed and then filled, so each of its bytes is initialised.
    Ok(unsafe { std::slice::from_raw_parts(value.as_ptr().cast::<u8>(), size_of::<T>()) }.to_vec())
}

/// `struct stat` of an open descriptor (O_PATH will do).
pub(crate) fn stat(descriptor: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    // SAFETY: the kernel fills the structure it is given.
    filled::<libc::stat>(|value| unsafe {
        libc::syscall(
            libc::SYS_newfstatat,
            descriptor.as_raw_fd(),
            c"".as_ptr(),
            value,
            libc::AT_EMPTY_PATH,
        )
    })
}

/// `struct statx` of an open descriptor (O_PATH will do).
pub(crate) fn statx(descriptor: BorrowedFd<'_>, flags: u32, mask: u32) -> Result<Vec<u8>, Errno> {
    // SAFETY: the kernel fills the structure it is given.
    filled::<libc::statx>(|value| unsafe {
        let flags = flags | libc::AT_EMPTY_PATH as u32;
        libc::syscall(
            libc::SYS_statx,
            descriptor.as_raw_fd(),
            c"".as_ptr(),
            flags,
            mask,
            value,
        )
    })
}

/// `struct statfs` of an open descriptor (O_PATH will do).
pub(crate) fn statfs(descriptor: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    // SAFETY: the kernel fills the structure it is given.
    filled::<libc::statfs>(|value| unsafe { libc::syscall(libc::SYS_fstatfs, descriptor.as_raw_fd(), value) })
}

/// `faccessat2(2)` of an open descriptor (O_PATH will do).
pub(crate) fn access(descriptor: BorrowedFd<'_>, mode: u32, flags: u32) -> Result<(), Errno> {
    let flags = flags | libc::AT_EMPTY_PATH as u32;
    // SAFETY: a descriptor, a static string and integers.
    let call = || unsafe { libc::syscall(libc::SYS_faccessat2, descriptor.as_raw_fd(), c"".as_ptr(), mode, flags) };
    whole(call).map(drop)
}

/// One extended attribute, or the list of names without `name`, of a path.
pub(crate) fn xattr(path: &CStr, name: Option<&CStr>, follow: bool, into: &mut [u8]) -> Result<usize, Errno> {
    let (buffer, size) = (into.as_mut_ptr(), into.len());
    // SAFETY: NUL-terminated strings; the kernel writes at most `size` bytes.
    let call = || unsafe {
        match name {
            Some(name) => {
                let call = if follow {
                    libc::SYS_getxattr
                } else {
                    libc::SYS_lgetxattr
                };
                libc::syscall(call, path.as_ptr(), name.as_ptr(), buffer, size)
            }
            None => {
                let call = if follow {
                    libc::SYS_listxattr
                } else {
                    libc::SYS_llistxattr
                };
                libc::syscall(call, path.as_ptr(), buffer, size)
            }
        }
    };
    whole(call).and_then(|length| usize::try_from(length).map_err(|_| Errno::IO))
}

/// `struct utsname` with another node name (at most 64 bytes of it).
pub(crate) fn utsname(node: &str) -> Result<Vec<u8>, Errno> {
    const FIELD: usize = 65;
    // SAFETY: the kernel fills the structure it is given.
    let mut bytes = filled::<libc::utsname>(|value| unsafe { libc::syscall(libc::SYS_uname, value) })?;
    let field = &mut bytes[FIELD..2 * FIELD];
    field.fill(0);
    let length = node.len().min(FIELD - 1);
    field[..length].copy_from_slice(&node.as_bytes()[..length]);
    Ok(bytes)
}
