//! Paths inside the target's root, resolved by the kernel: openat2(2) with RESOLVE_IN_ROOT, so that no `..`, no absolute
//! symlink and no rename at the wrong moment leads out of it. Magic links (/proc/1/root, /proc/1/fd/3) would: they are
//! refused with ELOOP.

use std::borrow::Cow;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use wire::message::MAX_PATH;

/// For reading, without any effect that a device or a FIFO would have on being opened.
pub(crate) const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// The object itself, a symlink included.
pub(crate) const ITSELF: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW);
/// The object that the path leads to.
pub(crate) const FOLLOWED: OFlags = OFlags::PATH;

/// The kernel gives up with EAGAIN when something was renamed meanwhile and it cannot be sure.
const ATTEMPTS: usize = 64;

/// `own_pid` is what `/proc/self` means in the target.
///
/// # Errors
/// The kernel's; ENOENT for an empty path, ENAMETOOLONG, EINVAL for a zero byte.
pub(crate) fn open(root: impl AsFd, own_pid: u32, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    match path {
        [] => return Err(Errno::NOENT.into()),
        long if long.len() > MAX_PATH => return Err(Errno::NAMETOOLONG.into()),
        zero if zero.contains(&0) => return Err(Errno::INVAL.into()),
        _ => {}
    }
    let path = own(path, own_pid);
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut attempts = 0;
    loop {
        match rustix::fs::openat2(root.as_fd(), &*path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if attempts < ATTEMPTS => attempts += 1,
            result => return Ok(result?),
        }
    }
}

/// The directory that a path's last name is in, and that name: for calls that change the directory. A name is never a link
/// that is followed, so nothing leads out of the root after this.
///
/// # Errors
/// Those of [`open`]; EINVAL for what has no name of its own (`/`, `..`).
pub(crate) fn parent(root: impl AsFd, own_pid: u32, path: &[u8]) -> io::Result<(OwnedFd, CString)> {
    let slash = path.iter().rposition(|&byte| byte == b'/').ok_or(Errno::INVAL)?;
    let (above, name) = (&path[..slash], &path[slash + 1..]);
    if matches!(name, b"" | b"." | b"..") {
        return Err(Errno::INVAL.into());
    }
    if name.len() > 255 {
        return Err(Errno::NAMETOOLONG.into());
    }
    let above = if above.is_empty() { b"/" } else { above };
    let directory = open(root, own_pid, above, FOLLOWED | OFlags::DIRECTORY)?;
    Ok((directory, CString::new(name).map_err(|_| Errno::INVAL)?))
}

/// In the worker that resolves it, `/proc/self` would be the agent.
fn own(path: &[u8], pid: u32) -> Cow<'_, [u8]> {
    for (name, meant) in [
        ("/proc/self", format!("/proc/{pid}")),
        ("/proc/thread-self", format!("/proc/{pid}/task/{pid}")),
    ] {
        if let Some(rest) = path.strip_prefix(name.as_bytes())
            && matches!(rest, [b'/', _, ..])
        {
            return Cow::Owned([meant.as_bytes(), rest].concat());
        }
    }
    Cow::Borrowed(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    /// A root with a way to every trap, and a secret beside it.
    fn check(path: &str, expect: Result<&str, i32>) {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        std::fs::create_dir_all(root.join("etc/deep")).unwrap();
        std::fs::write(place.path().join("secret"), "outside").unwrap();
        std::fs::write(root.join("secret"), "inside").unwrap();
        std::fs::write(root.join("etc/file"), "file").unwrap();
        symlink("/secret", root.join("absolute")).unwrap();
        symlink("../../../secret", root.join("etc/relative")).unwrap();
        symlink(place.path().join("secret"), root.join("host")).unwrap();
        symlink("/proc/self/root/", root.join("magic")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let fd = rustix::fs::open(&root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let got = open(fd, 1, path.as_bytes(), READ)
            .map_err(|error| error.raw_os_error().unwrap())
            .map(|file| {
                let mut text = String::new();
                std::fs::File::from(file).read_to_string(&mut text).unwrap();
                text
            });
        assert_eq!(got.as_deref().map_err(|errno| *errno), expect, "{path}");
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        check("/etc/file", Ok("file"));
        check("etc/file", Ok("file"));
        check("/../../../../secret", Ok("inside"));
        check("/etc/../../secret", Ok("inside"));
        check("/absolute", Ok("inside"));
        check("/etc/relative", Ok("inside"));
        check("/host", Err(libc::ENOENT));
        check("/magic/secret", Err(libc::ENOENT));
        check("/loop", Err(libc::ELOOP));
        check("", Err(libc::ENOENT));
        check("/etc/file/x", Err(libc::ENOTDIR));
        check(&"x".repeat(5000), Err(libc::ENAMETOOLONG));
        check("/a\0b", Err(libc::EINVAL));
    }

    #[test]
    fn magic_links_are_refused() {
        let fd = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let pid = std::process::id();
        for path in [
            "/proc/self/root/etc",
            "/proc/self/cwd/x",
            "/proc/self/fd/0",
            "/proc/self/exe",
        ] {
            let error = open(&fd, pid, path.as_bytes(), READ).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{path}");
        }
        assert!(open(&fd, pid, b"/proc/self/status", READ).is_ok());
    }

    #[test]
    fn a_rename_at_any_moment_leads_nowhere_else() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        std::fs::create_dir_all(root.join("a/b/c")).unwrap();
        std::fs::create_dir_all(root.join("z")).unwrap();
        std::fs::write(place.path().join("secret"), "outside").unwrap();
        std::fs::write(root.join("secret"), "inside").unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mover = std::thread::spawn({
            let (root, stop) = (root.clone(), std::sync::Arc::clone(&stop));
            move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::fs::rename(root.join("a/b"), root.join("z/b")).unwrap();
                    std::fs::rename(root.join("z/b"), root.join("a/b")).unwrap();
                }
            }
        });
        let fd = rustix::fs::open(&root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..20_000 {
            if let Ok(file) = open(&fd, 1, b"/a/b/c/../../../../../secret", READ) {
                let mut text = String::new();
                std::fs::File::from(file).read_to_string(&mut text).unwrap();
                assert_eq!(text, "inside");
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        mover.join().unwrap();
    }
}
