//! Who the app believes to be: the pod's host name.

use core::ffi::{c_char, c_int};

use crate::image::image;
use crate::sys::{marked, raw, returned};

/// `uname(2)`.
pub(crate) unsafe fn uname(name: *mut libc::utsname) -> c_int {
    let Some(image) = image() else {
        // SAFETY: the caller's pointer, checked by the kernel.
        return unsafe { returned(raw(libc::SYS_uname, [name as u64, 0, 0, 0, 0, 0])) as c_int };
    };
    // SAFETY: the kernel checks the pointer; where it wrote, the node name lies.
    unsafe {
        let result = marked(libc::SYS_uname, [name as u64, 0, 0, 0, 0, 0]);
        if result == 0 {
            let node = &mut (*name).nodename;
            for (index, byte) in node.iter_mut().enumerate() {
                *byte = image.hostname().get(index).map_or(0, |byte| *byte as c_char);
            }
        }
        returned(result) as c_int
    }
}

/// `gethostname(3)`: as much as there is room for, ENAMETOOLONG when that is not all.
pub(crate) unsafe fn gethostname(room: *mut c_char, length: usize) -> c_int {
    let mut name = core::mem::MaybeUninit::<libc::utsname>::uninit();
    // SAFETY: uname fills it; the caller's room has `length` bytes.
    unsafe {
        if uname(name.as_mut_ptr()) != 0 {
            return -1;
        }
        let node = &(*name.as_ptr()).nodename;
        let whole = node.iter().position(|byte| *byte == 0).unwrap_or(node.len() - 1) + 1;
        core::ptr::copy_nonoverlapping(node.as_ptr(), room, whole.min(length));
        if whole > length {
            return returned(-(libc::ENAMETOOLONG as isize)) as c_int;
        }
    }
    0
}
