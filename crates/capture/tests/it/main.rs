//! Real traffic, captured beside a real server. Needs root and iproute2, and fails without them; everything happens in
//! network namespaces of the test's own.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

mod bodies;
mod datagrams;
mod edges;
mod errors;
mod rate;
mod recorder;
mod world;
