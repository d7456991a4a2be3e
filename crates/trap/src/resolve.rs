//! Names for programs under the layer alone: the session looks them up in the pod (`guest::forward::RESOLVE`).

use std::net::IpAddr;
use std::sync::Arc;

use guest::forward::ADDRESS;
use guest::protocol::{Answer, Call};
use rustix::io::Errno;

use crate::context::Context;
use crate::notification::Pending;

/// `RESOLVE(name, family, room, size)`.
pub(crate) fn resolve(context: &Arc<Context>, pending: Pending) {
    let name = match pending.memory().read_path(pending.pointer(0)) {
        Ok(name) => String::from_utf8_lossy(&name).into_owned(),
        Err(errno) => return pending.fail(errno),
    };
    let families = match pending.argument(1) {
        4 => vec![true],
        6 => vec![false],
        _ => vec![true, false],
    };
    let call = Call::Resolve { name, families };
    context.server.call(call, move |answer| match answer {
        Some(Answer::Resolved(Ok(Some(addresses)))) => {
            let room = pending.argument(3) as usize / ADDRESS;
            let records: Vec<u8> = addresses.into_iter().take(room).flat_map(record).collect();
            let given = pending.memory().write(pending.pointer(2), &records);
            pending.finish(given.map(|()| records.len() as i64));
        }
        Some(Answer::Resolved(Ok(None))) => pending.proceed(),
        Some(Answer::Resolved(Err(errno))) => pending.fail(Errno::from_raw_os_error(errno.0)),
        _ => pending.fail(Errno::AGAIN),
    });
}

fn record(address: IpAddr) -> [u8; ADDRESS] {
    let mut record = [0; ADDRESS];
    match address {
        IpAddr::V4(v4) => {
            record[0] = 4;
            record[1..5].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            record[0] = 6;
            record[1..].copy_from_slice(&v6.octets());
        }
    }
    record
}
