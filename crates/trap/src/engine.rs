//! Which interceptors work together in a session.

use std::fmt;

/// How the app's calls are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The filter sees everything, the layer makes the common calls of dynamic programs fast.
    TrapAndLayer,
    /// The filter alone.
    Trap,
    /// The layer alone, where the filter is not to be had: what it cannot enter is refused.
    Layer,
}

impl Engine {
    #[must_use]
    pub fn traps(self) -> bool {
        self != Self::Layer
    }

    #[must_use]
    pub fn layers(self) -> bool {
        self != Self::Trap
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::TrapAndLayer => "trap+layer",
            Self::Trap => "trap",
            Self::Layer => "layer",
        })
    }
}
