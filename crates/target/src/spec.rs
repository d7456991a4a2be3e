//! What a person writes to name a target.

use std::fmt;
use std::str::FromStr;

/// A target by name; nothing is looked up yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TargetSpec {
    /// `pod/NAME[/container/C]`
    Pod { name: String, container: Option<String> },
    /// `deploy/NAME[/container/C]` and its likes: one ready pod of it.
    Workload {
        kind: WorkloadKind,
        name: String,
        container: Option<String>,
    },
    /// `process/PID` on this machine.
    Process(u32),
}

/// Kinds that run pods, by their selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
}

/// The one table of kinds: the form that is printed, then what else kubectl accepts.
const WORKLOADS: [(WorkloadKind, &[&str]); 4] = [
    (WorkloadKind::Deployment, &["deploy", "deployment", "deployments"]),
    (WorkloadKind::StatefulSet, &["statefulset", "statefulsets", "sts"]),
    (WorkloadKind::DaemonSet, &["daemonset", "daemonsets", "ds"]),
    (WorkloadKind::ReplicaSet, &["replicaset", "replicasets", "rs"]),
];
const PODS: &[&str] = &["pod", "pods", "po"];
const PROCESS: &str = "process";

/// Why a text is not a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("`{0}` is not a target: write KIND/NAME, for example deploy/checkout, pod/checkout-7d4b or process/4711")]
    Form(String),
    #[error(
        "`{kind}` is not a kind of target{}: pod, deploy, statefulset, daemonset, replicaset and process are",
        hint(near)
    )]
    Kind { kind: String, near: Option<String> },
    #[error(
        "`{0}` is not the name of a Kubernetes object: lower-case letters, digits, `-` and `.`, at most 253 characters"
    )]
    Name(String),
    #[error("`{0}` is not a process id: a decimal number from 1 to 4194304")]
    Pid(String),
    #[error("`{0}` after the name is not understood: only /container/NAME may follow")]
    Tail(String),
    #[error("a process has no containers: `{0}` cannot be had")]
    ProcessContainer(String),
}

fn hint(near: &Option<String>) -> String {
    near.as_ref()
        .map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"))
}

impl WorkloadKind {
    /// The short form, as it is written in a target.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        WORKLOADS
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or("workload", |(_, names)| names[0])
    }

    /// The resource as RBAC rules name it.
    #[must_use]
    pub fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
            Self::ReplicaSet => "replicasets",
        }
    }
}

impl TargetSpec {
    /// The container that the text names, if it does.
    #[must_use]
    pub fn container(&self) -> Option<&str> {
        match self {
            Self::Pod { container, .. } | Self::Workload { container, .. } => container.as_deref(),
            Self::Process(_) => None,
        }
    }
}

impl FromStr for TargetSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut parts = text.split('/');
        let (Some(kind), Some(name)) = (parts.next(), parts.next()) else {
            return Err(SpecError::Form(text.to_owned()));
        };
        if kind.is_empty() || name.is_empty() {
            return Err(SpecError::Form(text.to_owned()));
        }
        let tail: Vec<&str> = parts.collect();
        if kind == PROCESS {
            if !tail.is_empty() {
                return Err(SpecError::ProcessContainer(tail.join("/")));
            }
            return pid(name).map(Self::Process);
        }
        let container = match tail.as_slice() {
            [] => None,
            ["container", container] => Some(object_name(container)?),
            _ => return Err(SpecError::Tail(tail.join("/"))),
        };
        if PODS.contains(&kind) {
            return Ok(Self::Pod {
                name: object_name(name)?,
                container,
            });
        }
        let Some((kind, _)) = WORKLOADS.iter().find(|(_, names)| names.contains(&kind)) else {
            let known = PODS
                .iter()
                .chain(WORKLOADS.iter().flat_map(|(_, names)| names.iter()))
                .chain([&PROCESS]);
            let near = crate::near::nearest(kind, known.copied()).into_iter().next();
            return Err(SpecError::Kind {
                kind: kind.to_owned(),
                near,
            });
        };
        Ok(Self::Workload {
            kind: *kind,
            name: object_name(name)?,
            container,
        })
    }
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { name, .. } => write!(formatter, "pod/{name}")?,
            Self::Workload { kind, name, .. } => write!(formatter, "{}/{name}", kind.as_str())?,
            Self::Process(pid) => write!(formatter, "process/{pid}")?,
        }
        match self.container() {
            Some(container) => write!(formatter, "/container/{container}"),
            None => Ok(()),
        }
    }
}

/// PID_MAX_LIMIT on 64-bit machines (include/linux/threads.h).
const PID_MAX: u32 = 4 * 1024 * 1024;

fn pid(text: &str) -> Result<u32, SpecError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|pid| digits && (1..=PID_MAX).contains(pid))
        .ok_or_else(|| SpecError::Pid(text.to_owned()))
}

/// An RFC 1123 subdomain: what Kubernetes takes for the names of pods and workloads.
pub(crate) fn object_name(text: &str) -> Result<String, SpecError> {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err(SpecError::Name(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, container: Option<&str>) -> TargetSpec {
        TargetSpec::Pod {
            name: name.to_owned(),
            container: container.map(str::to_owned),
        }
    }

    fn workload(kind: WorkloadKind, name: &str, container: Option<&str>) -> TargetSpec {
        TargetSpec::Workload {
            kind,
            name: name.to_owned(),
            container: container.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_understood() {
        use WorkloadKind::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
        let cases = [
            ("pod/web-0", pod("web-0", None), "pod/web-0"),
            (
                "po/web-0/container/app",
                pod("web-0", Some("app")),
                "pod/web-0/container/app",
            ),
            ("pods/a.b", pod("a.b", None), "pod/a.b"),
            (
                "deploy/checkout",
                workload(Deployment, "checkout", None),
                "deploy/checkout",
            ),
            (
                "deployment/c/container/x",
                workload(Deployment, "c", Some("x")),
                "deploy/c/container/x",
            ),
            ("sts/db", workload(StatefulSet, "db", None), "statefulset/db"),
            ("ds/log", workload(DaemonSet, "log", None), "daemonset/log"),
            ("rs/web-1", workload(ReplicaSet, "web-1", None), "replicaset/web-1"),
            ("process/4711", TargetSpec::Process(4711), "process/4711"),
        ];
        for (text, expected, shown) in cases {
            let parsed: TargetSpec = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(parsed, expected, "{text}");
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(
                shown.parse::<TargetSpec>(),
                Ok(expected),
                "what is printed is understood again"
            );
        }
    }

    #[test]
    fn what_is_refused() {
        let cases = [
            ("", "is not a target"),
            ("web", "is not a target"),
            ("pod/", "is not a target"),
            ("/web", "is not a target"),
            ("deplyo/web", "did you mean `deploy`?"),
            ("service/web", "is not a kind of target"),
            ("pod/Web", "is not the name of a Kubernetes object"),
            ("pod/-web", "is not the name of a Kubernetes object"),
            ("pod/we b", "is not the name of a Kubernetes object"),
            ("pod/web/container", "only /container/NAME may follow"),
            ("pod/web/container/", "is not the name"),
            ("pod/web/app", "only /container/NAME may follow"),
            ("pod/web/container/a/b", "only /container/NAME may follow"),
            ("process/0", "is not a process id"),
            ("process/-1", "is not a process id"),
            ("process/+1", "is not a process id"),
            ("process/99999999999", "is not a process id"),
            ("process/1/container/a", "a process has no containers"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<TargetSpec>().expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
