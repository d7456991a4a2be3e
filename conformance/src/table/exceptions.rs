//! Where the table's rule does not hold, and why.

use super::Exception;

pub const EXCEPTIONS: &[Exception] = &[];
