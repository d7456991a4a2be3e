//! Ends what is left of the app when the supervisor is gone.
//!
//! The supervisor is the subreaper of the app's tree; with it gone, orphans hang from init and are found by what they
//! still share: their recorded process id, a recorded ancestor, or the app's private mount namespace. Whoever is left
//! after that holds the filter, and the duplicate of its listener says when nobody does any more (POLLHUP).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

/// How long processes get to die of SIGKILL before they are given up (a process in uninterruptible sleep).
const PATIENCE: Duration = Duration::from_secs(10);

/// The processes of the app, as far as they are known, each with its start time so that a reused id is never killed.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    known: BTreeMap<u32, u64>,
    mount_namespace: Option<Namespace>,
    listener: Option<OwnedFd>,
}

impl Tree {
    pub(crate) fn add(&mut self, pid: u32) {
        if let Some(start) = Stat::read(pid).map(|stat| stat.start) {
            self.known.insert(pid, start);
        }
    }

    /// The main process is launched; its mount namespace marks the tree if it is not ours.
    pub(crate) fn launched(&mut self, pid: u32, listener: Option<OwnedFd>) {
        self.add(pid);
        self.listener = listener;
        let is_ours = |theirs: &Namespace| {
            let ours = std::fs::metadata("/proc/self/ns/mnt");
            ours.is_ok_and(|ours| (ours.dev(), ours.ino()) == theirs.number)
        };
        self.mount_namespace = Namespace::of(pid).filter(|theirs| !is_ours(theirs));
    }

    /// Kills the tree and waits until nobody of it is left.
    pub(crate) fn end(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let alive = self.alive();
            for pid in &alive {
                if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            if self.filter_is_unused() || (self.listener.is_none() && alive.is_empty()) {
                return;
            }
            // A caller that only shows up now is answered by the listener's close, below; until then look again.
            self.wait_for_filter(Duration::from_millis(20));
            if alive.is_empty() && self.known.is_empty() {
                return;
            }
        }
    }

    fn alive(&mut self) -> BTreeSet<u32> {
        let all: BTreeMap<u32, Stat> = processes()
            .filter_map(|pid| Stat::read(pid).map(|stat| (pid, stat)))
            .collect();
        let mut tree: BTreeSet<u32> = self
            .known
            .iter()
            .filter(|(pid, start)| all.get(pid).is_some_and(|stat| stat.start == **start && !stat.zombie))
            .map(|(pid, _)| *pid)
            .collect();
        if let Some(namespace) = &self.mount_namespace {
            tree.extend(all.keys().filter(|pid| namespace.has(**pid)));
        }
        loop {
            let children: Vec<u32> = all
                .iter()
                .filter(|(pid, stat)| tree.contains(&stat.parent) && !tree.contains(pid) && !stat.zombie)
                .map(|(pid, _)| *pid)
                .collect();
            if children.is_empty() {
                break;
            }
            for child in children {
                tree.insert(child);
                self.known.insert(child, all[&child].start);
            }
        }
        tree.remove(&std::process::id());
        tree
    }

    fn filter_is_unused(&self) -> bool {
        self.poll_listener(Duration::ZERO).contains(PollFlags::HUP)
    }

    fn wait_for_filter(&self, patience: Duration) {
        if self.listener.is_some() {
            self.poll_listener(patience);
        }
        std::thread::sleep(Duration::from_millis(5));
    }

    fn poll_listener(&self, patience: Duration) -> PollFlags {
        let Some(listener) = &self.listener else {
            return PollFlags::empty();
        };
        let mut fds = [PollFd::new(listener, PollFlags::empty())];
        let timeout = Timespec::try_from(patience).ok();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => fds[0].revents(),
            Err(_) => PollFlags::empty(),
        }
    }
}

/// A mount namespace, kept in existence: the number of one that is gone is given to the next one that anybody makes, and its
/// processes would be taken for the app's.
#[derive(Debug)]
struct Namespace {
    number: (u64, u64),
    _held: File,
}

impl Namespace {
    fn of(pid: u32) -> Option<Self> {
        let held = File::open(format!("/proc/{pid}/ns/mnt")).ok()?;
        let metadata = held.metadata().ok()?;
        Some(Self {
            number: (metadata.dev(), metadata.ino()),
            _held: held,
        })
    }

    fn has(&self, pid: u32) -> bool {
        std::fs::metadata(format!("/proc/{pid}/ns/mnt"))
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.number)
    }
}

/// What `/proc/<pid>/stat` says (proc_pid_stat(5)).
struct Stat {
    parent: u32,
    start: u64,
    zombie: bool,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command may contain anything, parentheses too; the fields follow the last one.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        Some(Self {
            zombie: *fields.first()? == "Z",
            parent: fields.get(1)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }
}

fn processes() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_process_and_its_children_are_ended() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 1000 & wait"])
            .spawn()
            .unwrap();
        let mut tree = Tree::default();
        tree.add(child.id());
        let deadline = Instant::now() + Duration::from_secs(20);
        while tree.alive().len() < 2 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(tree.alive().len(), 2);
        tree.end();
        assert!(tree.alive().is_empty());
        child.wait().unwrap();
    }

    #[test]
    fn a_namespace_made_after_the_apps_is_another_one() {
        let child = || {
            let mut child = std::process::Command::new("unshare")
                .args(["--mount", "cat"])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            // It echoes once it is in its namespace.
            std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"x").unwrap();
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
            child
        };
        let mut app = child();
        let mut tree = Tree::default();
        tree.launched(app.id(), None);
        assert!(tree.mount_namespace.is_some());
        app.kill().unwrap();
        app.wait().unwrap();
        let mut others: Vec<_> = (0..8).map(|_| child()).collect();
        assert!(tree.alive().is_empty(), "processes of others");
        for other in &mut others {
            other.kill().unwrap();
            other.wait().unwrap();
        }
    }

    #[test]
    fn a_reused_process_id_is_left_alone() {
        let mut tree = Tree::default();
        tree.known.insert(std::os::unix::process::parent_id(), 1);
        assert!(tree.alive().is_empty());
    }
}
