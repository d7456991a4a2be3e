//! Who and where the target is.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use wire::message::{Bytes, Facts, Limits};

use crate::files::resolve;
use crate::{Agent, Target, sys};

/// The longest text file that is asked for, in bytes.
const MAX_TEXT: usize = 64 << 10;
/// Entries of `/` that are told.
const MAX_ROOT: usize = 1024;
/// What the runtime mounts for itself; below the first three everything is the kernel's.
const NOT_VOLUMES: [&str; 6] = [
    "/proc",
    "/sys",
    "/dev",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
];

/// File systems whose files are as long as stat(2) says. Those of other kinds may be (most in user space are), and those of
/// the kernel's own (proc, sysfs, cgroup2) say 0 or a page.
const SIZED: [&str; 24] = [
    "9p",
    "bcachefs",
    "btrfs",
    "ceph",
    "cifs",
    "erofs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "hugetlbfs",
    "iso9660",
    "jfs",
    "nfs",
    "nfs4",
    "overlay",
    "ramfs",
    "smb3",
    "squashfs",
    "tmpfs",
    "virtiofs",
    "xfs",
    "zfs",
];

/// Blocking: reads /proc and the target's files.
pub(crate) fn gather(agent: &Agent) -> Facts {
    let target = &agent.target;
    let credentials = target.credentials();
    let mountinfo = std::fs::read(target.proc("mountinfo")).ok();
    let sizeless = mountinfo.as_deref().map(sizeless);
    Facts {
        hostname: hostname(),
        addresses: sys::addresses(),
        volumes: volumes(&mountinfo.unwrap_or_default()),
        // What cannot be known may be anywhere.
        sizeless: sizeless.unwrap_or_else(|| vec![Bytes(b"/".to_vec())]),
        root: root(target),
        uid: credentials.uid,
        gid: credentials.gid,
        cwd: Bytes(cwd(target)),
        resolv_conf: Bytes(text_file(target, "/etc/resolv.conf").unwrap_or_default()),
        nsswitch_hosts: text_file(target, "/etc/nsswitch.conf").as_deref().and_then(hosts_line),
        limits: limits(agent),
    }
}

/// The agent is in the target's UTS namespace.
fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

pub(crate) fn text_file(target: &Target, path: &str) -> Option<Vec<u8>> {
    let file = resolve::open(target.root().ok()?, target.own_pid(), path.as_bytes(), resolve::READ).ok()?;
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(MAX_TEXT as u64 + 1)
        .read_to_end(&mut bytes)
        .ok()?;
    (bytes.len() <= MAX_TEXT).then_some(bytes)
}

fn root(target: &Target) -> Vec<(Bytes, bool)> {
    let list = || -> std::io::Result<Vec<(Bytes, bool)>> {
        let directory = resolve::open(target.root()?, target.own_pid(), b"/", resolve::READ)?;
        let entries = rustix::fs::Dir::new(directory)?.filter_map(Result::ok);
        Ok(entries
            .filter(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."))
            .take(MAX_ROOT)
            .map(|entry| {
                let directory = entry.file_type() == rustix::fs::FileType::Directory;
                (Bytes(entry.file_name().to_bytes().to_vec()), directory)
            })
            .collect())
    };
    list().unwrap_or_default()
}

/// The link shows the path from our root; a target that was only chrooted shows the way to its root as well.
fn cwd(target: &Target) -> Vec<u8> {
    let (Ok(cwd), Ok(root)) = (
        std::fs::read_link(target.proc("cwd")),
        std::fs::read_link(target.proc("root")),
    ) else {
        return b"/".to_vec();
    };
    let inside = cwd.strip_prefix(&root).unwrap_or(&cwd);
    Path::new("/").join(inside).as_os_str().as_bytes().to_vec()
}

/// The places and types of proc_pid_mountinfo(5): the fifth field of each line, and the one behind a lone `-`.
fn mounts(mountinfo: &[u8]) -> impl Iterator<Item = (Vec<u8>, &[u8])> {
    mountinfo.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let point = fields.nth(4)?;
        let kind = fields.skip_while(|field| field != b"-").nth(1)?;
        Some((unescape(point), kind))
    })
}

