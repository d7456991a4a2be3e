//! Path calls, where paths are decided at all (not with the mount-namespace view).
//!
//! A path that is plainly local is issued marked. One that is local unless one of this machine's symlinks leads elsewhere is
//! walked without symlinks, which the kernel checks (`RESOLVE_NO_SYMLINKS`); where it meets one, whoever knows all rules
//! decides.

use core::ffi::{c_char, c_int};

use guest::forward::MAX_PATH;
use guest::image::{Image, Known, PATHS};

use crate::image::{has, image};
use crate::sys::{Arguments, Raw, marked, raw, text};
use crate::{directory, forward, sys};

const AT_FDCWD: u64 = libc::AT_FDCWD as u64;
const EMPTY_PATH: u64 = libc::AT_EMPTY_PATH as u64;
const NOFOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;

/// Where a call has its path or paths, and whether it can be done without following symlinks.
#[derive(Debug, Clone, Copy)]
struct Shape {
    number: i64,
    /// Position of the path.
    path: usize,
    /// Position of a second path.
    second: Option<usize>,
    /// Position of the flags in which AT_EMPTY_PATH says that the descriptor is meant.
    flags: Option<usize>,
    walk: Walk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// `openat`: by openat2.
    Open,
    /// By a descriptor of the file and the same call on it. `follow` unless the flags say otherwise.
    Handle { follow: bool },
    /// Not without asking.
    Ask,
}

const fn shape(number: i64, path: usize, flags: Option<usize>, walk: Walk) -> Shape {
    Shape {
        number,
        path,
        second: None,
        flags,
        walk,
    }
}

const fn two(number: i64, path: usize, second: usize) -> Shape {
    Shape {
        number,
        path,
        second: Some(second),
        flags: None,
        walk: Walk::Ask,
    }
}

/// The calls that hooks and `syscall()` make; the older forms are expressed by these.
const SHAPES: &[Shape] = &[
    shape(libc::SYS_openat, 1, None, Walk::Open),
    shape(libc::SYS_newfstatat, 1, Some(3), Walk::Handle { follow: true }),
    shape(libc::SYS_statx, 1, Some(2), Walk::Handle { follow: true }),
    shape(libc::SYS_faccessat, 1, None, Walk::Handle { follow: true }),
    shape(libc::SYS_faccessat2, 1, Some(3), Walk::Handle { follow: true }),
    shape(libc::SYS_readlinkat, 1, None, Walk::Handle { follow: false }),
    shape(libc::SYS_openat2, 1, None, Walk::Ask),
    shape(libc::SYS_statfs, 0, None, Walk::Ask),
    shape(libc::SYS_getxattr, 0, None, Walk::Ask),
    shape(libc::SYS_lgetxattr, 0, None, Walk::Ask),
    shape(libc::SYS_listxattr, 0, None, Walk::Ask),
    shape(libc::SYS_llistxattr, 0, None, Walk::Ask),
    shape(libc::SYS_chdir, 0, None, Walk::Ask),
    shape(libc::SYS_truncate, 0, None, Walk::Ask),
    shape(libc::SYS_mkdirat, 1, None, Walk::Ask),
    shape(libc::SYS_unlinkat, 1, None, Walk::Ask),
    shape(libc::SYS_rmdir, 0, None, Walk::Ask),
    shape(libc::SYS_symlinkat, 2, None, Walk::Ask),
    shape(libc::SYS_fchmodat, 1, None, Walk::Ask),
    shape(libc::SYS_fchownat, 1, Some(4), Walk::Ask),
    shape(libc::SYS_utimensat, 1, Some(3), Walk::Ask),
    shape(libc::SYS_mknodat, 1, None, Walk::Ask),
    shape(libc::SYS_setxattr, 0, None, Walk::Ask),
    shape(libc::SYS_lsetxattr, 0, None, Walk::Ask),
    shape(libc::SYS_removexattr, 0, None, Walk::Ask),
    shape(libc::SYS_lremovexattr, 0, None, Walk::Ask),
    two(libc::SYS_renameat2, 1, 3),
    two(libc::SYS_linkat, 1, 3),
];

/// Whether `syscall()` must bring this number here.
pub(crate) fn is_path_call(number: i64) -> bool {
    has(PATHS) && SHAPES.iter().any(|shape| shape.number == number)
}

