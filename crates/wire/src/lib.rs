//! The link between a session and an agent, and everything that passes over it.
//!
//! Layers from below, each testable alone over an in-memory duplex: transport (any `AsyncRead + AsyncWrite`), preface
//! ([`hello`]), resume (reserved: the preface carries its token), yamux, messages ([`message`]).
//!
//! Invariant: only this crate knows wire types; a size is checked before every decode.

#![forbid(unsafe_code)]

pub mod hello;
pub mod message;
