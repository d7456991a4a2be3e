//! Paths as the app says them, and where they lie on this machine.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use guest::paths::{NEVER_FOLLOWED, leads_on};
use rules::{Place, Plan, normal};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::notification::Pending;
use crate::task::Task;

/// How the pod's files are there for the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathView {
    /// In a mount namespace, at their places: path calls need no help.
    Native,
    /// In a mounted view: the remote path `P` lies at `root`/`P`.
    Translated { root: PathBuf },
    /// In a cache that the server fills on request: the remote path `P` lies at `root`/`P` once it was asked for.
    Copy { root: PathBuf },
}

impl PathView {
    /// Where the pod's paths lie, as the kernel calls it: without symlinks, though it may not be there yet.
    #[must_use]
    pub fn place(&self) -> Option<PathBuf> {
        let (Self::Translated { root } | Self::Copy { root }) = self else {
            return None;
        };
        let found = root
            .ancestors()
            .find_map(|above| Some((above, std::fs::canonicalize(above).ok()?)));
        let (above, real) = found?;
        // A path joined with nothing would end with a slash.
        Some(match root.strip_prefix(above) {
            Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
            _ => real,
        })
    }
}

/// The view and what is known of it.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) view: PathView,
    pub(crate) plan: Arc<Plan>,
    /// The view's root, opened once: remote paths are resolved inside of it.
    pub(crate) root: Option<OwnedFd>,
    /// Where it lies, see [`PathView::place`].
    place: Option<PathBuf>,
    /// What was decided about absolute paths as they were written: a program opens the same ones over and over, and a
    /// decision costs microseconds. The rules do not change, so neither does an entry.
    decided: Mutex<HashMap<Vec<u8>, Shortcut>>,
}

/// A decision that needs no further look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shortcut {
    /// Local, and below no symlink that could lead to the pod.
    Local,
    /// Local unless this machine's symlinks lead elsewhere.
    LocalUnlessLinked,
    /// Whatever needs the whole procedure.
    Full,
}

/// Most remembered decisions; then they are forgotten all at once.
const MOST_DECIDED: usize = 16_384;

/// Why there is no path to decide about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathError {
    /// The empty string: the call means its descriptor.
    Empty,
    Errno(Errno),
}

impl From<Errno> for PathError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// `MAXSYMLINKS`.
pub(crate) const MOST_LINKS: usize = 40;

