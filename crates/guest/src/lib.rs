//! What the interceptors (trap and layer) share with each other and with the session's server: the guest protocol, the
//! marker, events, what the layer knows, how it forwards a call, ELF reading.
//!
//! The guest protocol passes between the processes of a session on this machine only, so it needs no versions; what it
//! passes besides plain values are descriptors.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "std")]
pub mod channel;
#[cfg(feature = "std")]
pub mod elf;
#[cfg(feature = "std")]
pub mod event;
pub mod forward;
pub mod image;
pub mod marker;
pub mod paths;
#[cfg(feature = "std")]
pub mod protocol;
