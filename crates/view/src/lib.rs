//! The target container's root as a file system on this machine.
//!
//! Programs under a session see the pod's files where the pod has them. [`Backend`] says how: **ns**, a private mount
//! namespace ([`ns::Layout`]) in which one FUSE mount, served by the session's server process ([`Files::serve`]), has its
//! parts bound to their real places; **path**, without a namespace: the same FUSE mount, made by `fusermount3`
//! ([`mount`]) in a directory of the session, to which the trap leads paths; or **copy** ([`copy::CopyView`]), without
//! either: files fetched whole on first use. All ask the pod through one trait ([`Remote`]) and the rules for every path.
//!
//! Invariant: the process that holds /dev/fuse never resolves a path in the mount.
//! Invariant: what is mounted outside the app's own mount namespace (path) has a [`Keeper`], which unmounts it.
//! Invariant: every request of the kernel is answered: with `EINTR` when its caller is interrupted, with `EIO` when the
//! link is gone.

pub mod changes;
mod choose;
pub mod copy;
mod errno;
mod files;
pub mod fuse;
mod fusermount;
mod keeper;
mod members;
pub mod ns;
mod remote;
mod sys;
mod tree;

pub use choose::{Allowed, Backend, try_fusermount, try_namespace};
pub use copy::{CopyView, Fetch};
pub use errno::Errno;
pub use files::Files;
pub use fusermount::{MountError, mount, unmount};
pub use keeper::Keeper;
pub use members::Members;
pub use remote::{Answering, Lost, Pod, Remote};
pub use tree::{Identity, PodTree};