/// Issues a path call, decided as far as it can be here.
///
/// # Safety
/// As the call demands of its arguments.
pub(crate) unsafe fn issue(number: i64, arguments: Arguments) -> Raw {
    let known = image().filter(|image| image.has(PATHS));
    let shape = SHAPES.iter().find(|shape| shape.number == number);
    let (Some(image), Some(shape)) = (known, shape) else {
        // SAFETY: the caller's.
        return unsafe { raw(number, arguments) };
    };
    // SAFETY: the caller's: the arguments are paths.
    let of = |position: usize| unsafe { text(arguments[position] as *const c_char, MAX_PATH) };
    let first = of(shape.path);
    let means_descriptor =
        shape.flags.is_some_and(|at| arguments[at] & EMPTY_PATH != 0) && first.is_none_or(<[u8]>::is_empty);
    // utimensat(fd, NULL, ...) is futimens.
    if means_descriptor || (number == libc::SYS_utimensat && arguments[1] == 0) {
        // SAFETY: the caller's.
        return unsafe { marked(number, arguments) };
    }
    let second = shape.second.map(of);
    // SAFETY: the caller's, in each arm.
    unsafe {
        match (first, second) {
            (Some([b'/', ..]), None) => act(shape, arguments, decide(&image, first), first),
            (Some([b'/', ..]), Some(Some([b'/', ..]))) => {
                let known = both(decide(&image, first), decide(&image, second.flatten()));
                act(shape, arguments, known, first)
            }
            _ => relative(&image, shape, arguments),
        }
    }
}

/// Does a call as it was decided. `first` is its path, where that was written whole.
unsafe fn act(shape: &Shape, arguments: Arguments, decided: Known, first: Option<&[u8]>) -> Raw {
    // SAFETY: the caller's, in each arm.
    unsafe {
        match (decided, shape.walk) {
            _ if shape.number == libc::SYS_chdir => directory::change(arguments),
            // A link of /proc may lead into the view.
            (Known::Local, _)
                if shape.number == libc::SYS_readlinkat && first.is_some_and(|path| path.starts_with(b"/proc")) =>
            {
                undecided(shape.number, arguments)
            }
            (Known::Local, _) => marked(shape.number, arguments),
            (Known::LocalUnlessLinked, Walk::Open) => open_unlinked(arguments),
            (Known::LocalUnlessLinked, Walk::Handle { follow }) => by_handle(shape, arguments, follow),
            (Known::LocalUnlessLinked | Known::Ask, _) => undecided(shape.number, arguments),
        }
    }
}

/// A call with a path that is not absolute: decided by the whole path that the app means. From inside of the view it is then
/// issued with that path, since the kernel would look below the view.
#[inline(never)]
unsafe fn relative(image: &Image<'_>, shape: &Shape, asked: Arguments) -> Raw {
    let mut room = [0; MAX_PATH];
    let moves = directory::moves();
    // SAFETY: the caller's: the arguments are paths; the rooms outlive the calls.
    unsafe {
        if shape.number == libc::SYS_chdir {
            return directory::change(asked);
        }
        let first = directory::meet(image, asked, shape.path, &mut room);
        if let Some(second) = shape.second {
            let mut other = [0; MAX_PATH];
            let mut arguments = asked;
            if first.is_some_and(|meant| meant.from_view) {
                arguments[shape.path] = room.as_ptr() as u64;
            }
            if directory::meet(image, asked, second, &mut other).is_some_and(|meant| meant.from_view) {
                arguments[second] = other.as_ptr() as u64;
            }
            return undecided(shape.number, arguments);
        }
        let Some(meant) = first else {
            return undecided(shape.number, asked);
        };
        if meant.from_view {
            let mut arguments = asked;
            arguments[shape.path] = room.as_ptr() as u64;
            return act(shape, arguments, meant.known, None);
        }
        let creates = shape.number == libc::SYS_openat && asked[2] as i32 & libc::O_CREAT != 0;
        let (Walk::Open | Walk::Handle { .. }, false, Some(moves)) = (shape.walk, creates, moves) else {
            return undecided(shape.number, asked);
        };
        let result = act(shape, asked, meant.known, None);
        if moves.are_over() {
            return result;
        }
        // Another thread changed the working directory meanwhile, perhaps into the view: whoever sees both answers again.
        if shape.walk == Walk::Open && result >= 0 {
            raw(libc::SYS_close, [result as u64, 0, 0, 0, 0, 0]);
        }
        undecided(shape.number, asked)
    }
}

/// Somebody else answers. Of these calls the kernel itself interrupts only an open, of a FIFO.
pub(crate) unsafe fn undecided(number: i64, arguments: Arguments) -> Raw {
    // SAFETY: the caller's.
    unsafe {
        if matches!(number, libc::SYS_openat | libc::SYS_openat2) {
            return forward::undecided(number, arguments, None);
        }
        sys::uninterrupted(|| forward::undecided(number, arguments, None))
    }
}

fn decide(image: &Image<'_>, path: Option<&[u8]>) -> Known {
    path.map_or(Known::Ask, |path| image.path(path))
}

fn both(first: Known, second: Known) -> Known {
    if first == Known::Local && second == Known::Local {
        Known::Local
    } else {
        Known::Ask
    }
}

