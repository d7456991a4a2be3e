//! The place of the resume layer: above the preface, below the mux.
//!
//! When it exists, it numbers and acknowledges the bytes of each direction, keeps a bounded number of unacknowledged ones,
//! and on a new transport (matched by [`Hello::session`] and [`Hello::token`]) replays from the last acknowledged byte; the
//! mux above does not notice. Both ends then set [`crate::hello::feature::RESUME`]. Until then bytes pass through.

use crate::{BoxTransport, Hello, Transport};

/// Wraps the transport for the mux; `ours` and `theirs` decide whether bytes are numbered.
#[must_use]
pub fn layer<T: Transport>(transport: T, _ours: &Hello, _theirs: &Hello) -> BoxTransport {
    Box::new(transport)
}