impl Files {
    /// # Errors
    /// When the view's root cannot be opened.
    pub(crate) fn new(view: PathView, plan: Arc<Plan>) -> Result<Self, Errno> {
        let root = match &view {
            PathView::Translated { root } => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Some(rustix::fs::open(root, flags, Mode::empty())?)
            }
            PathView::Native | PathView::Copy { .. } => None,
        };
        Ok(Self {
            place: view.place(),
            view,
            plan,
            root,
            decided: Mutex::default(),
        })
    }

    /// Whether an absolute path, as it was written, is plainly this machine's. `follow`: its last component may be a link.
    pub(crate) fn is_plainly_local(&self, written: &[u8], follow: bool) -> bool {
        if written.first() != Some(&b'/') {
            return false;
        }
        let known = self
            .decided
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(written)
            .copied();
        let shortcut = known.unwrap_or_else(|| {
            let shortcut = self.shortcut(written);
            let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
            if decided.len() >= MOST_DECIDED {
                decided.clear();
            }
            decided.insert(written.to_vec(), shortcut);
            shortcut
        });
        match shortcut {
            Shortcut::Local => true,
            Shortcut::LocalUnlessLinked => !has_links(Path::new(OsStr::from_bytes(written)), follow),
            Shortcut::Full => false,
        }
    }

    fn shortcut(&self, written: &[u8]) -> Shortcut {
        let path = normal(Path::new(OsStr::from_bytes(written)));
        // With `..` a link on the way would change the meaning; a view's own path means the pod's, and a descriptor may.
        if written.windows(3).any(|part| part == b"/..") || leads_on(written) || self.in_view(&path).is_some() {
            return Shortcut::Full;
        }
        match self.plan.files.decide(&path).place {
            Place::Local if is_never_followed(&path) => Shortcut::Local,
            Place::Local => Shortcut::LocalUnlessLinked,
            Place::Remote | Place::Hidden => Shortcut::Full,
        }
    }

    /// The pod's path of a place inside of the view; `None` for any other place of this machine.
    pub(crate) fn in_view(&self, path: &Path) -> Option<PathBuf> {
        let rest = path.strip_prefix(self.place.as_ref()?).ok()?;
        Some(Path::new("/").join(rest))
    }

    /// A place on this machine as the app calls it: inside of the view it is the pod's path.
    pub(crate) fn as_app_says(&self, path: PathBuf) -> PathBuf {
        self.in_view(&path).unwrap_or(path)
    }

    /// Whether there can be a file of the pod's that is changed by its path in a mounted view.
    pub(crate) fn may_be_written(&self) -> bool {
        matches!(self.view, PathView::Translated { .. }) && self.plan.files.may_write()
    }

    /// Whether the pod's files are where the kernel finds them by itself.
    pub(crate) fn is_native(&self) -> bool {
        matches!(self.view, PathView::Native)
    }

    /// `..` taken out of a path below `base`, which has no symlinks; `None` where it must be known where a link of the way
    /// leads.
    fn back(&self, base: &Path, path: &Path) -> Option<PathBuf> {
        let mut done = base.to_owned();
        let mut named = false;
        for part in path.components() {
            match part {
                Component::Normal(name) => {
                    done.push(name);
                    named = true;
                }
                Component::ParentDir => {
                    let plain = !named
                        || is_never_followed(&done)
                        || (self.plan.files.decide(&done).place == Place::Local && !has_links(&done, true));
                    if !plain {
                        return None;
                    }
                    done.pop();
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Some(done)
    }

    /// Decides a normal path, and follows this machine's symlinks where they lead elsewhere. Returns the path decided on.
    pub(crate) fn locate(&self, path: PathBuf, follow: bool) -> Result<(PathBuf, rules::Verdict), Errno> {
        let verdict = self.plan.files.decide(&path);
        if verdict.place != Place::Local || is_never_followed(&path) || !has_links(&path, follow) {
            return Ok((path, verdict));
        }
        let real = self.follow(&path, follow)?;
        let verdict = self.plan.files.decide(&real);
        Ok((real, verdict))
    }

    /// Expands symlinks of this machine until the path is remote or has none.
    fn follow(&self, path: &Path, last: bool) -> Result<PathBuf, Errno> {
        let mut links = 0;
        let mut done = PathBuf::from("/");
        let mut left: Vec<std::ffi::OsString> = path.iter().rev().map(OsStr::to_owned).collect();
        // The root itself.
        left.pop();
        while let Some(name) = left.pop() {
            if name == ".." {
                done.pop();
                continue;
            }
            done.push(&name);
            if (left.is_empty() && !last) || self.plan.files.decide(&done).place == Place::Remote {
                continue;
            }
            let Ok(link) = rustix::fs::readlink(&done, Vec::new()) else {
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP);
            }
            let link = PathBuf::from(OsStr::from_bytes(link.as_bytes()));
            done.pop();
            if link.is_absolute() {
                done = PathBuf::from("/");
            }
            let parts = link
                .components()
                .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
            let parts: Vec<_> = parts.map(|part| part.as_os_str().to_owned()).collect();
            left.extend(parts.into_iter().rev());
        }
        Ok(done)
    }
}

fn is_never_followed(path: &Path) -> bool {
    NEVER_FOLLOWED.iter().any(|prefix| path.starts_with(prefix))
}

/// Whether a symlink is on the way, as far as the path exists; as the last component only when that is followed.
fn has_links(path: &Path, follow: bool) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC | if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Err(Errno::LOOP) => true,
        // Before Linux 5.6, and in gVisor.
        Err(Errno::NOSYS) => is_link_on_the_way(path, follow),
        _ => false,
    }
}

/// The same, step by step.
fn is_link_on_the_way(path: &Path, follow: bool) -> bool {
    let steps = path.ancestors().skip(usize::from(!follow));
    steps
        .filter_map(|step| step.symlink_metadata().ok())
        .any(|metadata| metadata.is_symlink())
}

/// A path as the app means it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meant {
    /// Whole, without `.` and `..`.
    pub(crate) path: PathBuf,
    /// The kernel would look elsewhere: below the view instead of at the app's place.
    pub(crate) astray: bool,
}

/// What is known of a path before links of the pod are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begun {
    Meant(Meant),
    /// `path` below `base` goes back over something that may be a link.
    Back {
        base: PathBuf,
        path: PathBuf,
        astray: bool,
    },
}

