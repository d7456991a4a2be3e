//! Programs that the app starts. Under the filter trap decides about them; without one the supervisor is asked first
//! whether the layer can enter the program, and the layer goes along in its environment.

use core::ffi::{c_char, c_int, c_void};
use core::ptr::null;

use guest::forward::MAX_PATH;

use crate::directory;
use crate::forward::{self, Answer};
use crate::image::session;
use crate::next::next;
use crate::sys::{Arguments, Raw, raw, returned, text, uninterrupted};

type Strings = *const *const c_char;

/// Most entries of an environment that is rebuilt on the stack; a larger one is rebuilt in fresh memory.
const ON_STACK: usize = 192;
/// The longest variable that is looked into.
const MAX_VARIABLE: usize = 128 << 10;

unsafe extern "C" {
    static mut environ: Strings;
}

// All that is libc's, weak: a program that is dynamic but has no libc (Go, `-buildmode=pie`) would otherwise not start for
// want of it.
core::arch::global_asm!(
    ".weak environ",
    ".weak __errno_location, dlsym, putenv, pthread_setcanceltype",
    ".weak memcpy, memmove, memset, bcmp"
);

/// Without one nothing here is ever called, and nothing may be: trap serves the program.
fn has_libc() -> bool {
    let address: usize;
    // SAFETY: reads the layer's own table. In Rust's eyes no variable is at address 0.
    unsafe {
        core::arch::asm!(
            "mov {}, qword ptr [rip + environ@GOTPCREL]",
            out(reg) address,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    address != 0
}

/// Without a filter, also for what a skipped program starts.
fn is_alone() -> bool {
    session().is_some_and(|image| image.has(guest::image::ALONE))
}

/// Tells the supervisor that this process has the layer: run by the loader before the app's main.
#[cfg_attr(feature = "standalone", unsafe(link_section = ".init_array"))]
#[used]
static HELLO: unsafe extern "C" fn() = hello;

unsafe extern "C" fn hello() {
    if !cfg!(feature = "standalone") || !has_libc() || session().is_none() {
        return;
    }
    let arguments = [
        u64::MAX,
        libc::SOL_SOCKET as u64,
        libc::SO_ERROR as u64,
        guest::forward::HELLO,
        0,
        0,
    ];
    // SAFETY: the supervisor answers this one; if nobody does, the kernel says EBADF.
    let answer = uninterrupted(|| unsafe { forward::undecided(libc::SYS_getsockopt, arguments, None) });
    if answer == guest::forward::SKIPPED as Raw {
        crate::image::skip();
    }
}

/// `execve(2)`.
pub(crate) unsafe fn execve(path: *const c_char, arguments: Strings, environment: Strings) -> c_int {
    // SAFETY: the caller's.
    unsafe {
        directory::standing(libc::AT_FDCWD, path, |path| {
            let call = |environment: Strings| [path as u64, arguments as u64, environment as u64, 0, 0, 0];
            start(libc::SYS_execve, call(environment), environment, call)
        })
    }
}

/// `execveat(2)`.
pub(crate) unsafe fn execveat(
    directory: c_int,
    path: *const c_char,
    arguments: Strings,
    environment: Strings,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's.
    unsafe {
        directory::standing(directory, path, |path| {
            let call = |environment: Strings| {
                [
                    directory as u64,
                    path as u64,
                    arguments as u64,
                    environment as u64,
                    flags as u64,
                    0,
                ]
            };
            start(libc::SYS_execveat, call(environment), environment, call)
        })
    }
}

unsafe fn start(number: i64, asked: Arguments, environment: Strings, call: impl Fn(Strings) -> Arguments) -> c_int {
    // SAFETY: the callers'.
    let result = unsafe {
        if !is_alone() {
            raw(number, asked)
        } else {
            match forward::ask(number, asked, None) {
                Answer::Result(result) => result,
                Answer::Proceed => with_layer(environment, |environment| raw(number, call(environment))),
            }
        }
    };
    returned(result) as c_int
}

/// Runs `go` with an environment in which the layer is.
unsafe fn with_layer<T>(environment: Strings, go: impl FnOnce(Strings) -> T) -> T {
    const NAME: &[u8] = b"LD_PRELOAD=";
    // The block has it with its name and a NUL behind.
    let own = session().map_or(&[][..], |image| image.preload());
    if own.is_empty() {
        return go(environment);
    }
    // SAFETY: a NULL-terminated table of C strings, as execve wants it.
    unsafe {
        let (mut count, mut theirs) = (0, None);
        while !environment.is_null() && !(*environment.add(count)).is_null() {
            let entry = text(*environment.add(count), MAX_VARIABLE).unwrap_or(&[]);
            if entry.starts_with(NAME) {
                let layer = own.get(NAME.len()..).unwrap_or(&[]);
                if entry.windows(layer.len()).any(|part| part == layer) {
                    return go(environment);
                }
                theirs = Some((count, entry));
            }
            count += 1;
        }
        let mut small = [null::<c_char>(); ON_STACK];
        let mut joined = [0_u8; 1024];
        let fresh = if count + 2 > ON_STACK {
            Fresh::pages((count + 2) * 8)
        } else {
            None
        };
        let table: *mut *const c_char = match &fresh {
            Some(fresh) => fresh.start.cast(),
            None if count + 2 > ON_STACK => return go(environment),
            None => small.as_mut_ptr(),
        };
        for index in 0..count {
            *table.add(index) = *environment.add(index);
        }
        let variable = match theirs {
            None => own,
            Some((_, theirs)) => join(&mut joined, theirs, own.get(NAME.len()..).unwrap_or(&[])),
        };
        let at = theirs.map_or(count, |(at, _)| at);
        *table.add(at) = variable.as_ptr().cast();
        *table.add(count.max(at + 1)) = null();
        let result = go(table);
        if let Some(fresh) = fresh {
            fresh.give_back();
        }
        result
    }
}

/// `LD_PRELOAD=theirs:ours`, with its NUL; ours alone where both do not fit: the program must not run without.
fn join<'a>(room: &'a mut [u8; 1024], theirs: &[u8], ours: &[u8]) -> &'a [u8] {
    let parts: [&[u8]; 3] = if theirs.len() + ours.len() + 2 <= room.len() {
        [theirs, b":", ours]
    } else {
        [b"LD_PRELOAD=", b"", ours]
    };
    let mut length = 0;
    for part in parts {
        for byte in part {
            if let Some(place) = room.get_mut(length) {
                *place = *byte;
            }
            length += 1;
        }
    }
    &room[..]
}

