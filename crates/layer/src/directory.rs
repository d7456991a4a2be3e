//! The working directory, and paths relative to it or to a directory descriptor.
//!
//! A directory of the pod is a directory of the view to the kernel, which keeps it for threads, children and programs that are
//! executed: nothing is kept here. Entering one is opening it, which whoever serves the pod's paths answers, and fchdir.

use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicU32, Ordering};

use guest::forward::MAX_PATH;
use guest::image::{Image, Known, PATHS};
use guest::paths::join;

use crate::image::image;
use crate::next::next;
use crate::paths;
use crate::sys::{Arguments, Raw, marked, raw, returned, text, uninterrupted};

const AT_FDCWD: u64 = libc::AT_FDCWD as u64;

/// Changes of the working directory that have begun, and that have ended.
static BEGUN: AtomicU32 = AtomicU32::new(0);
static ENDED: AtomicU32 = AtomicU32::new(0);

/// How many changes there were when nobody was changing it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moves(u32);

/// `None` while a thread changes it.
pub(crate) fn moves() -> Option<Moves> {
    let ended = ENDED.load(Ordering::SeqCst);
    (BEGUN.load(Ordering::SeqCst) == ended).then_some(Moves(ended))
}

impl Moves {
    /// Whether no change has begun since.
    pub(crate) fn are_over(self) -> bool {
        BEGUN.load(Ordering::SeqCst) == self.0
    }
}

/// `fchdir(2)`.
pub(crate) unsafe fn enter(directory: c_int) -> Raw {
    BEGUN.fetch_add(1, Ordering::SeqCst);
    // SAFETY: no pointers.
    let result = unsafe { raw(libc::SYS_fchdir, [directory as u64, 0, 0, 0, 0, 0]) };
    ENDED.fetch_add(1, Ordering::SeqCst);
    result
}

/// `chdir(2)`.
pub(crate) unsafe fn change(arguments: Arguments) -> Raw {
    let flags = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64;
    // SAFETY: the caller's path.
    unsafe {
        let open = [AT_FDCWD, arguments[0], flags, 0, 0, 0];
        let directory = uninterrupted(|| paths::issue(libc::SYS_openat, open));
        if [libc::EMFILE, libc::ENFILE]
            .map(|errno| -(errno as Raw))
            .contains(&directory)
        {
            return paths::undecided(libc::SYS_chdir, arguments);
        }
        if directory < 0 {
            return directory;
        }
        let result = enter(directory as c_int);
        raw(libc::SYS_close, [directory as u64, 0, 0, 0, 0, 0]);
        result
    }
}

/// A path that is not absolute, as the app means it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meant {
    pub(crate) known: Known,
    /// It starts from a directory of the pod, and must be issued whole.
    pub(crate) from_view: bool,
}

/// The whole path of the argument `position`, in `room` with a NUL; the argument before it is its directory, if it has one.
/// `None` where whoever knows all rules must decide.
///
/// # Safety
/// The argument is a path.
pub(crate) unsafe fn meet(
    image: &Image<'_>,
    arguments: Arguments,
    position: usize,
    room: &mut [u8; MAX_PATH],
) -> Option<Meant> {
    // SAFETY: the caller's.
    let path = unsafe { text(arguments[position] as *const c_char, MAX_PATH) }?;
    if matches!(path, [] | [b'/', ..]) {
        return None;
    }
    let directory = position.checked_sub(1).map_or(AT_FDCWD, |at| arguments[at]) as c_int;
    let length = place(directory, room)?;
    let said = image.in_view(room.get(..length)?).map(<[u8]>::len);
    let start = length - said.unwrap_or(length);
    let whole = join(room, start, length, path)?;
    let known = image.path(room.get(start..whole)?);
    if start > 0 {
        // To the front, where the caller looks for it.
        room.copy_within(start..=whole, 0);
    }
    (known != Known::Ask).then_some(Meant {
        known,
        from_view: said.is_some(),
    })
}

/// Where a directory lies, as the kernel says it: without symlinks.
pub(crate) fn place(directory: c_int, room: &mut [u8; MAX_PATH]) -> Option<usize> {
    let to = room.as_mut_ptr() as u64;
    let length = if directory == libc::AT_FDCWD {
        // SAFETY: the room has that size. The answer counts the NUL.
        unsafe { marked(libc::SYS_getcwd, [to, MAX_PATH as u64, 0, 0, 0, 0]) - 1 }
    } else {
        let link = descriptor(directory)?;
        let arguments = [AT_FDCWD, link.as_ptr() as u64, to, MAX_PATH as u64 - 1, 0, 0];
        // SAFETY: as above; the link is a C string.
        unsafe { marked(libc::SYS_readlinkat, arguments) }
    };
    // What lies nowhere in this root is "(unreachable)", what is no file has no slash.
    (length > 0 && room.first() == Some(&b'/')).then_some(length as usize)
}

/// `/proc/thread-self/fd/N`, with its NUL.
fn descriptor(number: c_int) -> Option<[u8; 32]> {
    const LINK: &[u8] = b"/proc/thread-self/fd/";
    let mut rest = u32::try_from(number).ok()?;
    let mut digits = [0; 10];
    let mut count = 0;
    while count == 0 || rest > 0 {
        *digits.get_mut(count)? = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
    }
    let mut link = [0; 32];
    link.get_mut(..LINK.len())?.copy_from_slice(LINK);
    for at in 0..count {
        *link.get_mut(LINK.len() + at)? = *digits.get(count - 1 - at)?;
    }
    Some(link)
}

