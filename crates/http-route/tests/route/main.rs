//! One connection through `route`, with scripted clients and upstreams.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

mod bodies;
mod cases;
mod harness;
mod http2;
mod tcp;
