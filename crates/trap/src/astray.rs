//! Paths of a program whose working directory, or whose directory descriptor, is the pod's: in the kernel it lies in the view,
//! so the kernel would look there for what the app means relative to the pod's directory. What is the pod's is served as
//! always; what is this machine's is done here, by its absolute path, or refused by name: never looked up in the view.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, mpsc};

use guest::event::Event;
use rules::Place;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use crate::calls::PathAction;
use crate::context::Context;
use crate::files::{Begun, Meant, PathError, PathView, begin};
use crate::notification::Pending;
use crate::path_call::{Request, act, fetch, open_as_asked, wanted_mode};
use crate::sys::structs;
use crate::task::Task;

/// Finds what the path of a call means and goes on with it: now, or later where it must be asked where a link of the pod
/// leads.
pub(crate) fn meant(
    context: &Arc<Context>,
    pending: Pending,
    directory: Option<usize>,
    written: &[u8],
    follow: bool,
    then: impl FnOnce(&Arc<Context>, Pending, Result<Meant, PathError>) + Send + 'static,
) {
    match begin(&context.files, &pending, directory, written, follow) {
        Ok(Begun::Meant(meant)) => then(context, pending, Ok(meant)),
        Err(error) => then(context, pending, Err(error)),
        Ok(Begun::Back { base, path, astray }) => {
            let context = context.clone();
            context.clone().workers.run(move || match back(&context, &base, &path) {
                Ok((whole, crossed)) => {
                    let astray = astray || crossed || whole != rules::normal(&base.join(&path));
                    then(&context, pending, Ok(Meant { path: whole, astray }));
                }
                Err(errno) => pending.fail(errno),
            });
        }
    }
}

