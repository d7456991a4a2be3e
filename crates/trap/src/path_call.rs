//! Path calls on the pod's files, where the kernel does not see them at their places: done here, their results given to
//! the app. Local ones are always the kernel's.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use guest::forward::{AS_POD, CONTENT, MAX_PATH, READ_ONLY, TEMPLATE, WALK};
use guest::protocol::{Answer, Call, Fetch};
use rules::Place;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::astray::{self, meant};
use crate::calls::{Last, PathAction, PathCall};
use crate::change::{change, end};
use crate::context::Context;
use crate::files::{MOST_LINKS, Meant, PathError, PathView};
use crate::led::Led;
use crate::notification::Pending;
use crate::sys::structs;
use crate::task::Task;

/// Any call of the table's path part.
pub(crate) fn path_call(context: &Arc<Context>, pending: Pending, call: PathCall) {
    let written = match pending.memory().read_path(pending.pointer(call.path)) {
        Ok(written) => written,
        Err(errno @ (Errno::PERM | Errno::ACCESS)) => return context.refuse(pending, errno),
        Err(_) => return pending.proceed(),
    };
    let request = Request {
        end: end(&written),
        ..Request::of(&pending, call.action)
    };
    let plain = !matches!(call.action, PathAction::ReadLink { .. }) && call.action.second().is_none();
    if plain && !context.say_decisions && context.files.is_plainly_local(&written, request.follow) {
        return pending.proceed();
    }
    meant(
        context,
        pending,
        call.directory,
        &written,
        request.follow,
        move |context, pending, meant| {
            match meant {
                Ok(meant) => decided(context, pending, request, meant),
                Err(PathError::Errno(errno @ (Errno::PERM | Errno::ACCESS))) => context.refuse(pending, errno),
                // The call means its descriptor, or fails: both the kernel does.
                Err(PathError::Empty | PathError::Errno(_)) => pending.proceed(),
            }
        },
    );
}

fn decided(context: &Arc<Context>, pending: Pending, request: Request, Meant { path, astray }: Meant) {
    if let PathAction::ReadLink { buffer, size } = request.action
        && let Some(shown) = own_link(context, &pending, &path)
    {
        let room = pending.int(size).max(0) as usize;
        let bytes = &shown.as_os_str().as_bytes()[..shown.as_os_str().len().min(room)];
        let written = pending.memory().write(pending.pointer(buffer), bytes);
        return pending.finish(written.map(|()| bytes.len() as i64));
    }
    let (path, verdict) = match context.files.locate(path, request.follow) {
        Ok(located) => located,
        Err(errno) => return pending.fail(errno),
    };
    context.decided(|| path.display().to_string(), &verdict);
    match verdict.place {
        Place::Local => here(context, pending, request, Meant { path, astray }),
        Place::Hidden => pending.fail(Errno::NOENT),
        Place::Remote => remote(context, pending, request, Meant { path, astray }),
    }
}

/// `guest::forward::TRANSLATE(path, room, wants)`: where on this machine libc finds what the path names.
pub(crate) fn translate(context: &Arc<Context>, pending: Pending) {
    let wants = pending.argument(2);
    // libc says what is wrong with a path that cannot be read.
    let Ok(written) = pending.memory().read_path(pending.pointer(0)) else {
        return pending.finish(Ok(0));
    };
    meant(
        context,
        pending,
        None,
        &written,
        true,
        move |context, pending, meant| match meant {
            Ok(meant) => place(context, pending, wants, meant),
            Err(_) => pending.finish(Ok(0)),
        },
    );
}

