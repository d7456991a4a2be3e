//! Kernel calls, issued here and not by libc: its functions are hooked, and only here the marker gets into its register.

use core::arch::asm;
use core::ffi::c_int;

use crate::image;

/// The kernel's result: a value, or an errno as a small negative number.
pub(crate) type Raw = isize;

/// Six arguments as they lie in the registers.
pub(crate) type Arguments = [u64; 6];

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
    fn pthread_setcanceltype(kind: c_int, before: *mut c_int) -> c_int;
}

/// Issues a call as it is.
///
/// # Safety
/// As the call of that number demands of its arguments.
#[inline(always)]
pub(crate) unsafe fn raw(number: i64, arguments: Arguments) -> Raw {
    let result;
    // SAFETY: the caller's; the kernel changes rax, rcx and r11 only (syscall(2)).
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// Issues a call of at most five arguments that was decided: the filter lets it pass.
///
/// # Safety
/// As [`raw`].
#[inline(always)]
pub(crate) unsafe fn marked(number: i64, arguments: Arguments) -> Raw {
    let [a, b, c, d, e, _] = arguments;
    // SAFETY: the caller's; the sixth register is not an argument of the call.
    unsafe { raw(number, [a, b, c, d, e, image::marker()]) }
}

/// A call that the kernel itself never interrupts: whoever answers it under the filter may be, so it is made again.
pub(crate) fn uninterrupted(mut call: impl FnMut() -> Raw) -> Raw {
    loop {
        let result = call();
        if result != -(libc::EINTR as isize) {
            return result;
        }
    }
}

/// A call that may wait, as libc makes it: a thread that is cancelled meanwhile ends (pthreads(7), cancellation points).
///
/// # Safety
/// As `call` demands.
pub(crate) unsafe fn cancellable(call: impl FnOnce() -> Raw) -> Raw {
    /// `PTHREAD_CANCEL_ASYNCHRONOUS`.
    const AT_ONCE: c_int = 1;
    let mut before = 0;
    // SAFETY: both take an integer and room for one. The result of an interrupted call may be lost with the thread, as with
    // libc before 2.41.
    unsafe {
        let changed = pthread_setcanceltype(AT_ONCE, &raw mut before) == 0;
        let result = call();
        if changed {
            pthread_setcanceltype(before, core::ptr::null_mut());
        }
        result
    }
}

/// What a libc function returns for the kernel's result: errno is set, and -1 returned, for an error.
pub(crate) fn returned(result: Raw) -> isize {
    if (-4095..0).contains(&result) {
        set_errno(-result as c_int);
        return -1;
    }
    result
}

pub(crate) fn errno() -> c_int {
    // SAFETY: libc's own function gives this thread's errno, always valid.
    unsafe { *__errno_location() }
}

pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: as above.
    unsafe { *__errno_location() = errno }
}

/// Ends the process by SIGABRT.
pub(crate) fn kill_self() -> ! {
    loop {
        // SAFETY: no pointers.
        unsafe {
            let thread = raw(libc::SYS_gettid, [0; 6]);
            let process = raw(libc::SYS_getpid, [0; 6]);
            raw(
                libc::SYS_tgkill,
                [process as u64, thread as u64, libc::SIGABRT as u64, 0, 0, 0],
            );
            raw(libc::SYS_exit_group, [134, 0, 0, 0, 0, 0]);
        }
    }
}

/// The bytes of a C string up to its NUL, at most `most`; `None` for a pointer into the first page or a longer string.
///
/// # Safety
/// A pointer beyond the first page is readable up to a NUL.
pub(crate) unsafe fn text<'a>(pointer: *const libc::c_char, most: usize) -> Option<&'a [u8]> {
    if is_null(pointer) {
        return None;
    }
    for length in 0..most {
        // SAFETY: the caller's, and the loop ends at the NUL.
        if unsafe { *pointer.add(length) } == 0 {
            // SAFETY: these bytes were just read.
            return Some(unsafe { core::slice::from_raw_parts(pointer.cast(), length) });
        }
    }
    None
}

/// Null, or as good as null: the kernel says EFAULT for it, and following it would crash the app.
pub(crate) fn is_null<T>(pointer: *const T) -> bool {
    (pointer as usize) < 4096
}
