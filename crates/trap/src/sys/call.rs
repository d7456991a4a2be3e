//! A call made in place of a guest's.

use std::ffi::CStr;

use rustix::io::Errno;

/// One argument of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument<'a> {
    Number(u64),
    Text(&'a CStr),
    Bytes(&'a [u8]),
}

impl Argument<'_> {
    fn register(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Text(text) => text.as_ptr() as u64,
            Self::Bytes(bytes) => bytes.as_ptr() as u64,
        }
    }
}

/// Makes one of the table's changing calls (`PathAction::Write`). All that it points to is text or bytes here, of the length that
/// the table says; a pointer of the guest's among the numbers is null.
pub(crate) fn change(number: i64, arguments: [Argument<'_>; 6]) -> Result<i64, Errno> {
    let [a, b, c, d, e, f] = arguments.map(Argument::register);
    // SAFETY: these calls only read what they are given, and what they are given outlives them.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 {
        return Err(super::process::last_errno());
    }
    Ok(result)
}