fn place(context: &Arc<Context>, pending: Pending, wants: u64, Meant { path, astray }: Meant) {
    let (path, verdict) = match context.files.locate(path, true) {
        Ok(located) => located,
        Err(errno) => return pending.fail(errno),
    };
    match verdict.place {
        // libc changes the template where the app wrote it, so it cannot be another one.
        Place::Local if astray && wants & TEMPLATE != 0 => return pending.fail(Errno::NOTSUP),
        Place::Local if astray => return give(pending, &path),
        Place::Local => return pending.finish(Ok(0)),
        Place::Hidden => return pending.fail(Errno::NOENT),
        Place::Remote if wants & WALK != 0 => return pending.fail(Errno::NOTSUP),
        Place::Remote if wants & READ_ONLY == 0 => return pending.fail(Errno::ROFS),
        Place::Remote => {}
    }
    let request = Request {
        action: PathAction::Open { flags: 0 },
        follow: true,
        open: if wants & CONTENT != 0 {
            OFlags::RDONLY
        } else {
            OFlags::PATH
        },
        unread: wants & CONTENT == 0,
        end: "",
    };
    match &context.files.view {
        PathView::Copy { .. } => fetch(context, path, request, 0, move |context, path, local| match local {
            Ok(_) if wants & AS_POD != 0 => give(pending, &path),
            Ok(local) => give(pending, &local),
            Err(errno) if is_only_local(context, &path, || Some(errno)) => give(pending, &path),
            Err(errno) => pending.fail(errno),
        }),
        PathView::Translated { root } => {
            let (context, root) = (context.clone(), root.clone());
            context
                .clone()
                .workers
                .run(move || match context.files.lead(&path, true) {
                    Ok(Led::Pod(path)) if wants & AS_POD == 0 => {
                        give(pending, &root.join(path.strip_prefix("/").unwrap_or(&path)));
                    }
                    Ok(Led::Pod(path) | Led::Machine(path)) => give(pending, &path),
                    Err(errno) if is_only_local(&context, &path, || Some(errno)) => give(pending, &path),
                    Err(errno) => pending.fail(errno),
                });
        }
        PathView::Native => give(pending, &path),
    }
}

/// Writes a path where the caller of [`translate`] wants it.
fn give(pending: Pending, path: &Path) {
    let bytes = [path.as_os_str().as_bytes(), b"\0"].concat();
    if bytes.len() > MAX_PATH {
        return pending.fail(Errno::NAMETOOLONG);
    }
    let given = pending.memory().write(pending.pointer(1), &bytes);
    pending.finish(given.map(|()| bytes.len() as i64));
}

/// The second path of rename and link: from here into the pod would be a write there.
fn second(context: &Arc<Context>, pending: Pending, action: PathAction) {
    let Some((directory, path)) = action.second() else {
        return pending.proceed();
    };
    let Ok(written) = pending.memory().read_path(pending.pointer(path)) else {
        return pending.proceed();
    };
    meant(
        context,
        pending,
        directory,
        &written,
        false,
        |context, pending, meant| {
            let Ok(Meant { path, astray }) = meant else {
                return pending.proceed();
            };
            match context.files.locate(path, false) {
                Ok((_, verdict)) if verdict.place == Place::Remote => pending.fail(Errno::XDEV),
                Ok((path, _)) if astray => astray::refused(context, pending, &path),
                _ => pending.proceed(),
            }
        },
    );
}

/// Where `/proc/self/fd/N` and `/proc/self/cwd` lead, when that is in the view: the pod's path.
fn own_link(context: &Context, pending: &Pending, path: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix("/proc").ok()?;
    let mut parts = rest.iter();
    let who = parts.next()?.to_str()?;
    let task = Task::of(if matches!(who, "self" | "thread-self") {
        pending.tid()
    } else {
        who.parse().ok()?
    });
    let parts: Vec<_> = parts.filter_map(|part| part.to_str()).collect();
    let real = match parts[..] {
        ["fd", number] => task.path_of(number.parse().ok()?).ok()?,
        ["cwd"] => task.directory().ok()?,
        _ => return None,
    };
    context.files.in_view(&real)
}

/// What a call asks of a remote path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) action: PathAction,
    pub(crate) follow: bool,
    /// Of the open family; O_PATH for the others.
    pub(crate) open: OFlags,
    /// Nothing is read of what is opened.
    pub(crate) unread: bool,
    /// See [`end`].
    pub(crate) end: &'static str,
}

