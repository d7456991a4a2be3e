//! What happens on the way to an agent, and how long each part takes.

use std::fmt;
use std::time::{Duration, Instant};

/// A part of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Kubeconfig, target, pod, node: what is there, and whether it can be reached.
    Resolve,
    /// An ephemeral container is added to the pod, with the most rights that admission allows.
    Patch,
    /// Until that container answers exec.
    Start,
    /// The agent's program travels into the container.
    Deliver,
    /// Until the agent answers.
    Attach,
}

impl Phase {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Patch => "patch",
            Self::Start => "start",
            Self::Deliver => "deliver",
            Self::Attach => "attach",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What [`crate::Connector::connect`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Began(Phase),
    Ended(Phase, Duration),
}

/// Reports one phase from its beginning to its end.
pub(crate) struct Clock<'a> {
    report: &'a (dyn Fn(Progress) + Send + Sync),
    phase: Phase,
    since: Instant,
}

impl<'a> Clock<'a> {
    pub(crate) fn begin(report: &'a (dyn Fn(Progress) + Send + Sync), phase: Phase) -> Self {
        report(Progress::Began(phase));
        Self {
            report,
            phase,
            since: Instant::now(),
        }
    }

    pub(crate) fn end(self) {
        (self.report)(Progress::Ended(self.phase, self.since.elapsed()));
    }

    /// Ends this phase and begins the next.
    pub(crate) fn next(self, phase: Phase) -> Self {
        let report = self.report;
        self.end();
        Self::begin(report, phase)
    }
}
