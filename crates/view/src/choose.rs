//! Which backend works for this user on this machine, and why not the better one.

use std::fmt;
use std::os::unix::fs::PermissionsExt;

use crate::fusermount;
use crate::ns::{Step, probe};

/// How the pod's files are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// A private mount namespace; `user`: inside a user namespace of its own.
    Namespace { user: bool },
    /// `fusermount3` mounts them in a directory of the session, and paths are led there, because of this.
    Path { why: String },
    /// Files are fetched whole on first use, because of this.
    Copy { why: String },
}

impl fmt::Display for Backend {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace { user: false } => out.write_str("files: mount namespace"),
            Self::Namespace { user: true } => out.write_str("files: mount namespace in a user namespace"),
            Self::Path { why } => write!(out, "files: mounted aside by fusermount3, because {why}"),
            Self::Copy { why } => write!(out, "files: copied on first use, because {why}"),
        }
    }
}

impl Backend {
    /// The first that works. `namespace`: whether it is in a user namespace, or why there is none; `path`: why not.
    #[must_use]
    pub fn of(namespace: Result<bool, String>, path: impl FnOnce() -> Result<(), String>) -> Self {
        let why = match namespace {
            Ok(user) => return Self::Namespace { user },
            Err(why) => why,
        };
        match path() {
            Ok(()) => Self::Path { why },
            // Both may lack the same.
            Err(also) if also == why => Self::Copy { why },
            Err(also) => Self::Copy {
                why: format!("{why}, and {also}"),
            },
        }
    }
}

/// Tries, in a child process, what the namespace backend needs; whether that is inside of a user namespace, which is left
/// out unless `users`. Takes about a millisecond; nothing stays. `filtered`: a seccomp filter is in force here, which
/// explains a refusal.
///
/// # Errors
/// Why it does not work, for people.
pub fn try_namespace(filtered: bool, users: Result<(), String>) -> Result<bool, String> {
    let mut why = None;
    // The directory in which a container runs as root without CAP_SYS_ADMIN may still allow a user namespace.
    if rustix::process::geteuid().is_root() {
        match probe(false) {
            Ok(()) => return Ok(false),
            Err((step, error)) => why = Some(explain(step, &error, filtered)),
        }
    }
    let user = users.and_then(|()| probe(true).map_err(|(step, error)| explain(step, &error, filtered)));
    match user {
        Ok(()) => Ok(true),
        Err(also) => Err(why.unwrap_or(also)),
    }
}

/// Tries what the path backend needs: mounts once, and unmounts. Takes about ten milliseconds.
///
/// # Errors
/// Why it does not work, for people.
pub fn try_fusermount(filtered: bool) -> Result<(), String> {
    open_fuse(filtered)?;
    fusermount::probe().map_err(|error| error.to_string())
}

fn open_fuse(filtered: bool) -> Result<(), String> {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/fuse");
    opened
        .map(drop)
        .map_err(|error| explain(Step::OpenFuse, &error, filtered))
}

/// What of this machine the choice depends on, for people who want to know why it is as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// `Err`: why /dev/fuse cannot be used.
    pub fuse: Result<(), String>,
    /// `Err`: why this user can make no mount namespace inside a user namespace.
    pub user_namespaces: Result<(), String>,
    /// `Err`: why `fusermount3` cannot mount here.
    pub fusermount: Result<(), String>,
}

impl Allowed {
    /// Tries all of it, whatever is chosen in the end.
    #[must_use]
    pub fn probe(filtered: bool) -> Self {
        Self {
            fuse: open_fuse(filtered),
            user_namespaces: match probe(true) {
                Err((step @ (Step::Unshare | Step::Isolate | Step::CopyMount | Step::Probe), error)) => {
                    Err(explain(step, &error, filtered))
                }
                // Inside of the namespace already.
                Err((Step::OpenFuse | Step::MountFuse, _)) | Ok(()) => Ok(()),
            },
            fusermount: try_fusermount(filtered),
        }
    }
}

fn explain(step: Step, error: &std::io::Error, filtered: bool) -> String {
    match (step, error.raw_os_error()) {
        (Step::OpenFuse, Some(libc::EACCES | libc::EPERM)) => match std::fs::metadata("/dev/fuse") {
            Ok(metadata) => format!(
                "/dev/fuse is not usable by this user (mode {:04o})",
                metadata.permissions().mode() & 0o7777
            ),
            Err(error) => format!("/dev/fuse is not usable by this user ({error})"),
        },
        (Step::OpenFuse, Some(libc::ENOENT)) => "there is no /dev/fuse on this machine".to_owned(),
        (Step::OpenFuse, Some(libc::ENODEV | libc::ENXIO)) => {
            "this kernel has no FUSE (/dev/fuse cannot be opened)".to_owned()
        }
        (Step::Unshare, Some(libc::EPERM | libc::EACCES)) if filtered => {
            "the container's seccomp profile, or a policy, refuses new namespaces".to_owned()
        }
        (Step::Unshare, Some(libc::EPERM | libc::EACCES)) => "user namespaces are not allowed for this user".to_owned(),
        (Step::Unshare, Some(libc::ENOSPC | libc::EUSERS)) => {
            "no more namespaces are allowed for this user (user.max_user_namespaces, user.max_mnt_namespaces)"
                .to_owned()
        }
        (Step::CopyMount, Some(libc::ENOSYS)) => {
            "this kernel cannot copy mounts (open_tree came with Linux 5.2; gVisor has none)".to_owned()
        }
        (step, _) => format!("{step} failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_why() {
        let denied = std::io::Error::from_raw_os_error(libc::EACCES);
        let why = explain(Step::OpenFuse, &denied, false);
        let backend = Backend::Copy { why }.to_string();
        assert!(
            backend.starts_with("files: copied on first use, because /dev/fuse is not usable by this user (mode 0"),
            "{backend}"
        );
        let limit = std::io::Error::from_raw_os_error(libc::ENOSPC);
        assert!(explain(Step::Unshare, &limit, true).contains("max_user_namespaces"));
        let refused = |filtered| explain(Step::Unshare, &denied, filtered);
        assert!(refused(true).contains("seccomp profile"), "{}", refused(true));
        assert_eq!(refused(false), "user namespaces are not allowed for this user");
        let unknown = std::io::Error::from_raw_os_error(libc::ENOSYS);
        assert!(explain(Step::CopyMount, &unknown, false).contains("gVisor"));
    }
}
