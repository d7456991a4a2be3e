//! The machine's processes, by what /proc says of them (proc_pid_stat(5), proc_pid_status(5), `Documentation/scheduler/sched-stats.rst`).

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

/// The running children of a process.
#[must_use]
pub fn children(parent: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| field(*pid, 1).is_some_and(|found| found == u64::from(parent)) && crate::is_alive(*pid))
        .collect()
}

/// What a process runs; empty when it is gone.
#[must_use]
pub fn program(pid: u32) -> String {
    std::fs::read_link(format!("/proc/{pid}/exe"))
        .map(|path| path.display().to_string())
        .unwrap_or_default()
}

/// Resident memory now and at its peak, in KiB; `None` when the process is gone.
#[must_use]
pub fn memory(pid: u32) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    Some((of("VmRSS:")?, of("VmHWM:")?))
}

/// Processor time that a process' threads have used so far, by their ids.
#[must_use]
pub fn processor_times(pid: u32) -> BTreeMap<String, Duration> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let used = threads.filter_map(|thread| {
        let schedule = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let nanoseconds = schedule.split_whitespace().next()?.parse().ok()?;
        Some((
            thread.file_name().to_string_lossy().into_owned(),
            Duration::from_nanos(nanoseconds),
        ))
    });
    used.collect()
}

/// What its threads have used since; threads that ended meanwhile are left out.
#[must_use]
pub fn processor_time_since(pid: u32, before: &BTreeMap<String, Duration>) -> Duration {
    let now = processor_times(pid);
    now.iter()
        .map(|(thread, used)| used.saturating_sub(before.get(thread).copied().unwrap_or_default()))
        .sum()
}

/// The server process of a session: the supervisor's child that is `inpod` too.
#[must_use]
pub fn server(supervisor: u32) -> Option<u32> {
    children(supervisor)
        .into_iter()
        .find(|child| program(*child) == program(supervisor))
}

/// The app of a session, at its root.
#[must_use]
pub fn app(supervisor: u32) -> Option<u32> {
    children(supervisor)
        .into_iter()
        .find(|child| program(*child) != program(supervisor))
}

/// The agent of a session with a process of this machine.
#[must_use]
pub fn agent(server: u32) -> Option<u32> {
    children(server)
        .into_iter()
        .find(|child| program(*child).contains("memfd"))
}

/// Sends a signal.
///
/// # Errors
/// When the process is gone.
pub fn signal(pid: u32, signal: Signal) -> rustix::io::Result<()> {
    kill_process(Pid::from_raw(pid.cast_signed()).ok_or(Errno::SRCH)?, signal)
}

/// When a process started, in the kernel's ticks; `None` when it is gone.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    field(pid, 19)
}

/// Field of /proc/PID/stat, counted from the state, which is 0.
fn field(pid: u32, at: usize) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(at)?.parse().ok()
}
