//! What the interceptors (trap, later the layer) share with each other and with the session's server: the guest
//! protocol, the marker, events, a guest's memory, ELF reading.
//!
//! The guest protocol passes between the two processes of a session on this machine only, so it needs no versions; what
//! it passes besides plain values are descriptors.

pub mod channel;
pub mod elf;
pub mod event;
pub mod marker;
pub mod protocol;
