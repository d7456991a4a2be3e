//! Paths: which come from the pod's file system.

use std::path::{Component, Path, PathBuf};

use globset::GlobMatcher;
use regex::bytes::{Regex, RegexBuilder};

use crate::{PatternError, Place, Verdict, request};

/// How files are served when no list names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileMode {
    /// Everything local but what `remote` lists.
    Local,
    /// The pod's volumes and every path that is not a system or developer path, read-only.
    #[default]
    Read,
    /// The same paths, and what the app writes there is written in the pod.
    Write,
    /// The same paths, and what the app writes there is kept on this machine.
    WriteLocal,
}

/// A path (`/data/models`), a glob (`/data/**/*.d`) or a regular expression (`re:^/data/[0-9]+`) that is searched in the
/// whole path: what it names and everything below that.
#[derive(Debug, Clone)]
pub enum PathPattern {
    Prefix(PathBuf),
    Glob(GlobMatcher),
    Regex(Regex),
}

impl PathPattern {
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        match self {
            Self::Prefix(prefix) => path.starts_with(prefix),
            // Above too: what lies below a hidden or local directory must not be reached around it.
            Self::Glob(glob) => path.ancestors().any(|path| glob.is_match(path)),
            Self::Regex(regex) => path
                .ancestors()
                .any(|path| regex.is_match(path.as_os_str().as_encoded_bytes())),
        }
    }

    /// # Errors
    /// When it is not a regular expression, or too large.
    pub fn regex(pattern: &str) -> Result<Self, PatternError> {
        request::compiled(&mut RegexBuilder::new(pattern), pattern).map(Self::Regex)
    }

    /// The path that it names, where it is one.
    #[must_use]
    pub fn prefix(&self) -> Option<&Path> {
        match self {
            Self::Prefix(prefix) => Some(prefix),
            Self::Glob(_) | Self::Regex(_) => None,
        }
    }

    /// A directory below which (or which itself is) everything that it can match.
    #[must_use]
    pub fn within(&self) -> PathBuf {
        let literal = match self {
            Self::Prefix(prefix) => return prefix.clone(),
            Self::Glob(glob) => literal(glob.glob().glob(), &['*', '?', '[', '{', '\\']),
            Self::Regex(regex) => match regex.as_str().strip_prefix('^') {
                Some(pattern) if !pattern.contains('|') => {
                    let start = literal(pattern, &['*', '?', '[', '{', '\\', '+', '.', '(', ')', '$', '^']);
                    // What follows may make the last character one that need not be there.
                    start.get(..start.len().saturating_sub(1)).unwrap_or_default()
                }
                _ => "",
            },
        };
        let end = literal.rfind('/').unwrap_or(0);
        Path::new("/").join(literal[..end].trim_start_matches('/'))
    }

    #[must_use]
    pub fn source(&self) -> String {
        match self {
            Self::Prefix(prefix) => prefix.display().to_string(),
            Self::Glob(glob) => glob.glob().glob().to_owned(),
            Self::Regex(regex) => format!("re:{regex}"),
        }
    }
}

/// What comes before the first character that means something else than itself.
fn literal<'a>(pattern: &'a str, special: &[char]) -> &'a str {
    &pattern[..pattern.find(special).unwrap_or(pattern.len())]
}

/// Kernel interfaces: the machine's, whatever the pod mounts there.
pub const KERNEL: &[&str] = &["/proc", "/sys", "/dev"];

/// Paths below these are the machine's without fallback: programs and libraries. Mixing the pod's into local programs would
/// crash them, and start-up probes dozens of absent paths there. A volume of the pod wins only when it is mounted deeper than
/// the deepest entry (`/usr/share/nginx/html` is the pod's, a volume at `/usr/lib` is not).
pub const SYSTEM: &[&str] = &[
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/libx32",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/sbin",
    "/usr/share",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/bin",
    "/sbin",
    "/opt",
    "/boot",
    "/nix",
    "/snap",
];

/// Paths below these are the developer's, unless the pod mounts a volume there.
pub const DEVELOPER: &[&str] = &[
    "/etc",
    "/home",
    "/root",
    "/tmp",
    "/run",
    "/var/run",
    "/var/tmp",
    "/var/lib",
    "/var/cache",
    "/var/log",
    "/var/spool",
    "/mnt",
    "/media",
    "/lost+found",
];

/// Directories everyone writes to. Pods with a read-only root mount an empty volume exactly there; the app's own scratch
/// files must not meet it, so only volumes mounted deeper are the pod's.
pub const SCRATCH: &[&str] = &[
    "/etc",
    "/home",
    "/tmp",
    "/run",
    "/var/run",
    "/var/tmp",
    "/var/cache",
    "/var/log",
];