fn volumes(mountinfo: &[u8]) -> Vec<Bytes> {
    let own = |point: &[u8], place: &str| {
        let rest = point.strip_prefix(place.as_bytes());
        rest.is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
    };
    let mut found: Vec<Bytes> = Vec::new();
    for (point, _) in mounts(mountinfo) {
        if point != b"/"
            && !NOT_VOLUMES.iter().any(|place| own(&point, place))
            && !found.iter().any(|known| known.0 == point)
        {
            found.push(Bytes(point));
        }
    }
    found
}

fn sizeless(mountinfo: &[u8]) -> Vec<Bytes> {
    let sizeless = mounts(mountinfo).filter(|(_, kind)| !SIZED.iter().any(|sized| sized.as_bytes() == *kind));
    sizeless.map(|(point, _)| Bytes(point)).collect()
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let code = match behind {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        out.push(code.unwrap_or(first));
        rest = if code.is_some() { &behind[3..] } else { behind };
    }
    out
}

fn hosts_line(nsswitch: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(nsswitch);
    text.lines()
        .find(|line| line.trim_start().starts_with("hosts:"))
        .map(|line| line.trim().to_owned())
}

fn limits(agent: &Agent) -> Limits {
    let target = &agent.target;
    let refused = |what: &str, error: &std::io::Error| {
        format!(
            "{what} of the target (pid {}) cannot be read: {error}; this needs its user or CAP_SYS_PTRACE",
            target.pid()
        )
    };
    Limits {
        steal: agent.intercept.limit(),
        mirror: agent.mirror.limit(),
        files: target.root().err().map(|error| refused("the files", &error)),
        env: std::fs::File::open(target.proc("environ"))
            .err()
            .map(|error| refused("the environment", &error)),
    }
}

/// The decoders of this file, on foreign bytes.
pub(crate) fn fuzz(data: &[u8]) {
    let _ = (volumes(data), hosts_line(data));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_what_was_mounted_for_the_app() {
        let info = b"1 0 0:1 / / rw - overlay o rw\n2 1 0:2 / /proc rw - proc p rw\n3 1 0:3 / /dev/shm rw - tmpfs t rw\n\
            4 1 0:4 /x /etc/hosts rw - ext4 e rw\n5 1 0:5 / /etc/config rw - tmpfs t rw\n6 1 0:6 / /a\\040b rw - tmpfs t rw\n\
            7 1 0:7 / /sysdata rw - tmpfs t rw\n8 1 0:7 / /sysdata rw - tmpfs t rw\n";
        let names: Vec<_> = volumes(info)
            .iter()
            .map(|path| String::from_utf8_lossy(&path.0).into_owned())
            .collect();
        assert_eq!(names, ["/etc/config", "/a b", "/sysdata"]);
    }

    #[test]
    fn files_of_the_kernels_own_kinds_have_no_size() {
        let info = b"1 0 0:1 / / rw shared:1 master:2 - overlay - rw\n2 1 0:2 / /host/proc rw - proc p rw\n\
            3 1 0:3 / /data rw - fuse.s3fs s rw\n4 1 0:4 / /vol rw - ext4 e rw\nno line\n";
        let places: Vec<_> = sizeless(info).into_iter().map(|place| place.0).collect();
        assert_eq!(places, [b"/host/proc".to_vec(), b"/data".to_vec()]);
    }

    #[test]
    fn escapes_and_lines() {
        assert_eq!(unescape(b"\\134\\04x\\"), b"\\\\04x\\");
        assert_eq!(
            hosts_line(b"passwd: files\nhosts: files dns\n"),
            Some("hosts: files dns".to_owned())
        );
        assert_eq!(hosts_line(b"# hosts: x\n"), None);
    }
}
