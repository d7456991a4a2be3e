//! Paths that both interceptors treat alike.

/// Kernel interfaces and programs: always local by the rules, `/proc/self` means the caller, and no symlink there leads to
/// the pod.
pub const NEVER_FOLLOWED: &[&str] = &[
    "/proc", "/sys", "/dev", "/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt",
];

/// Whether an absolute path, as it was written, may lead on through a descriptor or a working directory (proc(5)): where
/// that is, no rule about `/proc` says.
#[must_use]
pub fn leads_on(path: &[u8]) -> bool {
    let Some(below) = path.strip_prefix(b"/proc/") else {
        return path.starts_with(b"/dev/fd/");
    };
    [&b"/cwd"[..], b"/root", b"/fd/"]
        .iter()
        .any(|link| below.windows(link.len()).any(|part| part == *link))
}

/// Puts a relative path behind the directory that lies in `room` from `start` to `end`, absolute and without symlinks, and a
/// NUL behind it; the new end. `.` and `..` are taken out at its beginning, where they mean what they say: behind a name,
/// which may be a link's, they stay. `None` where the room is too small.
pub fn join(room: &mut [u8], start: usize, end: usize, path: &[u8]) -> Option<usize> {
    let mut end = end;
    if room.get(start..end)? == b"/" {
        end = start;
    }
    let mut rest = path;
    loop {
        if let Some((b'/', after)) = rest.split_first() {
            rest = after;
        } else if rest == b"." || rest.starts_with(b"./") {
            rest = rest.get(1..)?;
        } else if rest == b".." || rest.starts_with(b"../") {
            rest = rest.get(2..)?;
            let last = room.get(start..end)?.iter().rposition(|byte| *byte == b'/');
            end = start + last.unwrap_or(0);
        } else {
            break;
        }
    }
    if !rest.is_empty() || end == start {
        *room.get_mut(end)? = b'/';
        end += 1;
    }
    room.get_mut(end..end + rest.len())?.copy_from_slice(rest);
    end += rest.len();
    *room.get_mut(end)? = 0;
    Some(end)
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::{join, leads_on};

    #[test]
    fn relative_paths_are_joined() {
        for (base, path, whole) in [
            ("/a/b", "c/d", "/a/b/c/d"),
            ("/a/b", "./c", "/a/b/c"),
            ("/a/b", ".", "/a/b"),
            ("/a/b", "..", "/a"),
            ("/a/b", "../../../x", "/x"),
            ("/a/b", "../..", "/"),
            ("/a/b", ".././/../c", "/c"),
            ("/a/b", "c/../d", "/a/b/c/../d"),
            ("/a/b", "..c/.d", "/a/b/..c/.d"),
            ("/", "x", "/x"),
            ("/", ".", "/"),
            ("", "x", "/x"),
            ("", "..", "/"),
        ] {
            let mut room = [7; 32];
            room[..5].copy_from_slice(b"/view");
            room[5..5 + base.len()].copy_from_slice(base.as_bytes());
            let end = join(&mut room, 5, 5 + base.len(), path.as_bytes()).unwrap();
            assert_eq!(std::str::from_utf8(&room[5..end]).unwrap(), whole, "{base} {path}");
            assert_eq!((&room[..5], room[end]), (&b"/view"[..], 0));
        }
        assert_eq!(join(&mut [b'/'; 4], 0, 1, b"abc"), None, "no room for the NUL");
        assert_eq!(join(&mut [b'/'; 4], 0, 1, b"ab"), Some(3));
    }

    #[test]
    fn links_of_proc_lead_on() {
        for path in [
            "/proc/self/cwd",
            "/proc/self/cwd/config",
            "/proc/17/root/data",
            "/proc/thread-self/fd/3/x",
            "/proc/1/task/2/fd/7",
            "/dev/fd/5",
        ] {
            assert!(leads_on(path.as_bytes()), "{path}");
        }
        for path in [
            "/proc/self/maps",
            "/proc/self/fd",
            "/proc/meminfo",
            "/dev/null",
            "/home/cwd",
            "proc/self/cwd",
        ] {
            assert!(!leads_on(path.as_bytes()), "{path}");
        }
    }
}