/// Always the pod's while any file is remote: they say who and where the app is.
pub const IDENTITY: &[&str] = &[
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/run/secrets",
    "/var/run/secrets",
];

/// Sockets of local name services: hidden, or names would be answered by the machine.
pub const HIDDEN_NAME_SERVICES: &[&str] = &[
    "/run/nscd",
    "/var/run/nscd",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/avahi-daemon/socket",
    "/var/run/avahi-daemon/socket",
];

/// Which paths are the pod's.
#[derive(Debug, Clone, Default)]
pub struct FileRules {
    pub mode: FileMode,
    pub remote: Vec<PathPattern>,
    /// The pod's, and writable in any mode.
    pub write: Vec<PathPattern>,
    pub local: Vec<PathPattern>,
    pub hidden: Vec<PathPattern>,
    /// Path as the app says it (key) to path in the pod (value), by prefix; the longest one counts.
    pub map: Vec<(PathBuf, PathBuf)>,
    /// Mount points of the pod's volumes: known once the agent has answered.
    pub volumes: Vec<PathBuf>,
    /// Where the pod has files that do not say how long they are, as in /proc: known once the agent has answered.
    pub sizeless: Vec<PathBuf>,
    /// The working directory, the program and what else of this machine must stay: filled in at launch.
    pub kept: Vec<PathBuf>,
    /// Names are answered by this machine (`dns.on` is false), so its name services stay visible.
    pub local_names: bool,
}

impl FileRules {
    /// Decides an absolute path that has no `.` or `..` in it. Lists first (hidden, local, write, remote), then `map`, then the
    /// mode; there the deepest of the pod's volumes, kept paths and well-known directories decides.
    #[must_use]
    pub fn decide(&self, path: &Path) -> Verdict {
        if !path.is_absolute() {
            return Verdict::new(Place::Local, "a relative path is decided where it leads");
        }
        for (place, list, key) in [
            (Place::Hidden, &self.hidden, "hidden"),
            (Place::Local, &self.local, "local"),
            (Place::Remote, &self.write, "write"),
            (Place::Remote, &self.remote, "remote"),
        ] {
            if let Some(pattern) = list.iter().find(|pattern| pattern.matches(path)) {
                return Verdict::new(place, format!("files.{key} lists {}", pattern.source()));
            }
        }
        if let Some((from, _)) = self.mapping(path) {
            return Verdict::new(Place::Remote, format!("files.map maps {}", from.display()));
        }
        if !self.local_names && below(path, HIDDEN_NAME_SERVICES) {
            return Verdict::new(
                Place::Hidden,
                "names are answered by the pod, so local name services are hidden",
            );
        }
        if self.mode == FileMode::Local {
            return Verdict::new(Place::Local, "files.mode is local");
        }
        if below(path, KERNEL) {
            return Verdict::new(Place::Local, "kernel interfaces are local");
        }
        if below(path, IDENTITY) {
            return Verdict::new(Place::Remote, "says who and where the pod is");
        }
        if path == Path::new("/") {
            return Verdict::new(Place::Local, "the root lists both");
        }
        self.decide_by_depth(path)
    }

    /// Whether the app may change what is at a path of the pod: if the target's user may, which the pod decides.
    #[must_use]
    pub fn is_writable(&self, path: &Path) -> bool {
        let named = || self.mode == FileMode::Write || self.write.iter().any(|pattern| pattern.matches(path));
        self.may_write() && self.decide(path).place == Place::Remote && named()
    }

    /// Whether what the app changes at a path of the pod is kept on this machine; what `write` lists is the pod's.
    #[must_use]
    pub fn is_kept_here(&self, path: &Path) -> bool {
        self.mode == FileMode::WriteLocal && self.decide(path).place == Place::Remote && !self.is_writable(path)
    }

