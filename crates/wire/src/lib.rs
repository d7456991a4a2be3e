//! The link between a session and an agent, and everything that passes over it.
//!
//! Layers from below, each testable alone over an in-memory duplex: [`Transport`] (any `AsyncRead + AsyncWrite`), preface
//! ([`hello`]), [`resume`] (its place: bytes pass through for now), mux (yamux, driven by one task), [`Stream`]s, and
//! [`message`]s in [`frame`]s. [`connect`] and [`accept`] build all of it.
//!
//! Invariant: only this crate knows wire types; a size is checked before every decode.
//! Invariant: a stream's end is either said by its writer or is an error. yamux cannot tell the two apart once the own end
//! is closed, so [`Stream`] says it in band.

#![forbid(unsafe_code)]

mod arrivals;
pub mod calls;
mod change;
mod check;
pub mod control;
pub mod datagram;
mod error;
pub mod frame;
pub mod fuzz;
pub mod hello;
mod join;
mod link;
pub mod message;
mod mux;
mod outbox;
mod preface;
pub mod resume;
mod sessions;
mod stream;
mod tls;
pub mod underway;
mod xattr;

pub use calls::{Calls, FilesClient};
pub use control::ControlClient;
pub use error::LinkError;
pub use hello::Hello;
pub use join::join;
pub use link::{Acceptor, Link, accept, connect};
pub use stream::{BULK, Stream};
pub use underway::Underway;

use tokio::io::{AsyncRead, AsyncWrite};

/// What carries a link: an ordered, reliable pair of byte streams.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}

/// A transport of any kind.
pub type BoxTransport = Box<dyn Transport>;
