//! The mount of the path backend: made by the set-user-ID program `fusermount3`, for users who may mount nothing themselves
//! (fusermount3(1); its protocol is libfuse's, util/fusermount.c).
//!
//! Its own `auto_unmount` does not help here: it looks into the dead mount as root, whom the kernel keeps out of a mount
//! that is its user's alone (EACCES), and takes it for unmounted. What unmounts after a kill is the [`Keeper`](crate::Keeper).

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

/// The subtype is what backup and indexing tools are told to leave out.
const OPTIONS: &str = "nosuid,nodev,fsname=inpod,subtype=inpod";
/// How long it may take, of milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where it is looked for behind the `PATH`; the last is NixOS'.
const USUAL: &[&str] = &["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"];

/// Why `fusermount3` cannot mount here.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("there is no fusermount3 on this machine")]
    Missing,
    #[error("{} is not set-user-ID root", .0.display())]
    NoRights(PathBuf),
    #[error("this kernel has no openat2, by which paths are led to a mount (it came with Linux 5.6; gVisor has none)")]
    NoOpenat2,
    #[error("no_new_privs is in force, so that fusermount3 gains no rights")]
    NoNewPrivileges,
    /// In its own words.
    #[error("fusermount3 refuses: {0}")]
    Refused(String),
    #[error("fusermount3 did not answer in {} s", PATIENCE.as_secs())]
    Silent,
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

impl From<MountError> for io::Error {
    fn from(error: MountError) -> Self {
        Self::other(error)
    }
}

fn doing(what: &'static str) -> impl Fn(io::Error) -> MountError {
    move |source| MountError::Io { what, source }
}

/// Where the program is.
pub(crate) fn find(path: Option<&OsStr>) -> Option<PathBuf> {
    let named = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>());
    let directories = named.unwrap_or_default().into_iter();
    directories
        .chain(USUAL.iter().map(PathBuf::from))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("fusermount3"))
        .find(|program| program.is_file())
}

/// The program, if it has the rights that it needs.
fn usable() -> Result<PathBuf, MountError> {
    let program = find(std::env::var_os("PATH").as_deref()).ok_or(MountError::Missing)?;
    if rustix::process::geteuid().is_root() {
        return Ok(program);
    }
    let metadata = program.metadata().map_err(doing("looking at fusermount3"))?;
    if metadata.mode() & libc::S_ISUID == 0 || metadata.uid() != 0 {
        return Err(MountError::NoRights(program));
    }
    if rustix::thread::no_new_privs().unwrap_or(false) {
        return Err(MountError::NoNewPrivileges);
    }
    Ok(program)
}

/// Mounts FUSE over the directory `at`, which must be this user's: only this user sees into it, and writes there if it is
/// `writable`. The kernel answers nothing there until somebody serves the descriptor.
///
/// # Errors
/// [`MountError`]; nothing is mounted then.
pub fn mount(at: &Path, writable: bool) -> Result<OwnedFd, MountError> {
    let program = usable()?;
    let (ours, theirs) = UnixStream::pair().map_err(doing("a socket pair"))?;
    ours.set_read_timeout(Some(PATIENCE)).map_err(doing("a socket"))?;
    let mut child = Command::new(&program)
        .args(["-o", &format!("{},{OPTIONS}", if writable { "rw" } else { "ro" }), "--"])
        .arg(at)
        // It takes the number of any descriptor that it has.
        .env("_FUSE_COMMFD", "0")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .current_dir("/")
        .spawn()
        .map_err(doing("starting fusermount3"))?;
    let received = receive(&ours);
    if !ends(&mut child) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(MountError::Silent);
    }
    match received.map_err(doing("taking what fusermount3 mounted"))? {
        Some(fuse) => Ok(fuse),
        None => Err(MountError::Refused(last_words(&mut child))),
    }
}

/// Whether it has ended in time.
fn ends(child: &mut Child) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Ok(Some(_)) | Err(_) => return true,
        }
    }
    false
}

/// What it complained of, without its name.
fn last_words(child: &mut Child) -> String {
    const MOST: u64 = 1000;
    let mut bytes = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(MOST).read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().last().unwrap_or_default().trim();
    let line = line.split_once(": ").map_or(line, |(_, reason)| reason);
    if line.is_empty() {
        "it says nothing".to_owned()
    } else {
        line.to_owned()
    }
}

