//! The kernel's FUSE protocol (Documentation/filesystems/fuse, include/uapi/linux/fuse.h).
//!
//! An own small server: fuse3 0.10 opens /dev/fuse itself and cannot take a descriptor that another process mounted;
//! fuser answers INTERRUPT with ENOSYS, which leaves a killed reader in uninterruptible sleep.

mod abi;
mod answer;
mod change;
mod decode;
mod device;
mod guard;
mod handles;
mod reply;
mod serve;
mod xattr;

pub use decode::fuzz;
pub use serve::{ServeError, serve};
