//! What only a kernel can show. Needs root, iproute2 and nftables, and fails without them; every rule is made in network
//! namespaces of the test's own.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

mod chain;
mod datagrams;
mod errors;
mod lifetime;
mod redirect;
mod speed;
mod world;
