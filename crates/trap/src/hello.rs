//! The layer says that it works in a process: a call that no program makes.

use std::sync::Arc;

use guest::event::Event;
use guest::forward::{HELLO, SKIPPED};
use guest::protocol::Notice;

use crate::context::Context;
use crate::engine::Engine;
use crate::notification::Pending;
use crate::task::Task;

/// Whether this is the layer's word: `getsockopt` of no descriptor with its own number as an address.
pub(crate) fn is_hello(pending: &Pending) -> bool {
    pending.int(0) == -1 && pending.argument(3) == HELLO
}

pub(crate) fn answer(context: &Arc<Context>, pending: Pending) {
    let task = Task::of(pending.tid());
    let pid = task.group().unwrap_or(pending.tid());
    if context.skipped.contains(pending.tid()) {
        return pending.finish(Ok(SKIPPED));
    }
    let engine = if pending.is_forwarded() {
        Engine::Layer
    } else {
        Engine::TrapAndLayer
    };
    if pending.is_forwarded() {
        context.server.notice(Notice::Process { pid }, &[]);
    }
    context.event(Event::Process {
        pid,
        executable: task.executable().display().to_string(),
        mode: engine.to_string(),
    });
    pending.finish(Ok(0));
}
