//! The filled-in block (`guest::image`): in a section of its own in the file, so that the session can find it.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, Ordering};

use guest::image::{Image, MAGIC, SIZE};

// Written in assembly because the compiler must not believe that it knows the bytes.
global_asm!(
    ".pushsection .inpod, \"a\"",
    ".balign 64",
    ".globl inpod_layer_block",
    ".hidden inpod_layer_block",
    "inpod_layer_block:",
    ".byte 0x7f",
    ".ascii \"inpod layer: what it knows   \"",
    ".byte 1, 0",
    ".skip {rest}",
    ".popsection",
    rest = const SIZE - MAGIC.len(),
);

#[inline(always)]
fn block() -> &'static [u8] {
    let start: *const u8;
    // SAFETY: the address of the section above, which has SIZE bytes, never written after the file was.
    unsafe {
        core::arch::asm!("lea {}, [rip + inpod_layer_block]", out(reg) start, options(pure, nomem, nostack));
        core::slice::from_raw_parts(start, SIZE)
    }
}

/// This program is skipped: it was said when the layer greeted, before main. The only state there is.
static SKIPPED: AtomicBool = AtomicBool::new(false);

/// From here on every call of this program goes on as it is.
pub(crate) fn skip() {
    SKIPPED.store(true, Ordering::Relaxed);
}

/// What the session wrote; `None` for a layer that nobody filled in, and in a program that is skipped.
#[inline]
pub(crate) fn image() -> Option<Image<'static>> {
    if SKIPPED.load(Ordering::Relaxed) {
        return None;
    }
    session()
}

/// What the session wrote, in a skipped program too: what that starts is decided anew.
#[inline]
pub(crate) fn session() -> Option<Image<'static>> {
    Image::read(block())
}

/// 0, which marks nothing, when nobody filled it in.
#[inline]
pub(crate) fn marker() -> u64 {
    image().map_or(0, |image| image.marker())
}

/// Whether there is no filter.
#[inline]
pub(crate) fn is_alone() -> bool {
    has(guest::image::ALONE)
}

#[inline]
pub(crate) fn has(flag: u32) -> bool {
    image().is_some_and(|image| image.has(flag))
}
