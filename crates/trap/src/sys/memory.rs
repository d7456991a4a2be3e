//! Another process' memory (`process_vm_readv(2)`, `process_vm_writev(2)`).

use rustix::io::Errno;

/// Copies out of the guest; how many bytes came, fewer at an unmapped page.
pub(crate) fn read(tid: u32, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
    let local = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let remote = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: into.len(),
    };
    // SAFETY: the kernel writes at most `into.len()` bytes into the borrowed slice; the remote address is only a number.
    let read = unsafe { libc::process_vm_readv(tid as i32, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).map_err(|_| super::process::last_errno())
}

/// Copies into the guest; how many bytes went, fewer at an unmapped page.
pub(crate) fn write(tid: u32, address: u64, from: &[u8]) -> Result<usize, Errno> {
    let local = libc::iovec {
        iov_base: from.as_ptr().cast_mut().cast(),
        iov_len: from.len(),
    };
    let remote = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: from.len(),
    };
    // SAFETY: the kernel only reads the borrowed slice; the remote address is only a number.
    let written = unsafe { libc::process_vm_writev(tid as i32, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(written).map_err(|_| super::process::last_errno())
}