impl Request {
    fn of(pending: &Pending, action: PathAction) -> Self {
        let at = |flags: usize| AtFlags::from_bits_retain(pending.int(flags) as u32);
        let mut open = OFlags::PATH;
        let follow = match action {
            PathAction::Open { flags } => {
                open = OFlags::from_bits_retain(pending.int(flags) as u32);
                follows(open)
            }
            PathAction::OpenHow { how, size } => {
                let mut bytes = [0; 8];
                let wanted = (pending.argument(size) as usize).min(8);
                let _ = pending.memory().read(pending.pointer(how), &mut bytes[..wanted]);
                open = OFlags::from_bits_retain(u64::from_ne_bytes(bytes) as u32);
                follows(open)
            }
            PathAction::Create => {
                open = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
                true
            }
            PathAction::Stat { follow, .. } | PathAction::Xattr { follow, .. } => follow,
            PathAction::StatAt { flags, .. } | PathAction::Statx { flags, .. } => {
                !at(flags).contains(AtFlags::SYMLINK_NOFOLLOW)
            }
            PathAction::Access { flags, .. } => {
                !flags.is_some_and(|flags| at(flags).contains(AtFlags::SYMLINK_NOFOLLOW))
            }
            PathAction::ReadLink { .. } => false,
            PathAction::Write { last, .. } => match last {
                Last::Kept => false,
                Last::Followed => true,
                Last::FollowedUnless(flags) => !at(flags).contains(AtFlags::SYMLINK_NOFOLLOW),
                Last::FollowedIf(flags) => at(flags).contains(AtFlags::SYMLINK_FOLLOW),
            },
            PathAction::StatFs { .. } | PathAction::ChangeDirectory => true,
        };
        Self {
            action,
            follow,
            open,
            unread: open.contains(OFlags::PATH),
            end: "",
        }
    }

    /// As it can be handed over: the filter's way (`SECCOMP_IOCTL_NOTIF_ADDFD`) takes no O_PATH descriptor, so the caller gets
    /// one that can be read. A directory that is known to be one is still not listed for it.
    pub(crate) fn installable(mut self, pending: &Pending) -> Self {
        if self.opens() && self.open.contains(OFlags::PATH) && !pending.is_forwarded() {
            let kept = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            self.unread = self.open.contains(OFlags::DIRECTORY);
            self.open = (self.open & kept) | OFlags::RDONLY | OFlags::NONBLOCK;
        }
        self
    }

    pub(crate) fn opens(&self) -> bool {
        matches!(
            self.action,
            PathAction::Open { .. } | PathAction::OpenHow { .. } | PathAction::Create
        )
    }

    /// Whether it would change the pod's files.
    fn writes(&self) -> bool {
        let access = self.open & OFlags::ACCMODE;
        let tmpfile = self.open.contains(OFlags::TMPFILE);
        matches!(self.action, PathAction::Write { .. })
            || (self.opens()
                && !self.open.contains(OFlags::PATH)
                && (access != OFlags::RDONLY || self.open.contains(OFlags::TRUNC) || tmpfile))
    }
}

/// Whether an open goes through a link at the end of its path.
fn follows(open: OFlags) -> bool {
    !open.contains(OFlags::NOFOLLOW) && !open.contains(OFlags::CREATE | OFlags::EXCL)
}

fn remote(context: &Arc<Context>, pending: Pending, request: Request, Meant { path, astray }: Meant) {
    let makes = request.opens() && request.open.contains(OFlags::CREATE);
    if (makes || request.writes()) && context.files.may_be_written() {
        return change(context, pending, request, path);
    }
    if request.writes() {
        return pending.fail(Errno::ROFS);
    }
    let request = request.installable(&pending);
    let then = context.clone();
    match &context.files.view {
        PathView::Translated { .. } => context.workers.run(move || {
            let led = match then.files.lead(&path, request.follow) {
                Ok(led) => led,
                Err(errno) if is_only_local(&then, &path, || Some(errno)) => {
                    return here(&then, pending, request, Meant { path, astray });
                }
                // A name that is not there is still to be made, which says something else.
                Err(errno) => return act(&then, pending, request, &path, &|_| Err(errno)),
            };
            // Of these it matters who asks.
            if request.opens() && matches!(&led, Led::Machine(path) if astray::is_the_callers(path)) {
                return astray::refused(&then, pending, led.path());
            }
            act(&then, pending, request, &path, &|flags| led.open(&then.files, flags));
        }),
        PathView::Copy { .. } => fetch(context, path, request, 0, move |context, path, local| {
            let context = context.clone();
            context.clone().workers.run(move || match local {
                Ok(local) => {
                    let open = |flags| rustix::fs::open(&local, flags | OFlags::CLOEXEC, Mode::empty());
                    act(&context, pending, request, &path, &open);
                }
                Err(errno) if is_only_local(&context, &path, || Some(errno)) => {
                    here(&context, pending, request, Meant { path, astray });
                }
                Err(errno) => pending.fail(errno),
            });
        }),
        PathView::Native => pending.proceed(),
    }
}

