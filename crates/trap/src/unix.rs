//! Unix sockets: by pattern the pod's, name services hidden, all others this machine's.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use guest::protocol::{Answer, Call};
use rules::Place;
use rustix::io::Errno;

use crate::context::Context;
use crate::notification::Pending;
use crate::sockaddr::Encoded;
use crate::socket::Socket;
use crate::sys::message;
use crate::table::lock;
use crate::task::Task;

pub(crate) fn connect(context: &Arc<Context>, pending: Pending, socket: Socket, path: Vec<u8>) {
    let whole = match absolute(context, pending.tid(), &path) {
        Ok(whole) => whole,
        Err(_) => return pending.proceed(),
    };
    if context.plan.files.decide(&whole).place == Place::Hidden {
        return pending.fail(Errno::NOENT);
    }
    if !context.plan.outgoing.unix.iter().any(|pattern| pattern.matches(&whole)) {
        return pending.proceed();
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
