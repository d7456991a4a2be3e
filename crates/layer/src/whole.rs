//! Functions of libc that open paths by inner calls, which no hook sees. Under the filter trap answers those. Without one the
//! supervisor is asked which file of this machine stands for the path, and libc's own function gets that one.

use core::ffi::{c_char, c_int, c_long, c_void};
use core::mem::MaybeUninit;

use guest::forward::{CONTENT, MAX_PATH, READ_ONLY, TEMPLATE, TRANSLATE, WALK};
use guest::image::{ALONE, Known, PATHS};

use crate::forward::{self, Answer};
use crate::image::image;
use crate::next::next;
use crate::sys::{Raw, returned, text, uninterrupted};

type Path = *const c_char;
type Pointer = *mut c_void;

/// Where a translated path is put.
type Room = [MaybeUninit<c_char>; MAX_PATH];

const fn room() -> Room {
    [const { MaybeUninit::uninit() }; MAX_PATH]
}

/// The path that libc is to be called with; `Err` with errno set. `wants`: [`CONTENT`], and [`READ_ONLY`] unless the call
/// would change the file.
unsafe fn translated(path: Path, room: &mut Room, wants: u64) -> Result<Path, ()> {
    let Some(image) = image().filter(|image| image.has(ALONE) && image.has(PATHS)) else {
        return Ok(path);
    };
    // SAFETY: the caller's string.
    let known = unsafe { text(path, MAX_PATH) }.map_or(Known::Local, |path| image.path(path));
    if known == Known::Local {
        return Ok(path);
    }
    let arguments = [path as u64, room.as_mut_ptr() as u64, wants, 0, 0, 0];
    // SAFETY: the supervisor writes at most MAX_PATH bytes to the room.
    let answer = uninterrupted(|| match unsafe { forward::ask(TRANSLATE, arguments, None) } {
        Answer::Proceed => 0,
        Answer::Result(result) => result,
    });
    match answer {
        0 => Ok(path),
        error if error < 0 => {
            returned(error);
            Err(())
        }
        _ => Ok(room.as_ptr().cast()),
    }
}

/// Calls `go` with the path that libc is to be called with; `Err` with errno set.
///
/// # Safety
/// `path` is a C string or null.
pub(crate) unsafe fn with<T>(path: Path, wants: u64, go: impl FnOnce(Path) -> T) -> Result<T, ()> {
    let mut room = room();
    // SAFETY: the caller's; the room lives through the call.
    unsafe { translated(path, &mut room, wants) }.map(go)
}

/// A hook that translates its first argument and calls libc's function of the same name.
macro_rules! whole {
    ($($name:ident = $symbol:literal($wants:expr; $($argument:ident: $type:ty),*) -> $result:ty, $failed:expr;)*) => {
        $(pub(crate) unsafe fn $name(path: Path $(, $argument: $type)*) -> $result {
            let mut room = room();
            // SAFETY: the caller keeps the contract of libc's function of that name.
            unsafe {
                match translated(path, &mut room, $wants) {
                    Err(()) => $failed,
                    Ok(path) => next!($symbol, (path => Path $(, $argument => $type)*) -> $result, {
                        returned(-(libc::ENOSYS as Raw));
                        $failed
                    }),
                }
            }
        })*
    };
}

const READ: u64 = CONTENT | READ_ONLY;
/// `GLOB_ABORTED`.
const ABORTED: c_int = 2;
const NONE: Pointer = core::ptr::null_mut();

