//! Every unsafe line of this crate: the kernel calls that neither std nor rustix has.
#![allow(unsafe_code)]

pub(crate) mod call;
pub(crate) mod memory;
pub(crate) mod message;
pub(crate) mod process;
pub(crate) mod seccomp;
pub(crate) mod signal;
pub(crate) mod structs;
