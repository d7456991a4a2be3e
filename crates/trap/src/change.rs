//! Changes of the pod's files where they are mounted aside: the caller's own call, made here, with the paths that it means and
//! copies of what else it points to. Whether something may be written is the view's to say.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rules::Place;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::astray::{self, meant};
use crate::calls::{self, Action, More, PathAction, PathCall};
use crate::context::Context;
use crate::files::{Files, Meant, PathError};
use crate::led::{Led, can_be_opened};
use crate::notification::{Gone, Pending};
use crate::path_call::{Request, wanted_mode};
use crate::sys::call::{Argument, change as call};
use crate::sys::process::with_umask;
use crate::task::Task;

/// `XATTR_SIZE_MAX`.
const MOST_VALUE: usize = 64 << 10;

/// A call on `path`, which the rules say is the pod's.
pub(crate) fn change(context: &Arc<Context>, pending: Pending, request: Request, path: PathBuf) {
    let change = match Change::begin(context, pending, request) {
        Ok(change) => change,
        Err((pending, errno)) => return pending.fail(errno),
    };
    let first = (path, request.follow);
    let other = match request.action {
        _ if change.is_known() => return change.run(context, |_, _| Err(Errno::IO)),
        PathAction::Write {
            second: Some((directory, at)),
            ..
        } => (directory, at),
        _ if request.opens() => {
            return change.run(context, move |files, pending| open(files, pending, request, &first.0));
        }
        _ => {
            return change.run(context, move |files, pending| {
                call_again(files, pending, request, &first, None)
            });
        }
    };
    let (directory, written) = (other.0, change.made.written[1].clone());
    let Change { pending, made, making } = change;
    meant(
        context,
        pending,
        directory,
        &written,
        false,
        move |context, pending, meant| {
            let located = match meant {
                Ok(Meant { path, .. }) => context.files.locate(path, false),
                Err(PathError::Errno(errno)) => Err(errno),
                Err(PathError::Empty) => Err(Errno::NOENT),
            };
            let change = Change { pending, made, making };
            match located {
                Ok((path, verdict)) if verdict.place == Place::Remote => {
                    let end = end(&change.made.written[1]);
                    change.run(context, move |files, pending| {
                        call_again(files, pending, request, &first, Some((&path, end)))
                    });
                }
                // As between file systems: `mv` copies then.
                Ok(_) => change.tell(Err(Errno::XDEV)),
                Err(errno) => change.tell(Err(errno)),
            }
        },
    );
}

/// What the end of a path, as it was written, says that its components do not: it must be a directory's.
pub(crate) fn end(written: &[u8]) -> &'static str {
    match written {
        [.., b'/'] => "/",
        [.., b'/', b'.'] => "/.",
        _ => "",
    }
}

/// A name that the kernel finds from anywhere, as long as this is kept.
pub(crate) struct Spot {
    pub(crate) name: CString,
    _directory: Option<OwnedFd>,
}

impl Spot {
    /// Waits for the server: for a worker.
    pub(crate) fn find(files: &Files, path: &Path, follow: bool, end: &str) -> Result<Self, Errno> {
        let (place, directory) = match files.lead_new(path, follow)? {
            // It matters who asks.
            Led::Machine(path) if astray::is_the_callers(&path) => return Err(Errno::ACCESS),
            Led::Machine(path) => (path, None),
            Led::Pod(path) => {
                let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(Errno::BUSY);
                };
                let directory = files.open_in_view(above, OFlags::PATH | OFlags::DIRECTORY)?;
                let place = format!("/proc/self/fd/{}", directory.as_raw_fd());
                (Path::new(&place).join(name), Some(directory))
            }
        };
        let name = [place.as_os_str().as_bytes(), end.as_bytes()].concat();
        Ok(Self {
            name: CString::new(name).map_err(|_| Errno::INVAL)?,
            _directory: directory,
        })
    }

    fn path(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(self.name.as_bytes()))
    }
}

fn open(files: &Files, pending: &Pending, request: Request, path: &Path) -> Outcome {
    let spot = Spot::find(files, path, request.follow, request.end)?;
    let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let is_new = request.open.contains(OFlags::CREATE | OFlags::EXCL);
    match rustix::fs::open(spot.path(), look, Mode::empty()) {
        Ok(there) if !is_new => can_be_opened(&there)?,
        _ => {}
    }
    let (mode, _) = wanted_mode(pending, request.action)?;
    let flags = request.installable(pending).open | OFlags::CLOEXEC | OFlags::NOCTTY;
    let mode = Mode::from_raw_mode(mode as u32 & 0o7777);
    let file = with_umask(Task::of(pending.tid()).umask()?, || {
        rustix::fs::open(spot.path(), flags, mode)
    })??;
    Ok(Came::Open(Arc::new(file), request.open.contains(OFlags::CLOEXEC)))
}

