//! Unix sockets: by pattern the pod's, name services hidden, all others this machine's.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use guest::protocol::{Answer, Call};
use rules::Place;
use rustix::io::Errno;

use crate::change::Spot;
use crate::context::Context;
use crate::files::PathView;
use crate::notification::Pending;
use crate::sockaddr::Encoded;
use crate::socket::Socket;
use crate::sys::message;
use crate::sys::process::with_umask;
use crate::table::lock;
use crate::task::Task;

pub(crate) fn connect(context: &Arc<Context>, pending: Pending, socket: Socket, path: Vec<u8>) {
    let whole = match absolute(context, pending.tid(), &path) {
        Ok(whole) => whole,
        Err(_) => return pending.proceed(),
    };
    let place = context.plan.files.decide(&whole).place;
    if place == Place::Hidden {
        return pending.fail(Errno::NOENT);
    }
    if !context.plan.outgoing.unix.iter().any(|pattern| pattern.matches(&whole)) {
        let is_mounted = matches!(context.files.view, PathView::Translated { .. });
        return match place {
            Place::Remote if is_mounted => connect_in_view(context, pending, socket, whole, path),
            _ => pending.proceed(),
        };
    }
    let flow = context.server.new_flow();
    let then = context.clone();
    let remote = whole.as_os_str().as_bytes().to_vec();
    context
        .server
        .call(Call::DialUnix { flow, path: remote }, move |answer| {
            let relay = match answer {
                Some(Answer::UnixRelay(Ok(relay))) => relay,
                Some(Answer::UnixRelay(Err(errno))) => return pending.fail(Errno::from_raw_os_error(errno.0)),
                _ => return pending.fail(Errno::CONNREFUSED),
            };
            let (Some(address), Ok(cookie)) = (Encoded::unix(&relay), socket.cookie()) else {
                return pending.fail(Errno::NAMETOOLONG);
            };
            let connected = socket.without_blocking(|| message::connect(socket.as_fd(), &address));
            if connected.is_ok() {
                lock(&then.table.get_or_new(cookie)).unix_peer = Some(path);
            }
            pending.finish(connected.map(|()| 0));
        });
}

/// A socket of this machine, though its name lies in a directory of the pod.
fn connect_in_view(context: &Arc<Context>, pending: Pending, socket: Socket, whole: PathBuf, path: Vec<u8>) {
    let then = Arc::clone(context);
    context.workers.run(move || {
        let connected = address(&then, &whole).and_then(|(address, _spot)| {
            socket.without_blocking(|| message::connect(socket.as_fd(), &address))?;
            lock(&then.table.get_or_new(socket.cookie()?)).unix_peer = Some(path);
            Ok(0)
        });
        drop(socket);
        pending.finish(connected);
    });
}

/// `bind(2)` to a path. A socket in a directory of the pod is there for all to see, and only on this machine to connect to.
pub(crate) fn bind(context: &Arc<Context>, pending: Pending, path: Vec<u8>) {
    let whole = match absolute(context, pending.tid(), &path) {
        Ok(whole) if context.plan.files.decide(&whole).place == Place::Remote && !context.files.is_native() => whole,
        // The kernel finds it by itself.
        _ => return pending.proceed(),
    };
    if !context.files.may_be_written() {
        return pending.fail(Errno::ROFS);
    }
    let Some((pending, socket)) = context.socket(pending, 0) else {
        return;
    };
    let then = Arc::clone(context);
    context.workers.run(move || {
        let bound = address(&then, &whole).and_then(|(address, _spot)| {
            let umask = Task::of(pending.tid()).umask()?;
            with_umask(umask, || message::bind(socket.as_fd(), &address))??;
            lock(&then.table.get_or_new(socket.cookie()?)).unix_local = Some(path);
            Ok(0)
        });
        // Before the answer: see `Pending::answering`.
        drop(socket);
        pending.finish(bound);
    });
}

/// What it is called in a mounted view, as long as the other is kept.
fn address(context: &Context, path: &Path) -> Result<(Encoded, Spot), Errno> {
    let spot = Spot::find(&context.files, path, false, "")?;
    let address = Encoded::unix(spot.name.as_bytes()).ok_or(Errno::NAMETOOLONG)?;
    Ok((address, spot))
}

/// A path as the app's thread means it, without `.` and `..`.
fn absolute(context: &Context, tid: u32, path: &[u8]) -> Result<PathBuf, Errno> {
    let path = Path::new(OsStr::from_bytes(path));
    let whole = if path.is_absolute() {
        path.to_owned()
    } else {
        context.files.as_app_says(Task::of(tid).directory()?).join(path)
    };
    Ok(rules::normal(&whole))
}
