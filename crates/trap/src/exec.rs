//! exec: decided for each program. The call itself is always the kernel's.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use guest::elf::{Executable, HEAD};
use guest::event::Event;
use guest::protocol::Notice;
use rules::Place;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::astray::{self, meant};
use crate::calls::PathAction;
use crate::context::Context;
use crate::enterable;
use crate::files::{Meant, PathError, PathView};
use crate::notification::Pending;
use crate::path_call::{Request, fetch};
use crate::sys::structs;
use crate::task::Task;

/// `execve(path, ...)` or `execveat(directory, path, ...)`.
pub(crate) fn execute(context: &Arc<Context>, pending: Pending, directory: Option<usize>, path: usize) {
    let written = match pending.memory().read_path(pending.pointer(path)) {
        Ok(written) => written,
        Err(Errno::PERM | Errno::ACCESS) => return context.refuse(pending, Errno::PERM),
        Err(_) => return pending.proceed(),
    };
    meant(
        context,
        pending,
        directory,
        &written,
        true,
        move |context, pending, meant| {
            let tid = pending.tid();
            match meant {
                Ok(meant) => decide(context, pending, meant),
                // An empty path is the descriptor itself (fexecve).
                Err(PathError::Empty) => match directory.map(|at| Task::of(tid).path_of(pending.int(at))) {
                    Some(Ok(place)) => match context.files.in_view(&place) {
                        Some(path) => remote(context, pending, path),
                        None => local(context, pending, &place),
                    },
                    _ => pending.proceed(),
                },
                Err(PathError::Errno(Errno::PERM | Errno::ACCESS)) => context.refuse(pending, Errno::PERM),
                Err(PathError::Errno(_)) => pending.proceed(),
            }
        },
    );
}

fn decide(context: &Arc<Context>, pending: Pending, Meant { path, astray }: Meant) {
    if context.files.is_native() {
        return local(context, pending, &path);
    }
    match context.files.locate(path.clone(), true) {
        Err(errno) => pending.fail(errno),
        Ok((found, verdict)) => match verdict.place {
            Place::Remote => remote(context, pending, found),
            Place::Hidden => pending.fail(Errno::NOENT),
            Place::Local if astray => astray::refused(context, pending, &path),
            Place::Local => local(context, pending, &path),
        },
    }
}

/// A program of the pod is refused by name; what it is no program of fails as the pod says.
fn remote(context: &Arc<Context>, pending: Pending, path: PathBuf) {
    let refuse = |context: &Context, pending: Pending, path: &Path| {
        if let Ok(group) = Task::of(pending.tid()).group() {
            let reason = "it is a file of the pod, and the pod's programs cannot be run on this machine".to_owned();
            refused(context, group, path, reason);
        }
        pending.fail(Errno::ACCESS);
    };
    if !matches!(context.files.view, PathView::Copy { .. }) {
        let context = context.clone();
        return context
            .clone()
            .workers
            .run(move || match context.files.lead(&path, true) {
                Ok(_) => refuse(&context, pending, &path),
                Err(errno) => pending.fail(errno),
            });
    }
    let request = Request {
        action: PathAction::Access { mode: 0, flags: None },
        follow: true,
        open: OFlags::PATH,
        unread: true,
        end: "",
    };
    fetch(context, path, request, 0, move |context, path, place| match place {
        Err(errno) => pending.fail(errno),
        Ok(place) if place.is_dir() => pending.fail(Errno::ACCESS),
        Ok(_) => refuse(context, pending, &path),
    });
}

fn local(context: &Arc<Context>, pending: Pending, whole: &Path) {
    let Ok(group) = Task::of(pending.tid()).group() else {
        return pending.proceed();
    };
    match inspect(whole) {
        // The kernel says why it cannot be run; nothing changes.
        None => return pending.proceed(),
        Some(Executable::Foreign) => {
            refused(
                context,
                group,
                whole,
                "it is not a 64-bit x86 program, so its calls cannot be seen".to_owned(),
            );
            return pending.fail(Errno::PERM);
        }
        Some(_) => {}
    }
    if pending.is_forwarded()
        && !context.plan.skip.skips(whole)
        && let Some(reason) = enterable::refusal(whole, &context.looked)
    {
        refused(context, group, whole, reason);
        return pending.fail(Errno::ACCESS);
    }
    if let Some(what) = gains_rights(whole) {
        context.event(Event::Warning {
            message: format!(
                "{} is {what}, which has no effect in an intercepted program (no_new_privs): run it outside of inpod",
                whole.display()
            ),
        });
    }
    enter(context, group, whole);
    pending.proceed();
}

/// A process of the app's tree begins a program.
pub(crate) fn enter(context: &Context, group: u32, executable: &Path) {
    // In a directory of the pod its relative paths must be served.
    let is_inside = || {
        Task::of(group)
            .directory()
            .is_ok_and(|place| context.files.in_view(&place).is_some())
    };
    let skip = context.plan.skip.skips(executable) && !is_inside();
    context.skipped.set(group, skip);
    context.server.notice(Notice::Process { pid: group }, &[]);
    // Where the layer works in it, it will say so itself.
    if !skip && !context.engine.traps() {
        return;
    }
    context.event(Event::Process {
        pid: group,
        executable: executable.display().to_string(),
        mode: if skip { "skipped" } else { "trap" }.to_owned(),
    });
}

fn refused(context: &Context, pid: u32, executable: &Path, reason: String) {
    context.refused.store(true, Ordering::Release);
    context.event(Event::ProgramRefused {
        pid,
        executable: executable.display().to_string(),
        reason,
    });
}

/// What kind of executable it is; `None` where it cannot be executed at all.
pub(crate) fn inspect(path: &Path) -> Option<Executable> {
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
        return None;
    }
    let mut head = [0; HEAD];
    // Executable but not readable is run all the same.
    let length = File::open(path).and_then(|mut file| file.read(&mut head)).unwrap_or(0);
    Some(Executable::of(&head[..length]))
}

/// How a program would gain rights that no_new_privs withholds.
pub(crate) fn gains_rights(path: &Path) -> Option<&'static str> {
    let metadata = std::fs::metadata(path).ok()?;
    let own = rustix::process::geteuid().as_raw();
    if metadata.mode() & libc::S_ISUID != 0 && metadata.uid() != own {
        return Some("a set-user-ID program");
    }
    if own == 0 {
        return None;
    }
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).ok()?;
    structs::xattr(&path, Some(c"security.capability"), true, &mut [])
        .is_ok()
        .then_some("a program with file capabilities")
}

/// The executable a `PATH` search finds, as `execvp(3)` does it.
pub(crate) fn search(program: &Path, path: Option<&std::ffi::OsStr>) -> Vec<PathBuf> {
    /// `_PATH_DEFPATH` without the sbin directories, as glibc uses it.
    const DEFAULT: &str = "/bin:/usr/bin";
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    std::env::split_paths(path.unwrap_or(std::ffi::OsStr::new(DEFAULT)))
        .map(|directory| {
            if directory.as_os_str().is_empty() {
                Path::new(".").join(program)
            } else {
                directory.join(program)
            }
        })
        .collect()
}
