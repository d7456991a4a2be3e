//! What a process that waits for a name is doing. The kernel asks for one component of a path after the other; the call
//! that it makes them of lies in the process' registers and memory, and says which will be asked for next.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Components behind the one that is asked for, and whether the file at the end is to be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) rest: Vec<Box<[u8]>>,
    pub(crate) reads: bool,
}

/// Calls on x86-64 that take a path, by number, and which argument it is.
const PATHS: &[(i64, usize)] = &[
    (libc::SYS_open, 0),
    (libc::SYS_stat, 0),
    (libc::SYS_lstat, 0),
    (libc::SYS_access, 0),
    (libc::SYS_execve, 0),
    (libc::SYS_chdir, 0),
    (libc::SYS_readlink, 0),
    (libc::SYS_statfs, 0),
    (libc::SYS_openat, 1),
    (libc::SYS_newfstatat, 1),
    (libc::SYS_readlinkat, 1),
    (libc::SYS_faccessat, 1),
    (libc::SYS_execveat, 1),
    (libc::SYS_statx, 1),
    (libc::SYS_openat2, 1),
    (libc::SYS_faccessat2, 1),
    (libc::SYS_inotify_add_watch, 1),
];
const READING: &[i64] = &[
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_execve,
    libc::SYS_execveat,
];
/// Between its request and its sleep a process is still called running.
const ATTEMPTS: usize = 16;
const PAGE: u64 = 4096;

/// Where the flags of such a call are, for those that may open a file without reading it (`O_PATH`).
const FLAGS: &[(i64, usize)] = &[(libc::SYS_open, 1), (libc::SYS_openat, 2)];

/// What thread `pid` is about to do with `name` in a directory that is called `parent`. A guess: nothing may depend on it
/// but what is fetched early. `None` where the process may not be looked into (Yama, another user's).
pub(crate) fn intent(pid: u32, parent: &[u8], name: &[u8]) -> Option<Intent> {
    let (number, arguments) = current(pid)?;
    let (_, argument) = PATHS.iter().find(|(known, _)| *known == number)?;
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let path = text(&memory, *arguments.get(*argument)?)?;
    Some(Intent {
        rest: rest(&path, parent, name)?,
        reads: READING.contains(&number),
    })
}

/// Whether thread `pid` is about to open a file to read it, or to execute it. Unknown is no.
pub(crate) fn opens(pid: u32) -> bool {
    current(pid).is_some_and(|(number, arguments)| {
        let flags = FLAGS.iter().find(|(known, _)| *known == number);
        let flags = flags.and_then(|(_, at)| arguments.get(*at)).copied().unwrap_or(0);
        READING.contains(&number) && flags & u64::from(libc::O_PATH.cast_unsigned()) == 0
    })
}

/// The call that a thread waits in, and its arguments.
fn current(pid: u32) -> Option<(i64, Vec<u64>)> {
    (0..ATTEMPTS).find_map(|_| {
        let call = call(&std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?);
        if call.is_none() {
            std::thread::yield_now();
        }
        call
    })
}

/// proc_pid_syscall(5): the number in decimal, the arguments in hexadecimal.
fn call(line: &str) -> Option<(i64, Vec<u64>)> {
    let mut words = line.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let arguments = words.map_while(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    Some((number, arguments.collect()))
}

/// A string up to its NUL; what lies behind the page's end may not be there.
fn text(memory: &File, address: u64) -> Option<Vec<u8>> {
    let (mut text, mut at) = (Vec::new(), address);
    while text.len() < wire::message::MAX_PATH {
        let mut piece = vec![0; usize::try_from(PAGE - at % PAGE).ok()?];
        let count = memory.read_at(&mut piece, at).ok().filter(|&count| count > 0)?;
        piece.truncate(count);
        if let Some(end) = piece.iter().position(|&byte| byte == 0) {
            text.extend_from_slice(piece.get(..end)?);
            return Some(text);
        }
        text.extend_from_slice(&piece);
        at += count as u64;
    }
    None
}

/// The components behind `name`: where the path has it several times, behind the one that is in `parent`.
fn rest(path: &[u8], parent: &[u8], name: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let components: Vec<&[u8]> = path
        .split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .collect();
    let mut places = (0..components.len()).filter(|&at| components[at] == name);
    let below = |at: &usize| at.checked_sub(1).is_some_and(|above| components[above] == parent);
    let at = places.clone().find(below).or_else(|| places.next())?;
    // Where `..` leads is known only after the links before it.
    let rest = components[at + 1..].iter().take_while(|name| **name != b"..");
    Some(rest.map(|&name| name.into()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, parent: &str, name: &str, expect: Option<&[&str]>) {
        let found = rest(path.as_bytes(), parent.as_bytes(), name.as_bytes());
        let expect = expect.map(|names| {
            names
                .iter()
                .map(|name| name.as_bytes().into())
                .collect::<Vec<Box<[u8]>>>()
        });
        assert_eq!(found, expect, "{path}, {name} in {parent}");
    }

    #[test]
    fn what_comes_behind_a_name() {
        check("/data/a//b/./c", "data", "a", Some(&["b", "c"]));
        check("a/b", "data", "a", Some(&["b"]));
        check("/a/b/a/c", "b", "a", Some(&["c"]));
        check("/a/b/../c", "", "a", Some(&["b"]));
        check("/data/a", "data", "a", Some(&[]));
        check("/data/link/x", "real", "y", None);
    }

    #[test]
    fn a_call_is_read_off_the_kernels_line() {
        let line = "257 0xffffff9c 0x7ffd0010 0x0 0x0 0x0 0x0 0x7ffd0000 0x7f00\n";
        assert_eq!(call(line).unwrap().1[..2], [0xffff_ff9c, 0x7ffd_0010]);
        assert_eq!(call("running\n"), None);
        assert_eq!(call("-1 0x7ffd0000 0x7f00\n").unwrap().0, -1);
    }
}
