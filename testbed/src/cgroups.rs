//! One control group, `/inpod-testbed`, in each hierarchy (cgroups(7), versions 1 and 2): `node` holds the node's programs,
//! the kubelet puts the pods beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{At, Result};
use crate::process::Process;
use crate::wait::wait_for;

pub(crate) const ROOT: &str = "inpod-testbed";

pub(crate) fn create() -> Result<()> {
    for hierarchy in hierarchies() {
        let mut group = hierarchy.clone();
        for name in [ROOT, "node"] {
            delegate(&group);
            group.push(name);
            fs::create_dir_all(&group).at("create", &group)?;
            inherit_cpuset(&group);
        }
    }
    Ok(())
}

/// The files that a process writes 0 to, to move into the node's groups.
pub(crate) fn entrances() -> Vec<PathBuf> {
    hierarchies()
        .iter()
        .map(|hierarchy| hierarchy.join(ROOT).join("node/cgroup.procs"))
        .collect()
}

/// Removes the groups, whose processes have been ended.
pub(crate) fn remove() -> Result<()> {
    let patience = Duration::from_secs(10);
    for hierarchy in hierarchies() {
        let group = hierarchy.join(ROOT);
        // A group stays busy for a moment after its last process.
        wait_for(&format!("remove {}", group.display()), patience, || {
            match remove_tree(&group) {
                Ok(()) => Ok(Ok(())),
                Err(problem) => Ok(Err(problem.to_string())),
            }
        })?;
    }
    Ok(())
}

pub(crate) fn exist() -> bool {
    hierarchies().iter().any(|hierarchy| hierarchy.join(ROOT).exists())
}

/// All that runs in the groups: it was started here, or by what was, whatever is known of it otherwise.
pub(crate) fn processes() -> Vec<Process> {
    let mut pids = Vec::new();
    for hierarchy in hierarchies() {
        collect_pids(&hierarchy.join(ROOT), &mut pids);
    }
    pids.sort_unstable();
    pids.dedup();
    let member = |process: &Process| {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).unwrap_or_default();
        groups.contains(&format!(":/{ROOT}/"))
    };
    // Looked at again after its start time is known: the pid may have passed to another since it was listed.
    pids.into_iter()
        .filter_map(|pid| Process::of("a process of the node", pid))
        .filter(member)
        .collect()
}

fn collect_pids(group: &Path, pids: &mut Vec<i32>) {
    let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    pids.extend(listed.lines().filter_map(|pid| pid.parse::<i32>().ok()));
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_pids(&entry.path(), pids);
        }
    }
}

fn remove_tree(group: &Path) -> std::io::Result<()> {
    let Ok(entries) = fs::read_dir(group) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// Version 2: children get a controller only where the parent passes it on.
fn delegate(group: &Path) {
    let Ok(controllers) = fs::read_to_string(group.join("cgroup.controllers")) else {
        return;
    };
    for controller in controllers.split_whitespace() {
        // Not all can be passed on everywhere, and the kubelet says which one it misses.
        drop(fs::write(
            group.join("cgroup.subtree_control"),
            format!("+{controller}"),
        ));
    }
}

/// Version 1: a new cpuset is empty, and no process can enter it.
fn inherit_cpuset(group: &Path) {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = group.join(name);
        let Some(parent) = group.parent() else { continue };
        if let (true, Ok(inherited)) = (file.exists(), fs::read_to_string(parent.join(name))) {
            drop(fs::write(file, inherited));
        }
    }
}

/// The mount point of each hierarchy (proc_pid_mountinfo(5)).
fn hierarchies() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let hierarchy = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let kind = file_system.split(' ').next()?;
        matches!(kind, "cgroup" | "cgroup2")
            .then(|| mount.split(' ').nth(4).map(PathBuf::from))
            .flatten()
    };
    table.lines().filter_map(hierarchy).collect()
}
