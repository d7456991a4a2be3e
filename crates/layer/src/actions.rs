//! File actions of posix_spawn: libc does them in the child by inner calls, which no hook sees.

use core::ffi::{c_char, c_int, c_void};

use guest::forward::{CONTENT, MAX_PATH, READ_ONLY};
use guest::image::{Known, PATHS};

use crate::image::{image, is_alone};
use crate::next::next;
use crate::sys::{errno, raw, text, uninterrupted};
use crate::{directory, paths, whole};

type Path = *const c_char;

/// `posix_spawn_file_actions_t` (spawn.h, glibc and musl): two numbers, a pointer, and 16 numbers that are zero and unused.
#[repr(C)]
struct Actions {
    counts: [c_int; 2],
    table: *mut c_void,
    unused: [c_int; 16],
}

/// In the last of these: some action changes the directory, so relative paths of later ones are not this process'.
const ELSEWHERE: c_int = 0x1d0d_c8d1;

unsafe fn is_elsewhere(actions: *mut c_void) -> bool {
    // SAFETY: the caller's structure, which was initialised.
    unsafe { (*actions.cast::<Actions>()).unused[15] == ELSEWHERE }
}

unsafe fn go_elsewhere(actions: *mut c_void) {
    // SAFETY: as above.
    unsafe { (*actions.cast::<Actions>()).unused[15] = ELSEWHERE };
}

/// Whether a program of this path would be looked for from a directory that an action enters, and nobody would see it.
pub(crate) unsafe fn hide(actions: *const c_void, name: &[u8]) -> bool {
    let decided = is_alone() && image().is_some_and(|image| image.has(PATHS));
    // SAFETY: the caller's structure.
    decided
        && !actions.is_null()
        && name.first() != Some(&b'/')
        && name.contains(&b'/')
        && unsafe { is_elsewhere(actions.cast_mut()) }
}

/// `posix_spawn_file_actions_addchdir_np(3)`: with the place of the directory on this machine, which is what the child enters.
pub(crate) unsafe fn addchdir(actions: *mut c_void, path: Path) -> c_int {
    // SAFETY: libc's function of that name has this type; the caller's arguments, or a path that lives through the call.
    let add = |path: Path| unsafe {
        next!(
            "posix_spawn_file_actions_addchdir_np",
            (actions => *mut c_void, path => Path) -> c_int,
            libc::ENOSYS
        )
    };
    // SAFETY: the caller's string and structure; the descriptor is this call's own.
    unsafe {
        let Some(image) = image().filter(|image| image.has(PATHS)) else {
            return add(path);
        };
        let name = text(path, MAX_PATH).unwrap_or(&[]);
        let relative = name.first() != Some(&b'/');
        let was_elsewhere = is_elsewhere(actions);
        go_elsewhere(actions);
        if relative && was_elsewhere {
            return if is_alone() { libc::ENOTSUP } else { add(path) };
        }
        if name.is_empty() || image.path(name) == Known::Local {
            return add(path);
        }
        let flags = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64;
        let open = [libc::AT_FDCWD as u64, path as u64, flags, 0, 0, 0];
        let opened = uninterrupted(|| paths::issue(libc::SYS_openat, open));
        if opened < 0 {
            // The child says what is wrong where somebody sees its call.
            return if is_alone() { -opened as c_int } else { add(path) };
        }
        let mut room = [0; MAX_PATH];
        let place = directory::place(opened as c_int, &mut room);
        raw(libc::SYS_close, [opened as u64, 0, 0, 0, 0, 0]);
        match place {
            Some(_) => add(room.as_ptr().cast()),
            None => libc::ENOTSUP,
        }
    }
}

/// `posix_spawn_file_actions_addfchdir_np(3)`.
pub(crate) unsafe fn addfchdir(actions: *mut c_void, descriptor: c_int) -> c_int {
    // SAFETY: libc's function of that name has this type; the caller's arguments.
    unsafe {
        go_elsewhere(actions);
        next!(
            "posix_spawn_file_actions_addfchdir_np",
            (actions => *mut c_void, descriptor => c_int) -> c_int,
            libc::ENOSYS
        )
    }
}

/// `posix_spawn_file_actions_addopen(3)`: without a filter with the copy's path, since nobody sees the child's call.
pub(crate) unsafe fn addopen(
    actions: *mut c_void,
    descriptor: c_int,
    path: Path,
    flags: c_int,
    mode: libc::mode_t,
) -> c_int {
    // SAFETY: as above; the caller's string.
    let add = |path: Path| unsafe {
        next!(
            "posix_spawn_file_actions_addopen",
            (
                actions => *mut c_void,
                descriptor => c_int,
                path => Path,
                flags => c_int,
                mode => libc::mode_t,
            ) -> c_int,
            libc::ENOSYS
        )
    };
    // SAFETY: the caller's string and structure.
    unsafe {
        let decided = is_alone() && image().is_some_and(|image| image.has(PATHS));
        if !decided {
            return add(path);
        }
        if text(path, MAX_PATH).is_none_or(|name| name.first() != Some(&b'/')) && is_elsewhere(actions) {
            return libc::ENOTSUP;
        }
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
        let wants = CONTENT | if writes { 0 } else { READ_ONLY };
        whole::with(path, wants, add).unwrap_or_else(|()| errno())
    }
}