/// Takes `..` out of a path as the kernel would: it leads from where a directory really lies. With it whether that was one of
/// the pod, which the kernel would not find.
fn back(context: &Arc<Context>, base: &Path, path: &Path) -> Result<(PathBuf, bool), Errno> {
    let mut done = base.to_owned();
    let mut crossed = false;
    for part in path.components() {
        match part {
            Component::Normal(name) => done.push(name),
            Component::ParentDir => {
                done = real(context, done)?;
                crossed |= context.files.plan.files.decide(&done).place == Place::Remote;
                done.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok((done, crossed))
}

/// A directory's path without symlinks. Waits for the server: for a worker.
fn real(context: &Arc<Context>, path: PathBuf) -> Result<PathBuf, Errno> {
    let (path, verdict) = context.files.locate(path, true)?;
    let place = match (verdict.place, &context.files.view) {
        (Place::Hidden, _) => return Err(Errno::NOENT),
        (Place::Local, _) | (Place::Remote, PathView::Native) => path,
        (Place::Remote, PathView::Translated { .. }) => {
            let led = context.files.lead(&path, true)?;
            led.open(&context.files, OFlags::PATH | OFlags::DIRECTORY)?;
            return Ok(led.path().to_owned());
        }
        (Place::Remote, PathView::Copy { .. }) => {
            let request = Request {
                action: PathAction::ChangeDirectory,
                follow: true,
                open: OFlags::PATH,
                unread: true,
                end: "",
            };
            let (say, said) = mpsc::channel();
            fetch(context, path, request, 0, move |_, _, local| drop(say.send(local)));
            said.recv().map_err(|_| Errno::IO)??
        }
    };
    let kind = FileType::from_raw_mode(rustix::fs::stat(&place)?.st_mode);
    if !kind.is_dir() {
        return Err(Errno::NOTDIR);
    }
    Ok(context.files.as_app_says(place))
}

/// A path of this machine that the kernel would not find from where the caller is.
pub(crate) fn local(context: &Arc<Context>, pending: Pending, request: Request, path: PathBuf) {
    let does_here = !matches!(request.action, PathAction::Write { .. } | PathAction::ChangeDirectory);
    // It matters who asks.
    if !does_here || is_the_callers(&path) || !Task::of(pending.tid()).is_like_us() {
        return refused(context, pending, &path);
    }
    let context = context.clone();
    context.clone().workers.run(move || {
        if request.opens() {
            return open(&context, pending, request, &path);
        }
        let open = |flags| rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty());
        if let PathAction::Access { mode, flags } = request.action {
            let flags = flags.map_or(0, |flags| pending.int(flags) as u32);
            let (link, effective) = (libc::AT_SYMLINK_NOFOLLOW as u32, libc::AT_EACCESS as u32);
            let last = if flags & link == 0 {
                OFlags::empty()
            } else {
                OFlags::NOFOLLOW
            };
            let result = open(OFlags::PATH | last)
                .and_then(|file| structs::access(file.as_fd(), pending.int(mode) as u32, flags & effective));
            return pending.finish(result.map(|()| 0));
        }
        act(&context, pending, request, &path, &open);
    });
}

fn open(context: &Context, pending: Pending, request: Request, path: &Path) {
    // Only the caller's own walk can mind how it is to be walked.
    let Ok((mode, 0)) = wanted_mode(&pending, request.action) else {
        return refused(context, pending, path);
    };
    match open_as_asked(&pending, request, path, mode) {
        Ok(file) => {
            let delivered = pending.descriptor(&file, request.open.contains(OFlags::CLOEXEC));
            // Nobody knows of it, and the call may be made again.
            if delivered.is_err() && request.open.contains(OFlags::CREATE | OFlags::EXCL) {
                let _ = rustix::fs::unlink(path);
            }
        }
        Err(errno) => pending.fail(errno),
    }
}

/// Whether a path of this machine means something else for each process.
pub(crate) fn is_the_callers(path: &Path) -> bool {
    ["/proc", "/dev"].iter().any(|own| path.starts_with(own))
}

pub(crate) fn refused(context: &Context, pending: Pending, path: &Path) {
    let call = crate::calls::of(pending.number()).map_or("call", |call| call.name);
    let reason = format!(
        "its {call} leads by a relative path from a directory of the pod to {}, which is this machine's: an absolute path works",
        path.display()
    );
    say(context, &pending, reason);
    pending.fail(Errno::ACCESS);
}

fn say(context: &Context, pending: &Pending, reason: String) {
    let task = Task::of(pending.tid());
    context.event(Event::ProgramRefused {
        pid: task.group().unwrap_or(pending.tid()),
        executable: task.executable().display().to_string(),
        reason,
    });
}

/// `chdir(2)` into a directory of the pod, which lies at `stand_in`. Nobody can move a process from outside, so it is the
/// kernel's where the path, as it was written, leads the kernel there by itself; that is so below a directory of the pod. A
/// program that changes the path meanwhile goes elsewhere by its own doing. The layer opens and enters.
pub(crate) fn enter(context: &Context, pending: &Pending, path: &Path, stand_in: &OwnedFd) -> Result<(), Errno> {
    let place = fstat(stand_in)?;
    if !FileType::from_raw_mode(place.st_mode).is_dir() {
        return Err(Errno::NOTDIR);
    }
    let arrives = || {
        let written = pending.memory().read_path(pending.pointer(0)).ok()?;
        let here = Task::of(pending.tid()).directory().ok()?;
        let whole = here.join(OsStr::from_bytes(&written));
        context.files.in_view(&rules::normal(&whole))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let found = openat2(CWD, &whole, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).ok()?;
        let found = fstat(&found).ok()?;
        Some((found.st_dev, found.st_ino) == (place.st_dev, place.st_ino))
    };
    if arrives() == Some(true) {
        return Ok(());
    }
    let reason = format!(
        "it cannot be moved into {}, a directory of the pod, from outside; it could open it and call fchdir",
        path.display()
    );
    say(context, pending, reason);
    Err(Errno::ACCESS)
}

/// `getcwd(2)`: in the view it is the pod's path.
pub(crate) fn working_directory(context: &Context, pending: Pending) {
    let Ok(place) = Task::of(pending.tid()).directory() else {
        return pending.proceed();
    };
    let Some(said) = context.files.in_view(&place) else {
        return pending.proceed();
    };
    // One that was removed is marked so (proc(5)), and is nowhere.
    if rustix::fs::stat(&place).is_err() {
        return pending.fail(Errno::NOENT);
    }
    let bytes = [said.as_os_str().as_bytes(), b"\0"].concat();
    if bytes.len() as u64 > pending.argument(1) {
        return pending.fail(Errno::RANGE);
    }
    let written = pending.memory().write(pending.pointer(0), &bytes);
    pending.finish(written.map(|()| bytes.len() as i64));
}
