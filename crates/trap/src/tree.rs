//! The app's process tree: everything that descends from the supervisor, however it was started.
//!
//! The supervisor is the reaper of orphans, so a daemonised grandchild is its child and is found in /proc.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal};

/// How long processes have between SIGTERM and SIGKILL.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// One line of `/proc/<pid>/stat`, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    zombie: bool,
    started: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The name may contain anything, so fields count from its last parenthesis (proc_pid_stat(5)).
fn parse(line: &[u8]) -> Option<Stat> {
    let after = line.iter().rposition(|byte| *byte == b')')? + 1;
    let text = std::str::from_utf8(&line[after..]).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    Some(Stat {
        zombie: *fields.first()? == "Z",
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Any bytes as a line of `/proc/<pid>/stat`.
pub(crate) fn fuzz(line: &[u8]) {
    let _ = parse(line);
}

/// The running descendants of this process, without `except` and what descends from it.
pub(crate) fn descendants(except: Option<u32>) -> Vec<u32> {
    let all: HashMap<u32, Stat> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect();
    let own = std::process::id();
    let belongs = |pid: u32| {
        let mut at = pid;
        // A tree of processes is no deeper than there are processes.
        for _ in 0..=all.len() {
            if Some(at) == except || at == own {
                break;
            }
            match all.get(&at) {
                Some(stat) if stat.parent == own => return Some(at) != except,
                Some(stat) => at = stat.parent,
                None => break,
            }
        }
        false
    };
    all.iter()
        .filter(|(pid, stat)| !stat.zombie && belongs(**pid))
        .map(|(pid, _)| *pid)
        .collect()
}

/// Whether a running process descends from this one.
pub(crate) fn is_descendant(pid: u32) -> bool {
    /// Deeper than any tree of processes; numbers that are reused meanwhile could form a circle.
    const DEEPEST: usize = 4096;
    let own = std::process::id();
    let parents = std::iter::successors(stat(pid), |child| stat(child.parent));
    parents.take(DEEPEST).any(|child| child.parent == own)
}

/// A pidfd of `pid`, sure to be a descendant still: the number may have gone to a stranger since it was read.
///
/// # Errors
/// ESRCH when it has; ENOSYS where there are no pidfds (before Linux 5.3, and in gVisor).
fn hold(pid: u32) -> Result<OwnedFd, Errno> {
    let before = stat(pid).ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(Pid::from_raw(pid as i32).ok_or(Errno::SRCH)?, PidfdFlags::empty())?;
    let same = stat(pid).is_some_and(|now| now.started == before.started);
    same.then_some(pidfd).ok_or(Errno::SRCH)
}

fn signal_all(pids: &[u32], signal: Signal) {
    for pid in pids {
        let _ = match hold(*pid) {
            Ok(pidfd) => pidfd_send_signal(&pidfd, signal),
            Err(Errno::NOSYS) if is_descendant(*pid) => {
                Pid::from_raw(*pid as i32).map_or(Ok(()), |pid| kill_process(pid, signal))
            }
            Err(errno) => Err(errno),
        };
    }
}

/// Ends the tree: SIGTERM (and SIGCONT, for what is stopped), SIGKILL after [`GRACE`]. Returns how many had to be killed;
/// `reaped` is told each child that ends meanwhile.
pub(crate) fn end(except: Option<u32>, mut reaped: impl FnMut(Pid, rustix::process::WaitStatus)) -> usize {
    let deadline = Instant::now() + GRACE;
    let mut told: Vec<u32> = Vec::new();
    let mut killed = 0;
    loop {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            reaped(pid, status);
        }
        let left = descendants(except);
        if left.is_empty() {
            return killed;
        }
        if Instant::now() < deadline {
            // Each one once: a handler that runs twice may do harm. New ones appear while old ones fork.
            let new: Vec<u32> = left.into_iter().filter(|pid| !told.contains(pid)).collect();
            signal_all(&new, Signal::TERM);
            signal_all(&new, Signal::CONT);
            told.extend(new);
        } else {
            killed += left.len();
            signal_all(&left, Signal::KILL);
        }
        wait_for_any(&told, Duration::from_millis(20));
    }
}

/// Until one of them ends, or a little while: others may have come.
fn wait_for_any(pids: &[u32], most: Duration) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let pidfds: Vec<OwnedFd> = pids.iter().filter_map(|pid| hold(*pid).ok()).collect();
    let mut polled: Vec<PollFd<'_>> = pidfds.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)).collect();
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: most.subsec_nanos().into(),
    };
    let _ = poll(&mut polled, Some(&timeout));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_and_spaces() {
        let fields = "S 41 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 999";
        let stat = parse(format!("7 (a) b) c) {fields}").as_bytes()).unwrap();
        assert_eq!(
            stat,
            Stat {
                parent: 41,
                zombie: false,
                started: 12345
            }
        );
        assert_eq!(parse(b"7 (sh"), None);
        assert_eq!(parse(b""), None);
    }
}
