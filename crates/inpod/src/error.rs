//! The one error that leaves the command, and its exit code.

use std::fmt;

use guest::protocol::{Failure, FailureKind};
use serde::Serialize;
use target::TargetError;

use crate::text::plain;

/// What failed, for the exit code. Numbers are those of `sysexits.h`, 126 and 127 those of shells (POSIX 2.8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Usage,
    Target,
    Internal,
    Machine,
    Lost,
    Refused,
    Config,
    NotExecutable,
    NotFound,
}

impl Kind {
    /// By exit code.
    pub const ALL: [Self; 9] = [
        Self::Usage,
        Self::Target,
        Self::Internal,
        Self::Machine,
        Self::Lost,
        Self::Refused,
        Self::Config,
        Self::NotExecutable,
        Self::NotFound,
    ];

    #[must_use]
    pub fn code(self) -> u8 {
        self.row().0
    }

    /// One line for help and documentation.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u8, &'static str) {
        match self {
            Self::Usage => (2, "the arguments are wrong"),
            Self::Target => (
                69,
                "the target cannot be found or reached, or its cluster does not allow it",
            ),
            Self::Internal => (70, "a defect of inpod"),
            Self::Machine => (71, "this machine does not allow something that is needed"),
            Self::Lost => (
                74,
                "while the program ran, the connection to the target was lost for good, or another user stopped the session",
            ),
            Self::Refused => (
                77,
                "what was asked for cannot work at this target (steal, mirror), or another session holds it",
            ),
            Self::Config => (78, "the configuration is wrong"),
            Self::NotExecutable => (126, "the program cannot be executed"),
            Self::NotFound => (127, "the program was not found"),
        }
    }
}

/// What is told when the command fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CliError {
    pub kind: Kind,
    /// What happened, in one sentence.
    pub message: String,
    /// Outermost first; the cluster's own words verbatim.
    pub causes: Vec<String>,
    /// What to do, the most likely first.
    pub hints: Vec<String>,
}

impl CliError {
    /// `error` and its chain of sources.
    #[must_use]
    pub fn new(kind: Kind, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        message.truncate(message.trim_end().len());
        Self {
            kind,
            message,
            causes: Failure::causes(error),
            hints: Vec::new(),
        }
    }

    #[must_use]
    pub fn hints(mut self, hints: impl IntoIterator<Item = String>) -> Self {
        self.hints.extend(hints);
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indented = |text: &str| plain(text).replace('\n', "\n  ");
        write!(formatter, "error: {}", indented(&self.message))?;
        for cause in &self.causes {
            write!(formatter, "\n  because: {}", indented(cause))?;
        }
        for hint in &self.hints {
            write!(formatter, "\n  try: {}", indented(hint))?;
        }
        Ok(())
    }
}

impl std::error::Error for CliError {}

impl From<config::Error> for CliError {
    fn from(error: config::Error) -> Self {
        let kind = if error.is_usage() { Kind::Usage } else { Kind::Config };
        Self::new(kind, &error).hints(error.hint())
    }
}

impl From<TargetError> for CliError {
    fn from(error: TargetError) -> Self {
        let kind = match error {
            TargetError::NoSteal { .. } | TargetError::OwnAgents { .. } => Kind::Refused,
            TargetError::AgentProgram { .. } | TargetError::Start(_) => Kind::Machine,
            _ => Kind::Target,
        };
        Self::new(kind, &error).hints(error.hints())
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind {
            FailureKind::Target => Kind::Target,
            FailureKind::Refused => Kind::Refused,
            FailureKind::Lost => Kind::Lost,
            FailureKind::Internal => Kind::Internal,
            FailureKind::Machine => Kind::Machine,
        };
        Self {
            kind,
            message: failure.message,
            causes: failure.causes,
            hints: failure.hints,
        }
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