/// Memory that is nobody else's.
struct Fresh {
    start: *mut u8,
    length: usize,
}

impl Fresh {
    fn pages(length: usize) -> Option<Self> {
        let protection = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        // SAFETY: new memory, wherever the kernel likes.
        let start = unsafe { raw(libc::SYS_mmap, [0, length as u64, protection, flags, u64::MAX, 0]) };
        (start > 0).then_some(Self {
            start: start as *mut u8,
            length,
        })
    }

    fn give_back(self) {
        // SAFETY: exactly what was mapped.
        unsafe { raw(libc::SYS_munmap, [self.start as u64, self.length as u64, 0, 0, 0, 0]) };
    }
}

/// `execv(3)`.
pub(crate) unsafe fn execv(path: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: the caller's; the environment is libc's.
    unsafe { execve(path, arguments, environ) }
}

/// `fexecve(3)`.
pub(crate) unsafe fn fexecve(descriptor: c_int, arguments: Strings, environment: Strings) -> c_int {
    // SAFETY: the caller's.
    unsafe { execveat(descriptor, c"".as_ptr(), arguments, environment, libc::AT_EMPTY_PATH) }
}

/// `execvp(3)`.
pub(crate) unsafe fn execvp(file: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: the caller's.
    unsafe { execvpe(file, arguments, environ) }
}