/// This machine's: the kernel does it, unless it would take the path for another.
fn here(context: &Arc<Context>, pending: Pending, request: Request, Meant { path, astray }: Meant) {
    if astray {
        return astray::local(context, pending, request, path);
    }
    second(context, pending, request.action);
}

/// A directory through which places of this machine are reached, and which the pod lacks: `failure` is what looking for it
/// there comes to.
fn is_only_local(context: &Context, path: &Path, failure: impl FnOnce() -> Option<Errno>) -> bool {
    context.plan.files.leads_to_local(path) && matches!(failure(), Some(Errno::NOENT | Errno::NOTDIR))
}

/// What goes on with the path that was decided on, and where it lies on this machine.
type Fetched = Box<dyn FnOnce(&Arc<Context>, PathBuf, Result<PathBuf, Errno>) + Send>;

/// Brings a path into the cache, its symlinks followed as the call wants.
pub(crate) fn fetch(
    context: &Arc<Context>,
    path: PathBuf,
    request: Request,
    links: usize,
    then: impl FnOnce(&Arc<Context>, PathBuf, Result<PathBuf, Errno>) + Send + 'static,
) {
    let reads = request.opens() && !request.unread;
    // A link that is not to be followed has no content: what it is must be known first.
    let what = if reads && request.follow {
        Fetch::Content
    } else {
        Fetch::Attributes
    };
    let call = Call::Fetch {
        path: path.as_os_str().as_bytes().to_vec(),
        what,
    };
    let context_then = context.clone();
    context.server.call(call, move |answer| {
        let local = match answer {
            Some(Answer::Fetched(Ok(local))) => PathBuf::from(std::ffi::OsStr::from_bytes(&local)),
            Some(Answer::Fetched(Err(errno))) => {
                return then(&context_then, path, Err(Errno::from_raw_os_error(errno.0)));
            }
            _ => return then(&context_then, path, Err(Errno::IO)),
        };
        match rustix::fs::readlink(&local, Vec::new()) {
            Ok(_) if !request.follow => then(&context_then, path, Ok(local)),
            Ok(_) if links == MOST_LINKS => then(&context_then, path, Err(Errno::LOOP)),
            Ok(link) => {
                let link = PathBuf::from(std::ffi::OsStr::from_bytes(link.as_bytes()));
                let next = rules::normal(&path.parent().unwrap_or(Path::new("/")).join(link));
                // One more turn; boxed, or the type would contain itself.
                let then: Fetched = Box::new(then);
                fetch(&context_then, next, request, links + 1, then);
            }
            Err(_) if reads && !request.follow => {
                let request = Request {
                    follow: true,
                    ..request
                };
                let then: Fetched = Box::new(then);
                fetch(&context_then, path, request, links, then);
            }
            Err(_) => then(&context_then, path, Ok(local)),
        }
    });
}

