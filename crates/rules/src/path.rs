//! Paths: which come from the pod's file system.

use std::path::{Path, PathBuf};

use globset::GlobMatcher;

use crate::{Place, Verdict};

/// How files are served when no list names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileMode {
    /// Everything local but what `remote` lists.
    Local,
    /// The pod's volumes and every path that is not a system or developer path, read-only.
    #[default]
    Read,
}

/// A path prefix (`/data/models`) or a glob (`/data/**/*.json`).
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// The path itself and everything below it.
    Prefix(PathBuf),
    Glob(GlobMatcher),
}

impl PathPattern {
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        match self {
            Self::Prefix(prefix) => path.starts_with(prefix),
            Self::Glob(glob) => glob.is_match(path),
        }
    }

    #[must_use]
    pub fn source(&self) -> String {
        match self {
            Self::Prefix(prefix) => prefix.display().to_string(),
            Self::Glob(glob) => glob.glob().glob().to_owned(),
        }
    }
}

/// Paths below these are the machine's without fallback: programs, libraries and kernel interfaces. Mixing the pod's into
/// local programs would crash them, and start-up probes dozens of absent paths there.
pub const SYSTEM: &[&str] = &[
    "/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/opt", "/proc", "/sys", "/dev", "/boot", "/nix", "/snap",
];

/// Paths below these are the developer's, unless the pod mounts a volume there.
pub const DEVELOPER: &[&str] = &[
    "/etc", "/home", "/root", "/tmp", "/run", "/var/run", "/var/tmp", "/var/lib", "/var/cache", "/var/log", "/var/spool", "/mnt",
    "/media", "/lost+found",
];

/// Always the pod's while any file is remote: they say who and where the app is.
pub const IDENTITY: &[&str] = &[
    "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/secrets", "/var/run/secrets",
];

/// Sockets of local name services: hidden, or names would be answered by the machine.
pub const HIDDEN_NAME_SERVICES: &[&str] = &[
    "/run/nscd", "/var/run/nscd", "/run/systemd/resolve/io.systemd.Resolve", "/run/avahi-daemon/socket",
    "/var/run/avahi-daemon/socket",
];

/// Which paths are the pod's.
#[derive(Debug, Clone, Default)]
pub struct FileRules {
    pub mode: FileMode,
    pub remote: Vec<PathPattern>,
    pub local: Vec<PathPattern>,
    pub hidden: Vec<PathPattern>,
    /// Path as the app says it (key) to path in the pod (value), by prefix.
    pub map: Vec<(PathBuf, PathBuf)>,
    /// Mount points of the pod's volumes: known once the agent has answered.
    pub volumes: Vec<PathBuf>,
    /// The working directory, the program and what else of this machine must stay: filled in at launch.
    pub kept: Vec<PathBuf>,
}

impl FileRules {
    /// Decides an absolute path that has no `.` or `..` in it.
    #[must_use]
    pub fn decide(&self, path: &Path) -> Verdict {
        for (place, list, key) in [
            (Place::Hidden, &self.hidden, "hidden"),
            (Place::Local, &self.local, "local"),
            (Place::Remote, &self.remote, "remote"),
        ] {
            if let Some(pattern) = list.iter().find(|pattern| pattern.matches(path)) {
                return Verdict::new(place, format!("files.{key} lists {}", pattern.source()));
            }
        }
        if let Some((from, _)) = self.map.iter().find(|(from, _)| path.starts_with(from)) {
            return Verdict::new(Place::Remote, format!("files.map maps {}", from.display()));
        }
        if below(path, HIDDEN_NAME_SERVICES) {
            return Verdict::new(Place::Hidden, "names are answered by the pod, so local name services are hidden");
        }
        if self.mode == FileMode::Local {
            return Verdict::new(Place::Local, "files.mode is local");
        }
        if below(path, IDENTITY) {
            return Verdict::new(Place::Remote, "says who and where the pod is");
        }
        if let Some(volume) = self.volumes.iter().find(|volume| path.starts_with(volume)) {
            return Verdict::new(Place::Remote, format!("the pod mounts a volume at {}", volume.display()));
        }
        if below(path, SYSTEM) {
            return Verdict::new(Place::Local, "programs, libraries and kernel interfaces are local");
        }
        if let Some(kept) = self.kept.iter().find(|kept| path.starts_with(kept)) {
            return Verdict::new(Place::Local, format!("{} is the developer's", kept.display()));
        }
        if below(path, DEVELOPER) {
            return Verdict::new(Place::Local, "a developer's or machine's own directory");
        }
        if path == Path::new("/") {
            return Verdict::new(Place::Local, "the root lists both");
        }
        Verdict::new(Place::Remote, "not a system or developer path")
    }

    /// The path in the pod that `path` stands for.
    #[must_use]
    pub fn in_pod(&self, path: &Path) -> PathBuf {
        for (from, to) in &self.map {
            if let Ok(rest) = path.strip_prefix(from) {
                return if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
            }
        }
        path.to_owned()
    }
}

fn below(path: &Path, list: &[&str]) -> bool {
    list.iter().any(|prefix| path.starts_with(prefix))
}