/// Gives `go` the path that the kernel is to be called with: whole where a relative one starts from a directory of the pod
/// and means this machine's.
///
/// # Safety
/// `path` is a C string or null.
pub(crate) unsafe fn standing<T>(directory: c_int, path: *const c_char, go: impl FnOnce(*const c_char) -> T) -> T {
    let Some(image) = image().filter(|image| image.has(PATHS)) else {
        return go(path);
    };
    // SAFETY: the caller's.
    if unsafe { text(path, MAX_PATH) }.is_none_or(|path| matches!(path, [] | [b'/', ..])) {
        return go(path);
    }
    let mut room = [0; MAX_PATH];
    // SAFETY: the caller's.
    let meant = unsafe { meet(&image, [directory as u64, path as u64, 0, 0, 0, 0], 1, &mut room) };
    if meant.is_some_and(|meant| meant.from_view) {
        return go(room.as_ptr().cast());
    }
    go(path)
}

/// `getcwd(2)`: the pod calls its directory otherwise than the kernel.
pub(crate) unsafe fn call(to: *mut c_void, size: usize) -> Raw {
    let Some(image) = image().filter(|image| image.has(PATHS)) else {
        // SAFETY: the caller's room, checked by the kernel.
        return unsafe { raw(libc::SYS_getcwd, [to as u64, size as u64, 0, 0, 0, 0]) };
    };
    // SAFETY: the kernel checks the caller's room and says how much of it was written.
    unsafe {
        let length = marked(libc::SYS_getcwd, [to as u64, size as u64, 0, 0, 0, 0]);
        if length == -(libc::ERANGE as Raw) {
            return in_less_room(&image, to.cast(), size);
        }
        if length <= 0 {
            return length;
        }
        let place = core::slice::from_raw_parts_mut(to.cast::<u8>(), length as usize - 1);
        let Some(said) = image.in_view(place).map(<[u8]>::len) else {
            return length;
        };
        if said == 0 {
            *to.cast::<u8>() = b'/';
            *to.cast::<u8>().add(1) = 0;
            return 2;
        }
        place.copy_within(place.len() - said.., 0);
        *to.cast::<u8>().add(said) = 0;
        said as Raw + 1
    }
}

/// The pod's path is shorter than the place's.
#[cold]
unsafe fn in_less_room(image: &Image<'_>, to: *mut u8, size: usize) -> Raw {
    let mut room = [0; MAX_PATH];
    let Some(length) = place(libc::AT_FDCWD, &mut room) else {
        return -(libc::ERANGE as Raw);
    };
    let said = match image.in_view(room.get(..length).unwrap_or(&[])) {
        Some([]) => b"/",
        Some(said) => said,
        None => return -(libc::ERANGE as Raw),
    };
    if said.len() >= size {
        return -(libc::ERANGE as Raw);
    }
    // SAFETY: the caller's room has `size` bytes.
    unsafe {
        core::ptr::copy_nonoverlapping(said.as_ptr(), to, said.len());
        *to.add(said.len()) = 0;
    }
    said.len() as Raw + 1
}

/// `getcwd(3)`: room is made where there is none.
pub(crate) unsafe fn getcwd(to: *mut c_char, size: usize) -> *mut c_char {
    let null = core::ptr::null_mut();
    let libc = || {
        // SAFETY: libc's function of that name has this type; the caller's arguments.
        unsafe { next!("getcwd", (to => *mut c_char, size => usize) -> *mut c_char, null) }
    };
    if image().is_none_or(|image| !image.has(PATHS)) {
        return libc();
    }
    // SAFETY: the caller's room has `size` bytes; what is made has as many as are written.
    unsafe {
        if !to.is_null() {
            if size == 0 {
                return libc();
            }
            return match call(to.cast(), size) {
                // libc has its own way with what is too long for the kernel, and with what lies nowhere.
                long if long == -(libc::ENAMETOOLONG as Raw) => libc(),
                length if length > 0 && *to != b'/' as c_char => libc(),
                result if returned(result) < 0 => null,
                _ => to,
            };
        }
        let mut room = [0_u8; MAX_PATH];
        let length = call(room.as_mut_ptr().cast(), MAX_PATH);
        if length == -(libc::ENAMETOOLONG as Raw) || (length > 0 && room.first() != Some(&b'/')) {
            return libc();
        }
        if returned(length) < 0 {
            return null;
        }
        if size != 0 && size < length as usize {
            returned(-(libc::ERANGE as Raw));
            return null;
        }
        let made: *mut c_char =
            next!("malloc", (size.max(length as usize) => usize) -> *mut c_void, null.cast()).cast();
        if !made.is_null() {
            core::ptr::copy_nonoverlapping(room.as_ptr().cast(), made, length as usize);
        }
        made
    }
}

/// `getcwd(3)` of a program that knows how much room there is.
pub(crate) unsafe fn getcwd_checked(to: *mut c_char, size: usize, room: usize) -> *mut c_char {
    crate::sockets::checked(size, room);
    // SAFETY: the caller's.
    unsafe { getcwd(to, size) }
}

/// `get_current_dir_name(3)`: libc's believes `PWD` when its own look agrees, which sees the view.
pub(crate) unsafe fn get_current_dir_name() -> *mut c_char {
    if image().is_some_and(|image| image.has(PATHS)) {
        // SAFETY: makes its own room.
        return unsafe { getcwd(core::ptr::null_mut(), 0) };
    }
    let null = core::ptr::null_mut();
    // SAFETY: libc's function of that name has this type.
    unsafe { next!("get_current_dir_name", () -> *mut c_char, null) }
}

/// `getwd(3)`.
pub(crate) unsafe fn getwd(to: *mut c_char) -> *mut c_char {
    // SAFETY: the caller's room has `PATH_MAX` bytes.
    unsafe { getcwd(to, MAX_PATH) }
}