/// The path of a call. `follow`: its last component may be a link.
pub(crate) fn begin(
    files: &Files,
    pending: &Pending,
    directory: Option<usize>,
    written: &[u8],
    follow: bool,
) -> Result<Begun, PathError> {
    if written.is_empty() {
        return Err(PathError::Empty);
    }
    let path = Path::new(OsStr::from_bytes(written));
    if files.is_native() {
        let path = if path.is_absolute() {
            normal(path)
        } else {
            normal(&base(pending, directory)?.join(path))
        };
        return Ok(Begun::Meant(Meant { path, astray: false }));
    }
    let (base, path) = if !path.is_absolute() {
        (base(pending, directory)?, path)
    } else if leads_on(written)
        && let Some((base, rest)) = through_proc(files, pending.tid(), path, follow)
    {
        (base, rest)
    } else {
        // A view's own path, which the app may have from /proc, means the pod's.
        let whole = normal(path);
        if let Some(path) = files.in_view(&whole) {
            return Ok(Begun::Meant(Meant { path, astray: true }));
        }
        (PathBuf::from("/"), path)
    };
    let (base, astray) = match files.in_view(&base) {
        Some(said) => (said, true),
        None => (base, false),
    };
    Ok(match files.back(&base, path) {
        Some(path) => Begun::Meant(Meant { path, astray }),
        None => Begun::Back {
            base,
            path: path.to_owned(),
            astray,
        },
    })
}

/// Where relative paths of a call begin. The kernel says it without symlinks.
fn base(pending: &Pending, directory: Option<usize>) -> Result<PathBuf, PathError> {
    let task = Task::of(pending.tid());
    let base = match directory.map(|at| pending.int(at)) {
        None | Some(libc::AT_FDCWD) => task.directory()?,
        Some(number) => task.path_of(number)?,
    };
    if base.is_absolute() {
        Ok(base)
    } else {
        Err(PathError::Errno(Errno::NOTDIR))
    }
}

/// Where a path through a link of /proc leads ([`leads_on`]): what the link says, and the rest of the path. `None` where it
/// means the link itself, or a file that is not the pod's: its link may say anything (a deleted file, one without a name).
fn through_proc<'p>(files: &Files, tid: u32, path: &'p Path, follow: bool) -> Option<(PathBuf, &'p Path)> {
    let (link, rest) = if let Ok(rest) = path.strip_prefix("/dev/fd") {
        let mut parts = rest.components();
        let number = parts.next()?.as_os_str().to_str()?.parse().ok()?;
        (Task::of(tid).path_of(number), parts.as_path())
    } else {
        let mut parts = path.strip_prefix("/proc").ok()?.components();
        let mut name = || parts.next()?.as_os_str().to_str();
        let who = match name()? {
            "self" | "thread-self" => tid,
            number => number.parse().ok()?,
        };
        let (mut task, mut what) = (Task::of(who), name()?);
        if what == "task" {
            (task, what) = (Task::of(name()?.parse().ok()?), name()?);
        }
        let link = match what {
            "cwd" => task.directory(),
            "root" => task.root(),
            "fd" => task.path_of(name()?.parse().ok()?),
            _ => return None,
        };
        (link, parts.as_path())
    };
    let link = link.ok().filter(|link| link.is_absolute())?;
    let leads = !rest.as_os_str().is_empty() || (follow && files.in_view(&link).is_some());
    leads.then_some((link, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_on_the_way_are_found_step_by_step_too() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        std::fs::create_dir(at("real")).unwrap();
        std::fs::write(at("real/file"), "").unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        for (path, follow, expected) in [
            ("real/file", true, false),
            ("real/none", true, false),
            ("link", true, true),
            ("link", false, false),
            ("link/file", false, true),
        ] {
            assert_eq!(has_links(&at(path), follow), expected, "{path}");
            assert_eq!(is_link_on_the_way(&at(path), follow), expected, "{path}, by steps");
        }
    }

    #[test]
    fn symlinks_of_this_machine_lead_to_the_pod() {
        let directory = tempfile::tempdir().unwrap();
        let mut plan = Plan::default();
        plan.files.mode = rules::FileMode::Local;
        plan.files.remote.push(rules::PathPattern::Prefix("/data".into()));
        let files = Files::new(
            PathView::Copy {
                root: directory.path().join("copies"),
            },
            Arc::new(plan),
        )
        .unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/data/models", &link).unwrap();
        std::os::unix::fs::symlink("link", directory.path().join("second")).unwrap();
        std::os::unix::fs::symlink("loop", directory.path().join("loop")).unwrap();
        let (path, verdict) = files.locate(directory.path().join("second/x"), true).unwrap();
        assert_eq!(
            (path.as_path(), verdict.place),
            (Path::new("/data/models/x"), Place::Remote)
        );
        let (path, verdict) = files.locate(link.clone(), false).unwrap();
        assert_eq!((path, verdict.place), (link, Place::Local));
        assert_eq!(
            files.locate(directory.path().join("loop"), true).err(),
            Some(Errno::LOOP)
        );
    }
}
