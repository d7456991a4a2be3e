//! The fast path: `libinpod_layer.so`, preloaded into the app's dynamic programs.
//!
//! Each hook of [`hooks`] decides one of libc's calls in the process. What is plainly this machine's is issued with the
//! session's marker, so the filter lets it pass; everything else is issued as it is, and trap answers it. Where there is no
//! filter ([`guest::image::ALONE`]), everything else is handed to the supervisor ([`forward`]) instead.
//!
//! A hook runs anywhere the app may call libc: in signal handlers, between vfork and exec, on a stack of a few kilobytes, in
//! a process with closed standard descriptors.
//!
//! Invariant: no allocation, no lock, no descriptor kept between calls, no state but the filled-in block and whether this
//! program is skipped.
//!
//! Invariant: nothing here calls a libc function that is hooked; kernel calls are issued by [`sys`].
//!
//! Invariant: a hook that is missing costs microseconds under trap, never correctness.
#![cfg_attr(feature = "standalone", no_std)]
#![cfg_attr(not(feature = "standalone"), allow(dead_code, reason = "nothing is hooked then"))]
#![allow(
    unsafe_code,
    reason = "the crate is libc's other side: pointers of the app in, kernel calls out"
)]
#![allow(clippy::missing_safety_doc, reason = "the contracts are those of the manual pages")]

mod actions;
mod directory;
mod exec;
mod forward;
mod hooks;
mod host;
mod image;
mod names;
mod next;
mod paths;
mod sockets;
mod sys;
mod whole;

#[cfg(feature = "standalone")]
mod runtime {
    /// A bug here must not become silence in the app: abort(3)'s signal, without its locks.
    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        crate::sys::kill_self()
    }

    /// The prebuilt core names it; nothing unwinds through here.
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {}
}

/// The names that this library takes over from libc: what the test compares with libc's own table.
#[must_use]
pub fn hooked() -> &'static [&'static str] {
    hooks::NAMES
}
