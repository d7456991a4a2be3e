//! The target container's root as a file system on this machine.
//!
//! Programs under a session see the pod's files where the pod has them. [`choose`] says how: **ns**, a private mount
//! namespace ([`ns::Layout`]) in which one FUSE mount, served by the session's server process ([`Files::serve`]), has its
//! parts bound to their real places; or **copy** ([`copy::CopyView`]), without a usable /dev/fuse: files fetched whole on
//! first use. Both ask the pod through one trait ([`Remote`]) and the rules for every path.
//!
//! Invariant: the process that holds /dev/fuse never resolves a path in the mount.
//! Invariant: nothing is mounted outside the app's own mount namespace, so nothing has to be unmounted.
//! Invariant: every request of the kernel is answered: with `EINTR` when its caller is interrupted, with `EIO` when the
//! link is gone.

pub mod changes;
mod choose;
pub mod copy;
mod errno;
mod files;
pub mod fuse;
pub mod ns;
mod remote;
mod sys;
mod tree;

pub use choose::{Allowed, Backend, choose};
pub use copy::{CopyView, Fetch};
pub use errno::Errno;
pub use files::Files;
pub use remote::{Answering, Lost, Pod, Remote};
pub use tree::{Identity, PodTree};
