//! Changes of the pod's files where they are mounted aside: the caller's own call, made here, with the paths that it means and
//! copies of what else it points to. Whether something may be written is the view's to say.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rules::Place;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::astray::{self, meant};
use crate::calls::{self, Action, More, PathAction};
use crate::context::Context;
use crate::files::{Files, Meant, PathError};
use crate::led::{Led, can_be_opened};
use crate::notification::Pending;
use crate::path_call::{Request, opened_by, wanted_mode};
use crate::sys::call::{Argument, change as call};
use crate::sys::process::with_umask;
use crate::task::Task;

/// `XATTR_SIZE_MAX`.
const MOST_VALUE: usize = 64 << 10;

/// A call on `path`, which the rules say is the pod's.
pub(crate) fn change(context: &Arc<Context>, pending: Pending, request: Request, path: PathBuf) {
    if let Some(result) = context.undelivered.take(&pending) {
        return pending.finish(result);
    }
    let first = (path, request.follow);
    let PathAction::Write {
        second: Some((directory, at)),
        ..
    } = request.action
    else {
        let then = context.clone();
        return context.workers.run(move || match request.opens() {
            true => open(&then, pending, request, &first.0),
            false => make(&then, pending, request, &first, None),
        });
    };
    let written = match pending.memory().read_path(pending.pointer(at)) {
        Ok(written) => written,
        Err(errno) => return pending.fail(errno),
    };
    let end = end(&written);
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
            match located {
                Ok((path, verdict)) if verdict.place == Place::Remote => {
                    let then = context.clone();
                    context
                        .workers
                        .run(move || make(&then, pending, request, &first, Some((&path, end))));
                }
                // As between file systems: `mv` copies then.
                Ok(_) => pending.fail(Errno::XDEV),
                Err(errno) => pending.fail(errno),
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
struct Spot {
    name: CString,
    _directory: Option<OwnedFd>,
}

impl Spot {
    /// Waits for the server: for a worker.
    fn find(files: &Files, path: &Path, follow: bool, end: &str) -> Result<Self, Errno> {
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

fn open(context: &Context, pending: Pending, request: Request, path: &Path) {
    let found = Spot::find(&context.files, path, request.follow, request.end).and_then(|spot| {
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(there) = rustix::fs::open(spot.path(), look, Mode::empty()) {
            can_be_opened(&there)?;
        }
        let (mode, _) = wanted_mode(&pending, request.action)?;
        Ok((spot, mode, Task::of(pending.tid()).umask()?))
    });
    match found {
        // Dropped unanswered the call fails, which it does only where a thread may not have a umask of its own.
        Ok((spot, mode, mask)) => drop(with_umask(mask, || opened_by(pending, request, spot.path(), mode))),
        Err(errno) => pending.fail(errno),
    }
}

fn make(context: &Context, pending: Pending, request: Request, first: &(PathBuf, bool), second: Option<(&Path, &str)>) {
    let result = made(&context.files, &pending, request, first, second);
    let (tid, made) = (pending.tid(), Made::of(&pending, result));
    if pending.deliver(result).is_err() {
        context.undelivered.keep(tid, made);
    }
}

fn made(
    files: &Files,
    pending: &Pending,
    request: Request,
    (path, follow): &(PathBuf, bool),
    second: Option<(&Path, &str)>,
) -> Result<i64, Errno> {
    let row = calls::of(pending.number()).map(|row| row.action);
    let (
        Some(Action::Path(row)),
        PathAction::Write {
            second: other, more, ..
        },
    ) = (row, request.action)
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
    arguments[row.path] = Argument::Text(&spot.name);
    if let (Some((_, at)), Some(target)) = (other, &target) {
        arguments[at] = Argument::Text(&target.name);
    }
    if let Some((at, text)) = &text {
        arguments[*at] = Argument::Text(text);
    }
    if let Some((at, bytes)) = &bytes {
        arguments[*at] = Argument::Bytes(bytes);
    }
    with_umask(Task::of(pending.tid()).umask()?, || call(pending.number(), arguments))?
}

/// Changes of which their callers do not know: a signal took them out of the call, which they make again as soon as that is
/// handled, and which must not be told then that the name is there already.
#[derive(Default)]
pub(crate) struct Undelivered(Mutex<HashMap<u32, Made>>);

/// Threads that are remembered; a thread that is gone stays until then.
const MOST: usize = 256;

struct Made {
    number: i64,
    arguments: [u64; 6],
    result: Result<i64, Errno>,
}

impl Made {
    fn of(pending: &Pending, result: Result<i64, Errno>) -> Self {
        Self {
            number: pending.number(),
            arguments: std::array::from_fn(|at| pending.argument(at)),
            result,
        }
    }
}

impl Undelivered {
    fn keep(&self, tid: u32, made: Made) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(tid, made);
    }

    /// What the same call of the same thread came to, if it has made no other since.
    fn take(&self, pending: &Pending) -> Option<Result<i64, Errno>> {
        let made = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&pending.tid())?;
        let same = made.number == pending.number() && (0..6).all(|at| made.arguments[at] == pending.argument(at));
        same.then_some(made.result)
    }
}
