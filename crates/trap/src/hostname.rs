//! `uname(2)` says the pod's host name.

use std::sync::Arc;

use crate::context::Context;
use crate::notification::Pending;
use crate::sys::structs;

pub(crate) fn uname(context: &Arc<Context>, pending: Pending) {
    let written =
        structs::utsname(&context.ready.hostname).and_then(|bytes| pending.memory().write(pending.pointer(0), &bytes));
    pending.finish(written.map(|()| 0));
}
