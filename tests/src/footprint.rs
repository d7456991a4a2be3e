//! What a session has on this machine, and what of it is left when it has ended.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::processes::{app, server, started};
use crate::{PATIENCE, is_alive};

/// A running session.
#[derive(Debug, Clone)]
pub struct Footprint {
    pub supervisor: u32,
    pub server: u32,
    pub app: u32,
    /// Its processes by what they are, and when they started: a number may come again.
    processes: Vec<(&'static str, u32, Option<u64>)>,
    directory: PathBuf,
    /// Numbers of its FUSE mounts' devices.
    devices: Vec<String>,
}

impl Footprint {
    /// # Panics
    /// When one of its parts is not there.
    #[must_use]
    pub fn of(supervisor: u32, others: &[u32]) -> Self {
        let app = app(supervisor).expect("the app runs");
        let directory = format!("inpod-{}-{supervisor}", rustix::process::getuid().as_raw());
        let bases = [std::env::var("XDG_RUNTIME_DIR").ok(), Some("/tmp".to_owned())];
        let mut directories = bases
            .into_iter()
            .flatten()
            .map(|base| PathBuf::from(base).join(&directory));
        let mounts = std::fs::read_to_string(format!("/proc/{app}/mountinfo")).unwrap_or_default();
        let fuse = mounts.lines().filter(|line| line.contains(" - fuse"));
        let mut devices: Vec<String> = fuse.filter_map(device).map(str::to_owned).collect();
        devices.sort();
        devices.dedup();
        let server = server(supervisor).expect("a session has a server");
        let known = [("supervisor", supervisor), ("server", server), ("app", app)];
        let others = others.iter().map(|pid| ("other", *pid));
        Self {
            supervisor,
            server,
            app,
            processes: known
                .into_iter()
                .chain(others)
                .map(|(name, pid)| (name, pid, started(pid)))
                .collect(),
            directory: directories
                .find(|path| path.exists())
                .expect("a session has a directory"),
            devices,
        }
    }

    /// What is still there of it: processes, its directory, mounts in any process.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let mut left = self.mounts();
        let alive = self.processes.iter();
        let alive = alive.filter(|(_, pid, began)| is_alive(*pid) && started(*pid) == *began);
        left.extend(alive.map(|(name, pid, _)| format!("{name} {pid}")));
        if self.directory.exists() {
            left.push(self.directory.display().to_string());
        }
        left
    }

    /// Waits until there is nothing left.
    ///
    /// # Panics
    /// With what there is, when that takes too long.
    pub fn wait_until_gone(&self) {
        let begun = Instant::now();
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "left: {left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mounts(&self) -> Vec<String> {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        processes.filter_map(|process| self.mount_in(&process.path())).collect()
    }

    fn mount_in(&self, process: &Path) -> Option<String> {
        let mounts = std::fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        let ours = |line: &&str| {
            line.contains(&self.directory.display().to_string())
                || device(line).is_some_and(|device| self.devices.iter().any(|ours| ours == device))
        };
        let found = mounts.lines().find(ours)?;
        Some(format!("mount in {}: {found}", process.display()))
    }
}

/// The number of the device of a line of mountinfo.
fn device(line: &str) -> Option<&str> {
    line.split(' ').nth(2)
}