/// `struct open_how` (openat2(2)).
#[repr(C)]
struct How {
    flags: u64,
    mode: u64,
    resolve: u64,
}
const NO_SYMLINKS: u64 = 0x04;

unsafe fn walk(arguments: Arguments, how: &How) -> Raw {
    let how = core::ptr::from_ref(how) as u64;
    // SAFETY: the caller's path; the structure outlives the call.
    unsafe {
        marked(
            libc::SYS_openat2,
            [arguments[0], arguments[1], how, size_of::<How>() as u64, 0, 0],
        )
    }
}

/// Whether the walk's answer is the call's; otherwise somebody else must say (a symlink, an older kernel, a flag that only
/// openat2 minds).
fn is_final(result: Raw) -> bool {
    let asked = [
        libc::ELOOP,
        libc::ENOSYS,
        libc::EINVAL,
        libc::E2BIG,
        libc::EPERM,
        libc::EMFILE,
        libc::ENFILE,
    ];
    !asked.iter().any(|errno| result == -(*errno as isize))
}

unsafe fn open_unlinked(arguments: Arguments) -> Raw {
    let flags = u64::from(arguments[2] as u32);
    let creates = flags & (libc::O_CREAT | libc::O_TMPFILE) as u64 & !(libc::O_DIRECTORY as u64) != 0;
    let how = How {
        flags,
        mode: if creates { arguments[3] & 0o7777 } else { 0 },
        resolve: NO_SYMLINKS,
    };
    // SAFETY: the caller's.
    unsafe {
        let opened = walk(arguments, &how);
        if is_final(opened) {
            return opened;
        }
        undecided(libc::SYS_openat, arguments)
    }
}

/// Does the call on a descriptor of the file, found without symlinks.
unsafe fn by_handle(shape: &Shape, asked: Arguments, follow: bool) -> Raw {
    let mut arguments = asked;
    let flags = shape.flags.map_or(0, |at| arguments[at]);
    let last = if follow && flags & NOFOLLOW == 0 {
        0
    } else {
        libc::O_NOFOLLOW as u64
    };
    let how = How {
        flags: (libc::O_PATH | libc::O_CLOEXEC) as u64 | last,
        mode: 0,
        resolve: NO_SYMLINKS,
    };
    // SAFETY: the caller's; the descriptor is this call's own until it is closed.
    unsafe {
        let handle = walk(arguments, &how);
        if handle < 0 {
            return if is_final(handle) {
                handle
            } else {
                undecided(shape.number, arguments)
            };
        }
        if shape.number == libc::SYS_newfstatat {
            // The same of a descriptor, and no filter looks at it.
            let result = raw(libc::SYS_fstat, [handle as u64, arguments[2], 0, 0, 0, 0]);
            raw(libc::SYS_close, [handle as u64, 0, 0, 0, 0, 0]);
            return result;
        }
        arguments[0] = handle as u64;
        arguments[shape.path] = c"".as_ptr() as u64;
        if let Some(at) = shape.flags {
            arguments[at] |= EMPTY_PATH;
        }
        // Only the newer call can do it on a descriptor.
        let number = if shape.number == libc::SYS_faccessat {
            arguments[3] = EMPTY_PATH;
            libc::SYS_faccessat2
        } else {
            shape.number
        };
        let result = marked(number, arguments);
        raw(libc::SYS_close, [handle as u64, 0, 0, 0, 0, 0]);
        match (shape.number, result) {
            // On what is no symlink an empty path says ENOENT; the app's call says EINVAL.
            (libc::SYS_readlinkat, error) if error == -(libc::ENOENT as isize) => -(libc::EINVAL as isize),
            // A kernel without the newer call.
            (libc::SYS_faccessat, error) if error == -(libc::ENOSYS as isize) => undecided(shape.number, asked),
            _ => result,
        }
    }
}

/// Calls that change a path's meaning here are as libc's: for [`crate::hooks`].
pub(crate) unsafe fn at(number: i64, directory: c_int, path: *const c_char, rest: [u64; 4]) -> isize {
    let [c, d, e, f] = rest;
    // SAFETY: the hook's.
    sys::returned(unsafe { issue(number, [directory as u64, path as u64, c, d, e, f]) })
}

/// A path relative to the working directory, for calls that take a directory.
pub(crate) unsafe fn here(number: i64, path: *const c_char, rest: [u64; 4]) -> isize {
    // SAFETY: the hook's.
    unsafe { at(number, AT_FDCWD as c_int, path, rest) }
}

/// A call whose first argument is the path.
pub(crate) unsafe fn first(number: i64, path: *const c_char, rest: [u64; 5]) -> isize {
    let [b, c, d, e, f] = rest;
    // SAFETY: the hook's.
    sys::returned(unsafe { issue(number, [path as u64, b, c, d, e, f]) })
}
