//! How much an agent may do: the ladder of container security settings, most first.

use std::fmt;

use k8s_openapi::api::core::v1::{Capabilities, Pod, SeccompProfile, SecurityContext};

use super::pod;

/// A rung of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// What `restricted` PodSecurity admits, as the target's user: env, files, outgoing, names.
    Restricted,
    /// Root with nothing added: mirror where the runtime's default set has `NET_RAW`; no steal.
    Root,
    /// Root with `NET_ADMIN`, `NET_RAW` and `SYS_PTRACE`: everything.
    Full,
}

impl Rung {
    /// Most rights first: the order in which they are tried.
    pub const LADDER: [Self; 3] = [Self::Full, Self::Root, Self::Restricted];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "root with NET_ADMIN, NET_RAW and SYS_PTRACE",
            Self::Root => "root without added capabilities",
            Self::Restricted => "restricted, as the target's user",
        }
    }

    /// Whether packet rules can be set.
    #[must_use]
    pub fn can_steal(self) -> bool {
        self == Self::Full
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A rung that the cluster refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    pub rung: Rung,
    /// The cluster's own words.
    pub message: String,
}

/// The rights an agent has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    pub rung: Rung,
    /// Why not more; empty where nothing more was asked for, and for an agent that ran already.
    pub denials: Vec<Denial>,
    /// The agent ran already: another session started it.
    pub reused: bool,
    /// The ephemeral container.
    pub container: String,
}

/// The capabilities of [`Rung::Full`]. They take effect only because its user is root.
const ADDED: [&str; 3] = ["NET_ADMIN", "NET_RAW", "SYS_PTRACE"];

/// The security settings of an agent for `container`. Settings of the container level are not inherited by ephemeral
/// containers, so what the target's own say is repeated where the agent must be like it.
pub(crate) fn security_context(rung: Rung, pod: &Pod, container: &str, own_image: bool) -> SecurityContext {
    let own = pod::container(pod, container).and_then(|container| container.security_context.as_ref());
    let shared = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    // With another label the target's /proc would be closed.
    let se_linux_options = own.and_then(|own| own.se_linux_options.clone());
    match rung {
        Rung::Full | Rung::Root => SecurityContext {
            run_as_user: Some(0),
            run_as_group: Some(0),
            run_as_non_root: Some(false),
            read_only_root_filesystem: Some(false),
            capabilities: (rung == Rung::Full).then(|| Capabilities {
                add: Some(ADDED.map(str::to_owned).to_vec()),
                drop: None,
            }),
            se_linux_options,
            ..SecurityContext::default()
        },
        Rung::Restricted => {
            let user = own
                .and_then(|own| own.run_as_user)
                .or(shared.and_then(|shared| shared.run_as_user));
            let group = own
                .and_then(|own| own.run_as_group)
                .or(shared.and_then(|shared| shared.run_as_group));
            let seccomp = own.and_then(|own| own.seccomp_profile.clone());
            let seccomp = seccomp.or_else(|| shared.and_then(|shared| shared.seccomp_profile.clone()));
            let default = || SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            };
            SecurityContext {
                // Without a number anywhere it is the image's user, which is the target's only in the target's image.
                run_as_user: user.or((!own_image).then_some(65_534)),
                run_as_group: group,
                run_as_non_root: Some(true),
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(false),
                capabilities: Some(Capabilities {
                    add: None,
                    drop: Some(vec!["ALL".to_owned()]),
                }),
                seccomp_profile: Some(seccomp.unwrap_or_else(default)),
                se_linux_options,
                ..SecurityContext::default()
            }
        }
    }
}

/// The rung that an existing agent's settings stand for.
pub(crate) fn rung_of(settings: Option<&SecurityContext>) -> Rung {
    let Some(settings) = settings else {
        return Rung::Restricted;
    };
    let added = settings
        .capabilities
        .as_ref()
        .and_then(|capabilities| capabilities.add.as_deref());
    let added = added.unwrap_or_default();
    match settings.run_as_user {
        Some(0) if ADDED.iter().all(|wanted| added.iter().any(|added| added == wanted)) => Rung::Full,
        Some(0) => Rung::Root,
        _ => Rung::Restricted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rungs_are_told_apart() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "app"}]}})).expect("a pod");
        for rung in Rung::LADDER {
            assert_eq!(rung_of(Some(&security_context(rung, &pod, "app", true))), rung);
        }
        assert!(Rung::Full > Rung::Root && Rung::Root > Rung::Restricted);
        assert_eq!(rung_of(None), Rung::Restricted);
    }
}