/// `execvpe(3)`: each directory of PATH in turn; what is missing is passed over, a denial is remembered, a file without a
/// header is the shell's.
pub(crate) unsafe fn execvpe(file: *const c_char, arguments: Strings, environment: Strings) -> c_int {
    let missing = || returned(-(libc::ENOENT as Raw)) as c_int;
    // SAFETY: the caller's strings.
    unsafe {
        let Some(name) = text(file, MAX_PATH).filter(|name| !name.is_empty()) else {
            return missing();
        };
        if name.contains(&b'/') {
            return try_one(file, arguments, environment);
        }
        let mut denied = false;
        let failed = search(name, |candidate| {
            try_one(candidate, arguments, environment);
            match crate::sys::errno() {
                libc::EACCES => denied = true,
                libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
                _ => return Some(-1),
            }
            None
        });
        match failed {
            Some(failed) => failed,
            None if denied => returned(-(libc::EACCES as Raw)) as c_int,
            None => missing(),
        }
    }
}

/// Offers the path of `name` in each directory of PATH, until one gives an answer; what is too long is passed over.
unsafe fn search<T>(name: &[u8], mut offer: impl FnMut(*const c_char) -> Option<T>) -> Option<T> {
    /// `_PATH_DEFPATH` as glibc has it.
    const DEFAULT: &[u8] = b"/bin:/usr/bin";
    let mut room = [0_u8; MAX_PATH];
    // SAFETY: libc's environment.
    let path = unsafe { search_path() }.unwrap_or(DEFAULT);
    path.split(|byte| *byte == b':').find_map(|directory| {
        let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        place(&mut room, &[directory, separator, name, b"\0"])?;
        offer(room.as_ptr().cast())
    })
}

fn place(room: &mut [u8; MAX_PATH], parts: &[&[u8]]) -> Option<()> {
    let mut at = 0;
    for part in parts {
        room.get_mut(at..at + part.len())?.copy_from_slice(part);
        at += part.len();
    }
    Some(())
}

/// PATH, from libc's environment, where `execvpe(3)` looks for it too.
unsafe fn search_path<'a>() -> Option<&'a [u8]> {
    // SAFETY: libc's table of C strings.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            if let Some(path) = text(*entry, MAX_VARIABLE).and_then(|entry| entry.strip_prefix(b"PATH=")) {
                return Some(path);
            }
            entry = entry.add(1);
        }
        None
    }
}

unsafe fn try_one(path: *const c_char, arguments: Strings, environment: Strings) -> c_int {
    // SAFETY: the caller's.
    unsafe {
        execve(path, arguments, environment);
        if crate::sys::errno() != libc::ENOEXEC {
            return -1;
        }
        let mut count = 0;
        while !arguments.is_null() && !(*arguments.add(count)).is_null() {
            count += 1;
        }
        // sh, the path, the arguments but the first, the end.
        let Some(fresh) = Fresh::pages((count + 3) * 8) else {
            return -1;
        };
        let table: *mut *const c_char = fresh.start.cast();
        *table = c"sh".as_ptr();
        *table.add(1) = path;
        for index in 1..count {
            *table.add(index + 1) = *arguments.add(index);
        }
        *table.add(count.max(1) + 1) = null();
        execve(c"/bin/sh".as_ptr(), table, environment);
        fresh.give_back();
        -1
    }
}

/// `posix_spawn(3)` and `posix_spawnp(3)`: libc's own, which execute without a hook, after the same question.
macro_rules! spawn {
    ($name:ident, $symbol:literal, $searches:literal) => {
        pub(crate) unsafe fn $name(
            pid: *mut libc::pid_t,
            path: *const c_char,
            actions: *const c_void,
            attributes: *const c_void,
            arguments: Strings,
            environment: Strings,
        ) -> c_int {
            // SAFETY: libc's function of that name has this type; the caller's arguments.
            let next = |environment: Strings| unsafe {
                next!(
                    $symbol,
                    (
                        pid => *mut libc::pid_t,
                        path => *const c_char,
                        actions => *const c_void,
                        attributes => *const c_void,
                        arguments => Strings,
                        environment => Strings,
                    ) -> c_int,
                    libc::ENOSYS
                )
            };
            if !is_alone() {
                return next(environment);
            }
            // SAFETY: the caller's strings.
            unsafe {
                if crate::actions::hide(actions, text(path, MAX_PATH).unwrap_or(&[])) {
                    return libc::ENOTSUP;
                }
                match may_start(path, $searches) {
                    Err(errno) => errno,
                    Ok(()) => with_layer(environment, next),
                }
            }
        }
    };
}
spawn!(posix_spawn, "posix_spawn", false);
spawn!(posix_spawnp, "posix_spawnp", true);

