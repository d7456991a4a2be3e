//! The target: one process, its root, its rights.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::AgentError;

/// Processes looked at when a container is searched.
const MAX_PROCESSES: usize = 100_000;

/// Whose permissions file access is checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// Effective capabilities, as in `CapEff` of proc_pid_status(5).
    pub capabilities: u64,
}

/// The process that a session stands in for.
#[derive(Debug)]
pub struct Target {
    pid: u32,
    /// Its pid as it sees itself.
    own_pid: u32,
    credentials: Credentials,
    /// O_PATH; why not, where the kernel refuses.
    root: Result<OwnedFd, io::Error>,
    own_network: bool,
}

impl Target {
    /// # Errors
    /// When there is no such process, or it may not even be looked at.
    pub fn of_process(pid: u32) -> Result<Self, AgentError> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => AgentError::NoProcess(pid),
            _ => AgentError::io(format!("/proc/{pid}/status"), error),
        })?;
        let credentials = credentials(&status).ok_or_else(|| {
            AgentError::io(
                format!("/proc/{pid}/status"),
                io::Error::from(io::ErrorKind::InvalidData),
            )
        })?;
        let own_pid = field(&status, "NSpid").and_then(|pids| pids.split_whitespace().last()?.parse().ok());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()).map_err(io::Error::from);
        let link = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let own_network = link(1).is_none() || link(1) != link(pid);
        Ok(Self {
            pid,
            own_pid: own_pid.unwrap_or(pid),
            credentials,
            root,
            own_network,
        })
    }

    /// The oldest process whose control group names the container (v1 and v2, any driver).
    ///
    /// # Errors
    /// When no process here belongs to it.
    pub fn of_container(id: &str) -> Result<Self, AgentError> {
        let listing = std::fs::read_dir("/proc").map_err(|error| AgentError::io("/proc", error))?;
        let pids = listing.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let oldest = pids
            .take(MAX_PROCESSES)
            .filter(|pid| {
                let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
                in_container(&groups, id)
            })
            .filter_map(|pid| Some((started(pid)?, pid)))
            .min();
        let (_, pid) = oldest.ok_or_else(|| AgentError::NoContainer(id.to_owned()))?;
        Self::of_process(pid)
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn own_pid(&self) -> u32 {
        self.own_pid
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The root directory; every path is resolved inside it.
    pub(crate) fn root(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.root {
            Ok(fd) => Ok(fd.as_fd()),
            Err(error) => Err(io::Error::from_raw_os_error(
                error.raw_os_error().unwrap_or(libc::EACCES),
            )),
        }
    }

    /// The network namespace is that of pid 1 here, so packet rules must not touch what is only passing through.
    pub(crate) fn shares_the_machines_network(&self) -> bool {
        !self.own_network
    }

    /// A file of its directory in /proc.
    pub(crate) fn proc(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.pid)
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

/// The file system uid and gid, which access checks use, are the fourth column of proc_pid_status(5).
fn credentials(status: &str) -> Option<Credentials> {
    let column = |name: &str| field(status, name)?.split_whitespace().nth(3)?.parse().ok();
    Some(Credentials {
        uid: column("Uid")?,
        gid: column("Gid")?,
        groups: field(status, "Groups")?
            .split_whitespace()
            .filter_map(|group| group.parse().ok())
            .collect(),
        capabilities: u64::from_str_radix(field(status, "CapEff")?, 16).ok()?,
    })
}

/// Lines of cgroups(7): `hierarchy:controllers:path`; the id is a component of the path, alone or as in
/// `cri-containerd-<id>.scope`, and below it there may be groups of the container's own.
fn in_container(groups: &str, id: &str) -> bool {
    groups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .flat_map(|path| path.split('/'))
        .any(|component| {
            let name = component.strip_suffix(".scope").unwrap_or(component);
            name == id || name.strip_suffix(id).is_some_and(|prefix| prefix.ends_with(['-', ':']))
        })
}

/// When it started, in clock ticks (field 22 of proc_pid_stat(5); the command before may hold anything). No zombies.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The decoders of this file, on foreign bytes.
pub(crate) fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = (credentials(&text), in_container(&text, "0123456789ab"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_found_in_control_groups() {
        let id = "3f2a9c0d1e4b5a697887";
        let check = |groups: &str, expect| assert_eq!(in_container(groups, id), expect, "{groups}");
        check(&format!("0::/kubepods/besteffort/pod1/{id}"), true);
        check(&format!("0::/kubepods.slice/cri-containerd-{id}.scope"), true);
        check(&format!("12:cpu,cpuacct:/kubepods/pod1/{id}\n0::/"), true);
        check(&format!("0::/system.slice/docker-{id}.scope/init"), true);
        check(&format!("0::/kubepods-besteffort-pod1.slice:cri-containerd:{id}"), true);
        check(&format!("0::/kubepods/x{id}"), false);
        check(&format!("0::/kubepods/{id}0"), false);
        check("0::/", false);
    }

    #[test]
    fn credentials_of_a_status_file() {
        let status =
            "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t10 11 \nNSpid:\t70\t7\nCapEff:\t00000000000000ff\n";
        let expect = Credentials {
            uid: 4,
            gid: 8,
            groups: vec![10, 11],
            capabilities: 0xff,
        };
        assert_eq!(credentials(status), Some(expect));
        assert_eq!(credentials("Uid: x"), None);
    }
}