whole! {
    opendir = "opendir"(READ;) -> Pointer, NONE;
    fopen = "fopen"(by_mode(mode); mode: Path) -> Pointer, NONE;
    fopen64 = "fopen64"(by_mode(mode); mode: Path) -> Pointer, NONE;
    freopen = "freopen"(by_mode(mode); mode: Path, stream: Pointer) -> Pointer, NONE;
    freopen64 = "freopen64"(by_mode(mode); mode: Path, stream: Pointer) -> Pointer, NONE;
    scandir = "scandir"(READ; names: Pointer, filter: Pointer, compare: Pointer) -> c_int, -1;
    scandir64 = "scandir64"(READ; names: Pointer, filter: Pointer, compare: Pointer) -> c_int, -1;
    statvfs = "statvfs"(READ_ONLY; to: Pointer) -> c_int, -1;
    statvfs64 = "statvfs64"(READ_ONLY; to: Pointer) -> c_int, -1;
    pathconf = "pathconf"(READ_ONLY; name: c_int) -> c_long, -1;
    utime = "utime"(0; times: Pointer) -> c_int, -1;
    utimes = "utimes"(0; times: Pointer) -> c_int, -1;
    lutimes = "lutimes"(0; times: Pointer) -> c_int, -1;
    remove = "remove"(0;) -> c_int, -1;
    mkstemp = "mkstemp"(TEMPLATE;) -> c_int, -1;
    mkstemp64 = "mkstemp64"(TEMPLATE;) -> c_int, -1;
    mkostemp = "mkostemp"(TEMPLATE; flags: c_int) -> c_int, -1;
    mkostemp64 = "mkostemp64"(TEMPLATE; flags: c_int) -> c_int, -1;
    mkstemps = "mkstemps"(TEMPLATE; suffix: c_int) -> c_int, -1;
    mkstemps64 = "mkstemps64"(TEMPLATE; suffix: c_int) -> c_int, -1;
    mkostemps = "mkostemps"(TEMPLATE; suffix: c_int, flags: c_int) -> c_int, -1;
    mkostemps64 = "mkostemps64"(TEMPLATE; suffix: c_int, flags: c_int) -> c_int, -1;
    mkdtemp = "mkdtemp"(TEMPLATE;) -> Pointer, NONE;
    // These go on by themselves into what they find, so a directory of the pod is refused (ENOTSUP).
    ftw = "ftw"(WALK; visit: Pointer, depth: c_int) -> c_int, -1;
    ftw64 = "ftw64"(WALK; visit: Pointer, depth: c_int) -> c_int, -1;
    nftw = "nftw"(WALK; visit: Pointer, depth: c_int, flags: c_int) -> c_int, -1;
    nftw64 = "nftw64"(WALK; visit: Pointer, depth: c_int, flags: c_int) -> c_int, -1;
    glob = "glob"(WALK; flags: c_int, error: Pointer, found: Pointer) -> c_int, ABORTED;
    glob64 = "glob64"(WALK; flags: c_int, error: Pointer, found: Pointer) -> c_int, ABORTED;
}

/// What a stdio mode wants of the file.
unsafe fn by_mode(mode: Path) -> u64 {
    // SAFETY: the caller's string.
    let mode = unsafe { text(mode, 64) }.unwrap_or(&[]);
    if mode.iter().any(|byte| matches!(byte, b'w' | b'a' | b'+')) {
        CONTENT
    } else {
        READ
    }
}

/// `realpath(3)`: a path of the pod is its own real path as far as its last component, whose link is followed.
pub(crate) unsafe fn realpath(path: Path, resolved: *mut c_char) -> *mut c_char {
    let mut room = room();
    // SAFETY: the caller keeps the contract; the room holds the pod's path when it was written.
    unsafe {
        match translated(path, &mut room, READ_ONLY | guest::forward::AS_POD) {
            Err(()) => NONE.cast(),
            Ok(same) if same == path => {
                next!("realpath", (path => Path, resolved => *mut c_char) -> *mut c_char, NONE.cast())
            }
            Ok(real) => {
                let to = if resolved.is_null() {
                    next!("malloc", (MAX_PATH => usize) -> Pointer, NONE).cast()
                } else {
                    resolved
                };
                if !to.is_null() {
                    let length = text(real, MAX_PATH).map_or(0, <[u8]>::len);
                    core::ptr::copy_nonoverlapping(real, to, length);
                    *to.add(length) = 0;
                }
                to
            }
        }
    }
}

/// `fts_open(3)`, which goes on by inner calls into what it finds: a directory of the pod is refused (ENOTSUP), and so is one of
/// this machine that is only found from the pod's.
macro_rules! walk {
    ($name:ident, $symbol:literal) => {
        pub(crate) unsafe fn $name(roots: *const Path, options: c_int, compare: Pointer) -> Pointer {
            // SAFETY: a NULL-terminated table of C strings; libc's function of that name has this type.
            unsafe {
                let mut at = roots;
                while !at.is_null() && !(*at).is_null() {
                    match with(*at, WALK | READ_ONLY, |path| path == *at) {
                        Err(()) => return NONE,
                        Ok(false) => {
                            returned(-(libc::ENOTSUP as Raw));
                            return NONE;
                        }
                        Ok(true) => at = at.add(1),
                    }
                }
                next!(
                    $symbol,
                    (roots => *const Path, options => c_int, compare => Pointer) -> Pointer,
                    NONE
                )
            }
        }
    };
}
walk!(fts_open, "fts_open");
walk!(fts64_open, "fts64_open");

/// `canonicalize_file_name(3)`.
pub(crate) unsafe fn canonicalize_file_name(path: Path) -> *mut c_char {
    // SAFETY: the caller's string.
    unsafe { realpath(path, core::ptr::null_mut()) }
}