/// Asks about the program that will be found.
unsafe fn may_start(path: *const c_char, searches: bool) -> Result<(), c_int> {
    // SAFETY: the caller's string.
    unsafe {
        let name = text(path, MAX_PATH).unwrap_or(&[]);
        if !searches || name.contains(&b'/') {
            return permitted(path);
        }
        let found = search(name, |candidate| {
            let arguments = [libc::AT_FDCWD as u64, candidate as u64, libc::X_OK as u64, 0, 0, 0];
            (raw(libc::SYS_faccessat, arguments) == 0).then(|| permitted(candidate))
        });
        // libc says why it finds none.
        found.unwrap_or(Ok(()))
    }
}

unsafe fn permitted(path: *const c_char) -> Result<(), c_int> {
    let arguments = [path as u64, 0, 0, 0, 0, 0];
    // SAFETY: the supervisor reads the path only.
    match unsafe { forward::ask(libc::SYS_execve, arguments, None) } {
        Answer::Proceed => Ok(()),
        Answer::Result(errno) => Err(-errno as c_int),
    }
}

/// `system(3)` and `popen(3)`: libc's own, which start the shell with the environment that the process has.
pub(crate) unsafe fn before_shell() -> Result<(), c_int> {
    unsafe extern "C" {
        fn putenv(variable: *mut c_char) -> c_int;
    }
    if !is_alone() {
        return Ok(());
    }
    // SAFETY: the block's text, with its NUL, lives as long as the process; the table is libc's.
    unsafe {
        permitted(c"/bin/sh".as_ptr())?;
        with_layer(environ, |with| {
            if with != environ
                && let Some(image) = session()
            {
                putenv(image.preload().as_ptr().cast_mut().cast());
            }
        });
    }
    Ok(())
}

/// `system(3)`.
pub(crate) unsafe fn system(command: *const c_char) -> c_int {
    let failed = |errno| returned(-(errno as Raw)) as c_int;
    // SAFETY: libc's function of that name has this type.
    unsafe {
        if !command.is_null()
            && let Err(errno) = before_shell()
        {
            return failed(errno);
        }
        next!("system", (command => *const c_char) -> c_int, failed(libc::ENOSYS))
    }
}

/// `popen(3)`.
pub(crate) unsafe fn popen(command: *const c_char, kind: *const c_char) -> *mut c_void {
    let failed = |errno| {
        returned(-(errno as Raw));
        core::ptr::null_mut()
    };
    // SAFETY: libc's function of that name has this type.
    unsafe {
        match before_shell() {
            Err(errno) => failed(errno),
            Ok(()) => next!(
                "popen",
                (command => *const c_char, kind => *const c_char) -> *mut c_void,
                failed(libc::ENOSYS)
            ),
        }
    }
}

/// The variadic forms collect their arguments into a table and come here: see `hooks`.
pub(crate) unsafe extern "C" fn execl(path: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: the stub's table ends with NULL.
    unsafe { execv(path, arguments) }
}

pub(crate) unsafe extern "C" fn execlp(file: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: as above.
    unsafe { execvp(file, arguments) }
}

/// `execle(3)`: the environment stands behind the arguments' NULL.
pub(crate) unsafe extern "C" fn execle(path: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: as above.
    unsafe {
        let mut end = 0;
        while !(*arguments.add(end)).is_null() {
            end += 1;
        }
        execve(path, arguments, (*arguments.add(end + 1)).cast())
    }
}