fn row(pending: &Pending) -> Result<PathCall, Errno> {
    match calls::of(pending.number()).map(|row| row.action) {
        Some(Action::Path(row)) => Ok(row),
        _ => Err(Errno::NOSYS),
    }
}

fn call_again(
    files: &Files,
    pending: &Pending,
    request: Request,
    (path, follow): &(PathBuf, bool),
    second: Option<(&Path, &str)>,
) -> Outcome {
    let PathAction::Write {
        second: other, more, ..
    } = request.action
    else {
        return Err(Errno::NOSYS);
    };
    let spot = Spot::find(files, path, *follow, request.end)?;
    let target = second
        .map(|(path, end)| Spot::find(files, path, false, end))
        .transpose()?;
    let memory = pending.memory();
    let text = |at: usize| CString::new(memory.read_path(pending.pointer(at))?).map_err(|_| Errno::INVAL);
    let (text, bytes) = match more {
        More::Nothing => (None, None),
        More::Text(at) => (Some((at, text(at)?)), None),
        More::Bytes(at, _) if pending.pointer(at).is_null() => (None, None),
        More::Bytes(at, length) => (None, Some((at, memory.read_vec(pending.pointer(at), length)?))),
        More::Value { name, value, size } => {
            let length = usize::try_from(pending.argument(size)).unwrap_or(usize::MAX);
            if length > MOST_VALUE {
                return Err(Errno::TOOBIG);
            }
            let bytes = memory.read_vec(pending.pointer(value), length)?;
            (Some((name, text(name)?)), Some((value, bytes)))
        }
    };
    let mut arguments: [Argument<'_>; 6] = std::array::from_fn(|at| Argument::Number(pending.argument(at)));
    arguments[row(pending)?.path] = Argument::Text(&spot.name);
    if let (Some((_, at)), Some(target)) = (other, &target) {
        arguments[at] = Argument::Text(&target.name);
    }
    if let Some((at, text)) = &text {
        arguments[*at] = Argument::Text(text);
    }
    if let Some((at, bytes)) = &bytes {
        arguments[*at] = Argument::Bytes(bytes);
    }
    let umask = Task::of(pending.tid()).umask()?;
    with_umask(umask, || call(pending.number(), arguments))?.map(Came::Value)
}

/// Changes of which their callers do not know yet: a signal takes them out of the call, which they make again as soon as that is
/// handled, and which must not be made twice.
#[derive(Default)]
pub(crate) struct Undelivered(Mutex<HashMap<u32, Arc<Made>>>);

/// How long a change is remembered that nobody has asked for again.
const KEPT: Duration = Duration::from_secs(10);
/// The same of one that was told while signals waited: the kernel may have dropped the answer, see `listen::bind`.
const UNSEEN: Duration = Duration::from_millis(20);

/// One change of a thread: what it asked, and what came of it.
struct Made {
    number: i64,
    arguments: [u64; 6],
    written: [Vec<u8>; 2],
    outcome: Mutex<Option<Outcome>>,
    /// It is asked for again until then, or not at all; `None` while it is being made.
    until: Mutex<Option<Instant>>,
    done: Condvar,
}

type Outcome = Result<Came, Errno>;

#[derive(Clone)]
enum Came {
    Value(i64),
    /// And whether it is closed on exec.
    Open(Arc<OwnedFd>, bool),
}

impl Made {
    fn of(pending: &Pending, request: Request) -> Result<Self, Errno> {
        let read = |at: usize| pending.memory().read_path(pending.pointer(at));
        let second = match request.action {
            PathAction::Write {
                second: Some((_, at)), ..
            } => read(at)?,
            _ => Vec::new(),
        };
        Ok(Self {
            number: pending.number(),
            arguments: std::array::from_fn(|at| pending.argument(at)),
            written: [read(row(pending)?.path)?, second],
            outcome: Mutex::default(),
            until: Mutex::default(),
            done: Condvar::new(),
        })
    }

    fn asks_the_same(&self, other: &Self) -> bool {
        (self.number, self.arguments, &self.written) == (other.number, other.arguments, &other.written)
    }

    fn is_over(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until <= Instant::now())
    }

    /// Or less, if that was said before: who has been told does not ask.
    fn remember_for(&self, time: Duration) {
        let new = Instant::now() + time;
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = Some(until.map_or(new, |until| until.min(new)));
    }

    fn outcome(&self) -> MutexGuard<'_, Option<Outcome>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, outcome: Outcome) {
        self.outcome().get_or_insert(outcome);
        self.done.notify_all();
    }

    fn wait(&self) -> Outcome {
        let mut outcome = self.outcome();
        loop {
            match &*outcome {
                Some(outcome) => return outcome.clone(),
                None => outcome = self.done.wait(outcome).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Held by who is to make a change: whoever waits for it learns also that it never will be made.
struct Making(Arc<Made>);

impl Drop for Making {
    fn drop(&mut self) {
        self.0.end(Err(Errno::IO));
    }
}

/// A call on its way.
struct Change {
    pending: Pending,
    made: Arc<Made>,
    /// `None`: the same call was begun before, by the same thread.
    making: Option<Making>,
}

impl Change {
    /// Where calls arrive in their order: the call that is made again must not be begun before the first.
    fn begin(context: &Context, pending: Pending, request: Request) -> Result<Self, (Pending, Errno)> {
        let new = match Made::of(&pending, request) {
            Ok(new) => new,
            Err(errno) => return Err((pending, errno)),
        };
        let mut all = context.undelivered.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, made| !made.is_over());
        if let Some(made) = all.get(&pending.tid()).filter(|made| made.asks_the_same(&new)) {
            let made = Arc::clone(made);
            return Ok(Self {
                pending,
                made,
                making: None,
            });
        }
        let made = Arc::new(new);
        all.insert(pending.tid(), Arc::clone(&made));
        let making = Some(Making(Arc::clone(&made)));
        Ok(Self { pending, made, making })
    }

    fn is_known(&self) -> bool {
        self.making.is_none()
    }

    /// Makes it, unless it was made, and tells what came of it.
    fn run(self, context: &Arc<Context>, make: impl FnOnce(&Files, &Pending) -> Outcome + Send + 'static) {
        let then = Arc::clone(context);
        context.workers.run(move || {
            let outcome = match &self.making {
                Some(_) => make(&then.files, &self.pending),
                None => self.made.wait(),
            };
            self.tell(outcome);
        });
    }

    fn tell(self, outcome: Outcome) {
        // Known before the answer: it is handled at once then.
        let is_signalled = Task::of(self.pending.tid()).is_signalled();
        self.made.end(outcome.clone());
        let delivered = match outcome {
            Ok(Came::Value(value)) => self.pending.deliver(Ok(value)),
            Ok(Came::Open(file, close_on_exec)) => self.pending.descriptor(&file, close_on_exec),
            Err(errno) => self.pending.deliver(Err(errno)),
        };
        self.made.remember_for(match delivered {
            Ok(()) if is_signalled => UNSEEN,
            Ok(()) => Duration::ZERO,
            Err(Gone) => KEPT,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(number: i64, written: &str) -> Made {
        Made {
            number,
            arguments: [7; 6],
            written: [written.into(), Vec::new()],
            outcome: Mutex::default(),
            until: Mutex::default(),
            done: Condvar::new(),
        }
    }

    #[test]
    fn the_end_of_a_path_says_that_it_is_a_directory_s() {
        for (written, expect) in [
            ("a", ""),
            ("/a/b/", "/"),
            ("a/.", "/."),
            (".", ""),
            ("a/..", ""),
            ("", ""),
        ] {
            assert_eq!(end(written.as_bytes()), expect, "{written}");
        }
    }

    #[test]
    fn a_change_is_known_by_all_that_it_asks() {
        let first = made(libc::SYS_mkdir, "a");
        assert!(first.asks_the_same(&made(libc::SYS_mkdir, "a")));
        // Another path at the same address.
        assert!(!first.asks_the_same(&made(libc::SYS_mkdir, "b")));
        assert!(!first.asks_the_same(&made(libc::SYS_rmdir, "a")));
    }

    #[test]
    fn who_was_told_does_not_ask_again() {
        let change = made(libc::SYS_mkdir, "a");
        assert!(!change.is_over(), "it is being made");
        change.remember_for(KEPT);
        assert!(!change.is_over());
        change.remember_for(Duration::ZERO);
        change.remember_for(KEPT);
        assert!(change.is_over());
    }

    #[test]
    fn a_change_that_is_never_made_is_an_error() {
        let change = Arc::new(made(libc::SYS_mkdir, "a"));
        drop(Making(Arc::clone(&change)));
        assert!(matches!(change.wait(), Err(Errno::IO)));
    }
}
