//! Who belongs to a session: its supervisor, and whatever descends from it.
//!
//! The path backend's mount is the machine's own, so every program of the user comes by: find, a backup, an indexer. The
//! supervisor is the reaper of its tree's orphans, so descent holds for daemonised grandchildren too.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer is believed: a number is not given to another process that soon.
const BELIEVED: Duration = Duration::from_secs(1);
/// Most answers that are remembered; then they are forgotten all at once.
const MOST: usize = 4096;
/// Deeper than any tree of processes; numbers that are reused meanwhile could form a circle.
const DEEPEST: usize = 4096;

/// The processes of one session.
#[derive(Debug)]
pub struct Members {
    supervisor: u32,
    known: Mutex<HashMap<u32, (Instant, bool)>>,
}

impl Members {
    /// `supervisor` is its process id.
    #[must_use]
    pub fn of(supervisor: u32) -> Self {
        Self {
            supervisor,
            known: Mutex::default(),
        }
    }

    /// Whether a thread, by its number, belongs. One of outside this process-id namespace is 0 and does not.
    pub(crate) fn has(&self, thread: u32) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, belongs)) = known.get(&thread)
            && at.elapsed() < BELIEVED
        {
            return *belongs;
        }
        let belongs = self.descends(thread);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(thread, (Instant::now(), belongs));
        belongs
    }

    fn descends(&self, thread: u32) -> bool {
        let mut at = thread;
        for _ in 0..DEEPEST {
            let status = match at {
                0 | 1 => return false,
                at => std::fs::read_to_string(format!("/proc/{at}/status")),
            };
            let Some((process, parent)) = status.ok().as_deref().and_then(parents) else {
                return false;
            };
            if process == self.supervisor {
                return true;
            }
            at = parent;
        }
        false
    }
}

/// proc_pid_status(5): the process that a thread is of, and the parent of that.
fn parents(status: &str) -> Option<(u32, u32)> {
    let number = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    Some((number("Tgid:")?, number("PPid:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_children_belong_and_others_do_not() {
        let own = std::process::id();
        let members = Members::of(own);
        assert!(members.has(own));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| members.has(rustix::thread::gettid().as_raw_pid().unsigned_abs()));
            assert!(thread.join().unwrap());
        });
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        let grandchild: u32 = line.trim().parse().unwrap();
        assert!(members.has(child.id()) && members.has(grandchild));
        let sees_itself_alone = Members::of(child.id());
        assert!(sees_itself_alone.has(grandchild) && !sees_itself_alone.has(own));
        assert!(!members.has(0) && !members.has(1));
        let grandchild = rustix::process::Pid::from_raw(i32::try_from(grandchild).unwrap()).unwrap();
        rustix::process::kill_process(grandchild, rustix::process::Signal::KILL).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_thread_says_whose_it_is() {
        let status = "Name:\tTgid: 1\nTgid:\t17\nNgid:\t0\nPid:\t19\nPPid:\t4\n";
        assert_eq!(parents(status), Some((17, 4)));
        assert_eq!(parents("Name:\tx\n"), None);
    }
}
