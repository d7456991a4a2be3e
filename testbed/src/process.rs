//! Processes by pid and start time, so that what is ended later is what was started here and not a later owner of the pid.

use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub name: String,
    pub pid: i32,
    /// Clock ticks after boot (field 22 of /proc/PID/stat, proc_pid_stat(5)).
    pub started: u64,
}

impl Process {
    /// `None` when there is no such process.
    pub fn of(name: &str, pid: i32) -> Option<Self> {
        let stat = Stat::of(pid)?;
        Some(Self {
            name: name.to_owned(),
            pid,
            started: stat.started,
        })
    }

    /// A zombie is not alive: it only waits for its parent to look.
    pub fn is_alive(&self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.started == self.started && !matches!(stat.state, 'Z' | 'X'))
    }

    /// Sends SIGKILL, to this process or to none.
    pub fn kill(&self) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        // The descriptor pins the process: whatever the check says of it stays true for the signal.
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        if self.is_alive() {
            // It may end first: just as well.
            let _ = pidfd_send_signal(&descriptor, Signal::KILL);
        }
    }
}

struct Stat {
    state: char,
    started: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may itself contain spaces and parentheses.
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        Some(Self {
            state: fields.next()?.chars().next()?,
            started: fields.nth(18)?.parse().ok()?,
        })
    }
}

/// Differs after a reboot, when pids and start times begin anew.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recycled_pid_is_neither_alive_nor_killed() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of("sleep", child.id().cast_signed()).unwrap();
        assert!(process.is_alive());
        let stranger = Process {
            started: process.started + 1,
            ..process.clone()
        };
        stranger.kill();
        assert!(!stranger.is_alive());
        assert!(process.is_alive());
        process.kill();
        child.wait().unwrap();
        assert!(!process.is_alive());
    }
}