/// The descriptor that it sends; `None` when it ends without.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::io::retry_on_intr(|| {
        let flags = RecvFlags::CMSG_CLOEXEC;
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)
    })?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    }))
}

/// Takes the mount away, also while somebody is in it, and does nothing where there is none. Nothing looks into the mount.
///
/// # Errors
/// When it is still there.
pub fn unmount(at: &Path) -> io::Result<()> {
    if !is_mounted(at)? {
        return Ok(());
    }
    let program = find(std::env::var_os("PATH").as_deref()).ok_or(MountError::Missing)?;
    let mut child = unmounting(&program, at).spawn()?;
    if !ends(&mut child) {
        let _ = child.kill();
        let _ = child.wait();
    }
    if is_mounted(at)? {
        return Err(io::Error::other(format!("{} is still mounted", at.display())));
    }
    Ok(())
}

fn unmounting(program: &Path, at: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["-u", "-q", "-z", "--"]).arg(at).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Whether one of ours lies there, by the table of mounts: its root itself may not answer.
fn is_mounted(at: &Path) -> io::Result<bool> {
    let real = match (at.parent().map(Path::canonicalize), at.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        (Some(Err(error)), _) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        (Some(Err(error)), _) => return Err(error),
        _ => return Ok(false),
    };
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(table.split(|byte| *byte == b'\n').any(|line| is_ours(line, &real)))
}

/// proc_pid_mountinfo(5): the fifth field is the place, and the type comes behind a lone `-`.
fn is_ours(line: &[u8], at: &Path) -> bool {
    let mut fields = line.split(|byte| *byte == b' ');
    let place = fields.nth(4).map(unescaped);
    let kind = fields.skip_while(|field| *field != b"-").nth(1);
    kind == Some(b"fuse.inpod") && place.is_some_and(|place| place.as_slice() == at.as_os_str().as_bytes())
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *byte == b'\\');
        let number = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match number {
            Some(number) => {
                out.push(number);
                rest = &after[3..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

/// Whether the trap can lead a path to the mount.
fn resolves() -> Result<(), MountError> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Err(Errno::NOSYS) => Err(MountError::NoOpenat2),
        _ => Ok(()),
    }
}

/// Mounts and unmounts once, in a directory of its own below the one where sessions lie.
pub(crate) fn probe() -> Result<(), MountError> {
    // First: in gVisor a mount that nobody serves cannot be taken away again.
    resolves()?;
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let base = runtime
        .filter(|runtime| runtime.is_absolute() && rustix::fs::access(runtime, rustix::fs::Access::WRITE_OK).is_ok())
        .unwrap_or_else(std::env::temp_dir);
    let name: OsString = format!(
        "inpod-{}-{}-try",
        rustix::process::geteuid().as_raw(),
        std::process::id()
    )
    .into();
    let at = base.join(name);
    let what = "a directory to try it in";
    // Left by one that was killed and had our process id, which is ours now.
    let _ = unmount(&at);
    let _ = std::fs::remove_dir(&at);
    crate::files::private_directory(&at).map_err(doing(what))?;
    let tried = mount(&at, false).map(drop);
    let ended = unmount(&at).map_err(doing("unmounting"));
    let removed = std::fs::remove_dir(&at).map_err(doing(what));
    tried.and(ended).and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_in_the_kernels_table() {
        let line =
            b"88 61 0:51 / /run/user/1000/a\\040b/pod ro,nosuid,nodev shared:1 - fuse.inpod inpod ro,user_id=1000";
        assert!(is_ours(line, Path::new("/run/user/1000/a b/pod")));
        assert!(!is_ours(line, Path::new("/run/user/1000/a b")));
        assert!(!is_ours(b"88 61 0:51 / /pod ro - tmpfs inpod ro", Path::new("/pod")));
        assert!(!is_ours(b"88 61 0:51 / /pod ro", Path::new("/pod")));
        assert!(!is_ours(b"", Path::new("/pod")));
        assert_eq!(unescaped(b"\\134\\04"), b"\\\\04");
    }

    #[test]
    fn the_program_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("fusermount3");
        std::fs::write(&program, "").unwrap();
        let path = std::env::join_paths([Path::new("relative"), Path::new("/none"), directory.path()]).unwrap();
        assert_eq!(find(Some(&path)), Some(program));
    }
}