/// Does the call with what `open` gives for its path, and gives the app the result.
pub(crate) fn act(
    context: &Context,
    pending: Pending,
    request: Request,
    path: &Path,
    open: &dyn Fn(OFlags) -> Result<OwnedFd, Errno>,
) {
    let handle = || {
        open(
            OFlags::PATH
                | if request.follow {
                    OFlags::empty()
                } else {
                    OFlags::NOFOLLOW
                },
        )
    };
    let memory = pending.memory();
    let result = match request.action {
        PathAction::Open { .. } | PathAction::OpenHow { .. } | PathAction::Create => {
            return match open_for(request, open) {
                // An open that was given up is closed: nothing to undo.
                Ok(file) => drop(pending.descriptor(&file, request.open.contains(OFlags::CLOEXEC))),
                Err(errno) => pending.fail(errno),
            };
        }
        PathAction::Stat { buffer, .. } | PathAction::StatAt { buffer, .. } => handle()
            .and_then(|file| structs::stat(file.as_fd()))
            .and_then(|bytes| memory.write(pending.pointer(buffer), &bytes))
            .map(|()| 0),
        PathAction::Statx { flags, mask, buffer } => handle()
            .and_then(|file| {
                let keep = (libc::AT_STATX_FORCE_SYNC | libc::AT_STATX_DONT_SYNC) as u32;
                structs::statx(file.as_fd(), pending.int(flags) as u32 & keep, pending.int(mask) as u32)
            })
            .and_then(|bytes| memory.write(pending.pointer(buffer), &bytes))
            .map(|()| 0),
        PathAction::Access { mode, flags } => {
            let mode = pending.int(mode) as u32;
            let effective = flags.map_or(0, |flags| pending.int(flags) as u32) & libc::AT_EACCESS as u32;
            handle().and_then(|file| {
                // A mounted view says itself what may be written, where anything may.
                let writing = match context.files.may_be_written() {
                    true => 0,
                    false => mode & libc::W_OK as u32,
                };
                structs::access(file.as_fd(), mode - writing, effective)?;
                if writing == 0 { Ok(0) } else { Err(Errno::ROFS) }
            })
        }
        PathAction::ReadLink { buffer, size } => handle()
            .and_then(
                |file| match retry_on_intr(|| rustix::fs::readlinkat(&file, "", Vec::new())) {
                    // An empty path on what is no symlink says ENOENT; the app's call would say EINVAL.
                    Err(Errno::NOENT) => Err(Errno::INVAL),
                    other => other,
                },
            )
            .and_then(|link| {
                let room = usize::try_from(pending.int(size))
                    .ok()
                    .filter(|room| *room > 0)
                    .ok_or(Errno::INVAL)?;
                let bytes = &link.as_bytes()[..link.as_bytes().len().min(room)];
                memory.write(pending.pointer(buffer), bytes)?;
                Ok(bytes.len() as i64)
            }),
        PathAction::StatFs { buffer } => handle()
            .and_then(|file| structs::statfs(file.as_fd()))
            .and_then(|bytes| memory.write(pending.pointer(buffer), &bytes))
            .map(|()| 0),
        PathAction::Xattr { name, buffer, size, .. } => handle().and_then(|file| {
            let name = match name {
                Some(name) => Some(CString::new(memory.read_path(pending.pointer(name))?).map_err(|_| Errno::INVAL)?),
                None => None,
            };
            /// `XATTR_SIZE_MAX`.
            const MOST: usize = 64 << 10;
            let mut value = vec![0; (pending.argument(size) as usize).min(MOST)];
            let link = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|_| Errno::INVAL)?;
            let length = structs::xattr(&link, name.as_deref(), true, &mut value)?;
            if !value.is_empty() {
                memory.write(pending.pointer(buffer), &value[..length])?;
            }
            Ok(length as i64)
        }),
        PathAction::ChangeDirectory => {
            return match handle().and_then(|file| astray::enter(context, &pending, path, &file)) {
                Ok(()) => pending.proceed(),
                Err(errno) => pending.fail(errno),
            };
        }
        PathAction::Write { .. } => Err(Errno::ROFS),
    };
    pending.finish(result);
}

/// Opens a path of this machine as the call asks.
pub(crate) fn open_as_asked(pending: &Pending, request: Request, path: &Path, mode: u64) -> Result<OwnedFd, Errno> {
    let flags = request.installable(pending).open | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(path, flags, Mode::from_raw_mode(mode as u32 & 0o7777))
}

/// The mode of an open that may make a file, and how `openat2(2)` is to walk.
///
/// # Errors
/// When the caller's memory cannot be read.
pub(crate) fn wanted_mode(pending: &Pending, action: PathAction) -> Result<(u64, u64), Errno> {
    Ok(match action {
        PathAction::Open { flags } => (pending.argument(flags + 1), 0),
        PathAction::OpenHow { how, .. } => {
            // `struct open_how`: flags, mode, resolve.
            let bytes = pending.memory().read_vec(pending.pointer(how), 24)?;
            let word = |at: usize| bytes[at..].first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
            (word(8), word(16))
        }
        _ => (pending.argument(1), 0),
    })
}

fn open_for(request: Request, open: &dyn Fn(OFlags) -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    let create = request.open.contains(OFlags::CREATE);
    let exclusive = create && request.open.contains(OFlags::EXCL);
    // openat2 refuses what else the call ignores beside O_PATH (open(2)).
    let flags = if request.open.contains(OFlags::PATH) {
        request.open & (OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW)
    } else {
        (request.open - OFlags::CREATE - OFlags::EXCL) | OFlags::NOCTTY
    };
    match open(flags) {
        Ok(_) if exclusive => Err(Errno::EXIST),
        Err(Errno::NOENT) if create => Err(Errno::ROFS),
        other => other,
    }
}
