//! What ends a session, and how it is told.

use guest::protocol::{Failure, FailureKind};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Target(#[from] target::TargetError),
    #[error("the agent does not answer as expected")]
    Link(#[from] wire::LinkError),
    #[error("the agent cannot {what}: {fault}")]
    Agent {
        what: &'static str,
        fault: wire::message::Fault,
    },
    #[error("the agent was asked to {what} and answered something else")]
    Confused { what: &'static str },
    #[error("{what} is refused here: {reason}")]
    Refused { what: &'static str, reason: String },
    #[error("a mirror has no part in the handshake, so it sees of TLS only what is encrypted (incoming.tls)")]
    Encrypted,
    #[error("{pem} cannot be used for TLS: {why}")]
    Pem { pem: String, why: String },
    #[error("what comes in cannot be shown here: {reason}")]
    Unseen { reason: String },
    #[error("it is not known which ports of the target to look at: {reason}")]
    NoPort { reason: String },
    #[error("cannot {what} on this machine")]
    Machine { what: &'static str, source: std::io::Error },
    #[error("the connection to the target is lost")]
    Lost(#[source] wire::LinkError),
    #[error(
        "the session was stopped by {by} (a name that its client gave itself) (`inpod sessions stop`, or `--take-over`)"
    )]
    Stopped { by: String },
}

impl SessionError {
    /// For the launching process to show.
    pub(crate) fn failure(&self) -> Failure {
        let (kind, hints) = match self {
            Self::Target(error @ (target::TargetError::NoSteal { .. } | target::TargetError::OwnAgents { .. })) => {
                (FailureKind::Refused, error.hints())
            }
            Self::Target(error @ (target::TargetError::AgentProgram { .. } | target::TargetError::Start(_))) => {
                (FailureKind::Machine, error.hints())
            }
            Self::Target(error) => (FailureKind::Target, error.hints()),
            Self::Link(_) | Self::Agent { .. } | Self::Confused { .. } => (FailureKind::Target, Vec::new()),
            Self::Refused { what: "steal", .. } => (
                FailureKind::Refused,
                vec!["use --mirror or --no-incoming, or a target that allows it".to_owned()],
            ),
            Self::Refused { .. } => (
                FailureKind::Refused,
                vec!["leave the flag out to go on without it".to_owned()],
            ),
            Self::Encrypted => (
                FailureKind::Refused,
                vec!["use --steal, with a filter where only some requests are to come here".to_owned()],
            ),
            Self::Pem { .. } | Self::Unseen { .. } => (FailureKind::Refused, Vec::new()),
            Self::NoPort { .. } => (FailureKind::Refused, vec!["name them: --port 8080".to_owned()]),
            Self::Machine { .. } => (FailureKind::Machine, Vec::new()),
            Self::Stopped { .. } => (FailureKind::Lost, Vec::new()),
            Self::Lost(_) => (
                FailureKind::Lost,
                vec![
                    "the pod may have been replaced or restarted: run the command again to attach to the new one"
                        .to_owned(),
                ],
            ),
        };
        Failure {
            kind,
            message: self.to_string(),
            causes: Failure::causes(self),
            hints,
        }
    }
}