    /// Whether there can be a path that [`Self::is_writable`].
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.mode == FileMode::Write || !self.write.is_empty()
    }

    /// Whether there can be a path that leads to what `sizeless` lists; never wrongly false.
    #[must_use]
    pub fn shows_sizeless(&self) -> bool {
        self.sizeless.iter().any(|place| self.shows(place))
    }

    /// Whether there can be a path of the app for one in the pod, or for anything below it.
    fn shows(&self, pod: &Path) -> bool {
        let meets = |path: &Path| path.starts_with(pod) || pod.starts_with(path);
        let remote = |path: &Path| self.decide(path).place == Place::Remote;
        let patterns = self.write.iter().chain(&self.remote);
        let mut vague = patterns.filter(|pattern| pattern.prefix().is_none());
        remote(pod)
            || self.named_paths().any(|named| named.starts_with(pod) && remote(&named))
            || self.map.iter().any(|(_, to)| meets(to))
            || vague.any(|pattern| meets(&pattern.within()))
    }

    fn decide_by_depth(&self, path: &Path) -> Verdict {
        let volume = deepest(path, &self.volumes);
        let kept = deepest(path, &self.kept);
        let system = deepest_of(path, SYSTEM);
        let developer = deepest_of(path, DEVELOPER);
        let scratch = deepest_of(path, SCRATCH);
        let local = [kept, system, scratch].into_iter().map(depth).max().unwrap_or(0);
        if let Some(volume) = volume.filter(|_| depth(volume) > local && depth(volume) >= depth(developer)) {
            return Verdict::new(
                Place::Remote,
                format!("the pod mounts a volume at {}", volume.display()),
            );
        }
        if system.is_some() {
            return Verdict::new(Place::Local, "programs and libraries are local");
        }
        if let Some(kept) = kept {
            return Verdict::new(Place::Local, format!("{} is the developer's", kept.display()));
        }
        if developer.is_some() {
            return Verdict::new(Place::Local, "a developer's or machine's own directory");
        }
        Verdict::new(Place::Remote, "not a system or developer path")
    }

    /// Every path that a rule names, so that between two of them no decision changes. Globs and regular expressions name none.
    pub fn named_paths(&self) -> impl Iterator<Item = PathBuf> {
        let known = [KERNEL, SYSTEM, DEVELOPER, SCRATCH, IDENTITY, HIDDEN_NAME_SERVICES];
        let listed = (self.remote.iter().chain(&self.write))
            .chain(&self.local)
            .chain(&self.hidden);
        let prefixes = listed.filter_map(PathPattern::prefix).map(Path::to_owned);
        let known = known.into_iter().flatten().map(PathBuf::from);
        let mapped = self.map.iter().map(|(from, _)| from.clone());
        (known.chain(prefixes).chain(mapped)).chain(self.volumes.iter().chain(&self.kept).cloned())
    }

    /// Whether the way to a place of this machine leads through `path`: it is there, then, even if the pod lacks it.
    #[must_use]
    pub fn leads_to_local(&self, path: &Path) -> bool {
        self.named_paths()
            .any(|named| named != path && named.starts_with(path) && self.decide(&named).place == Place::Local)
    }

    /// The path in the pod that `path` stands for.
    #[must_use]
    pub fn in_pod(&self, path: &Path) -> PathBuf {
        match self.mapping(path) {
            Some((from, to)) => match path.strip_prefix(from) {
                Ok(rest) if !rest.as_os_str().is_empty() => to.join(rest),
                _ => to.clone(),
            },
            None => path.to_owned(),
        }
    }

    fn mapping(&self, path: &Path) -> Option<&(PathBuf, PathBuf)> {
        let matching = self.map.iter().filter(|(from, _)| path.starts_with(from));
        matching.max_by_key(|(from, _)| from.components().count())
    }
}

/// An absolute path without `.`, `..` and doubled slashes, as it is written; `..` does not leave the root.
#[must_use]
pub fn normal(path: &Path) -> PathBuf {
    let mut whole = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => whole.push(name),
            Component::ParentDir => {
                whole.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    whole
}

fn below(path: &Path, list: &[&str]) -> bool {
    list.iter().any(|prefix| under(path, prefix))
}

/// As [`Path::starts_with`] for a prefix without trailing slash, but without parsing components: this is asked for every
/// path of the app.
fn under(path: &Path, prefix: &str) -> bool {
    let rest = path.as_os_str().as_encoded_bytes().strip_prefix(prefix.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// The longest of `list` that `path` is or lies below.
fn deepest_of(path: &Path, list: &'static [&'static str]) -> Option<&'static Path> {
    list.iter()
        .filter(|prefix| under(path, prefix))
        .max_by_key(|prefix| prefix.len())
        .map(Path::new)
}

fn deepest<'a>(path: &Path, prefixes: &'a [PathBuf]) -> Option<&'a Path> {
    let matching = prefixes.iter().filter(|prefix| path.starts_with(prefix));
    matching.max_by_key(|prefix| depth(Some(prefix))).map(PathBuf::as_path)
}

/// Of two prefixes of one path the longer is the deeper; 0 where there is none.
fn depth(path: Option<&Path>) -> usize {
    path.map_or(0, |path| path.as_os_str().len())
}
