//! Changes of the pod's files where they are mounted aside: the caller's own call, made here, with the paths that it means and
//! copies of what else it points to. Whether something may be written is the view's to say.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rules::Place;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::astray::{self, meant};
use crate::calls::{self, Action, More, PathAction, PathCall};
use crate::context::Context;
use crate::files::{Files, Meant, PathError};
use crate::led::{Led, can_be_opened};
use crate::notification::Pending;
use crate::path_call::{Request, open_as_asked, wanted_mode};
use crate::sys::call::{Argument, change as call};
use crate::sys::process::with_umask;
use crate::task::Task;
use crate::undelivered::{Asked, Came, Change, Outcome};

/// `XATTR_SIZE_MAX`.
const MOST_VALUE: usize = 64 << 10;

/// A call on `path`, which the rules say is the pod's.
pub(crate) fn change(context: &Arc<Context>, pending: Pending, request: Request, path: PathBuf) {
    let asked = match asked(&pending, request) {
        Ok(asked) => asked,
        Err(errno) => return pending.fail(errno),
    };
    let written = asked.written[1].clone();
    let Some(change) = context.undelivered.begin(pending, asked) else {
        return;
    };
    let first = (path, request.follow);
    let Some((directory, _)) = request.action.second() else {
        return run(context, change, move |files, pending| match request.opens() {
            true => open(files, pending, request, &first.0),
            false => call_again(files, pending, request, &first, None),
        });
    };
    let end = end(&written);
    let (pending, begun) = change.apart();
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
            let change = begun.with(pending);
            match located {
                Ok((path, verdict)) if verdict.place == Place::Remote => run(context, change, move |files, pending| {
                    call_again(files, pending, request, &first, Some((&path, end)))
                }),
                // As between file systems: `mv` copies then.
                Ok(_) => change.end(&context.undelivered, Err(Errno::XDEV)),
                Err(errno) => change.end(&context.undelivered, Err(errno)),
            }
        },
    );
}

/// What tells the call from every other.
fn asked(pending: &Pending, request: Request) -> Result<Asked, Errno> {
    let read = |at: usize| pending.memory().read_path(pending.pointer(at));
    let second = request.action.second().map(|(_, at)| read(at)).transpose()?;
    Ok(Asked {
        number: pending.number(),
        arguments: std::array::from_fn(|at| pending.argument(at)),
        written: [read(row(pending)?.path)?, second.unwrap_or_default()],
    })
}

fn run(context: &Arc<Context>, change: Change, make: impl FnOnce(&Files, &Pending) -> Outcome + Send + 'static) {
    let then = Arc::clone(context);
    context.workers.run(move || {
        let outcome = make(&then.files, change.pending());
        change.end(&then.undelivered, outcome);
    });
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
    let umask = Task::of(pending.tid()).umask()?;
    let file = with_umask(umask, || open_as_asked(pending, request, spot.path(), mode))??;
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
    let PathAction::Write { more, .. } = request.action else {
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
    if let (Some((_, at)), Some(target)) = (request.action.second(), &target) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
