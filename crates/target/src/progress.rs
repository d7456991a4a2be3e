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

    /// What is waited for, in words for a person. A delivery that does not say what it has sent is another session's.
    #[must_use]
    pub fn waits_for(self) -> &'static str {
        match self {
            Self::Resolve => "waiting for the cluster to say what the target is",
            Self::Patch => "waiting for the cluster to take the agent's container",
            Self::Start => "waiting for the agent's container to run; its image may have to be pulled",
            Self::Deliver => "waiting for another session to send the agent to the pod",
            Self::Attach => "waiting for the agent to answer",
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
    /// Bytes of the agent's program that are on their way to the pod, and all of them.
    Sent(usize, usize),
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

    pub(crate) fn sent(&self, bytes: usize, all: usize) {
        (self.report)(Progress::Sent(bytes, all));
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
