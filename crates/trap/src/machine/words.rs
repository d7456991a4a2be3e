//! Why something is absent, in words: an errno alone says too little, the same one comes from the kernel, from a
//! container's profile and from yama.

use rustix::io::Errno;

use super::{Absent, Capability, Explanation};

/// What explains a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// `kernel.yama.ptrace_scope`, where there is yama.
    pub ptrace_scope: Option<u8>,
    /// A seccomp filter is in force on this process already: a container's profile.
    pub filtered: bool,
}

impl Surroundings {
    /// Those of this process.
    pub(super) fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            ptrace_scope: read("/proc/sys/kernel/yama/ptrace_scope").trim().parse().ok(),
            // Seccomp: 2 is SECCOMP_MODE_FILTER (proc_pid_status(5)).
            filtered: read("/proc/self/status")
                .lines()
                .any(|line| line.split_whitespace().eq(["Seccomp:", "2"])),
        }
    }
}

pub(super) fn explain(capability: Capability, absent: Absent, around: &Surroundings) -> Explanation {
    let (why, help) = match absent {
        Absent::SwitchedOff => ("switched off by INPOD_WITHOUT".to_owned(), None),
        Absent::Needs(other) => (format!("it needs {}", other.name()), None),
        Absent::Silent => ("it was allowed, but did not answer in time".to_owned(), None),
        Absent::Refused(errno) => refused(capability, errno, around),
    };
    Explanation { why, help }
}

fn refused(capability: Capability, errno: Errno, around: &Surroundings) -> (String, Option<String>) {
    let name = capability.name();
    match (capability, errno) {
        (Capability::Notification, Errno::BUSY) => (
            "a seccomp listener is already in force: this runs inside of another inpod, or of a tool that traps calls \
             as inpod does"
                .to_owned(),
            Some("run it outside of that".to_owned()),
        ),
        (Capability::ProcessMemory | Capability::PidfdGetfd, Errno::PERM | Errno::ACCESS) => hidden(name, around),
        (_, Errno::PERM | Errno::ACCESS) => (
            format!("{} refuses {name} ({errno})", surrounding(around)),
            Some(LOOSEN.to_owned()),
        ),
        // What a kernel says to a call, a request or a flag that it does not know.
        (_, Errno::NOSYS | Errno::INVAL | Errno::NOTTY) => {
            let kernel = format!("this kernel has no {name} (it came with {})", since(capability));
            match around.filtered {
                true => (
                    format!("{kernel}, or the container's seccomp profile hides it"),
                    Some(LOOSEN.to_owned()),
                ),
                false => (
                    kernel,
                    Some("use a newer kernel, or run it outside of gVisor, which has none of this".to_owned()),
                ),
            }
        }
        (_, errno) => (format!("{name} failed: {errno}"), None),
    }
}

/// Other processes' memory and descriptors: two keepers may say no.
fn hidden(name: &str, around: &Surroundings) -> (String, Option<String>) {
    match around.ptrace_scope {
        Some(scope @ 2) => (
            format!("yama refuses {name} to all but root (kernel.yama.ptrace_scope = {scope})"),
            Some("sudo sysctl kernel.yama.ptrace_scope=1".to_owned()),
        ),
        Some(scope @ 3..) => (
            format!("yama refuses {name} to everybody (kernel.yama.ptrace_scope = {scope})"),
            Some("set kernel.yama.ptrace_scope=1 in /etc/sysctl.d and restart the machine".to_owned()),
        ),
        _ => (
            format!("{} refuses {name}", surrounding(around)),
            Some(format!(
                "give the container the capability SYS_PTRACE (docker run --cap-add SYS_PTRACE; in Kubernetes \
                 securityContext.capabilities.add), or {LOOSEN}"
            )),
        ),
    }
}

fn surrounding(around: &Surroundings) -> &'static str {
    if around.filtered {
        "the container's seccomp profile, or a policy,"
    } else {
        "a security policy of this machine"
    }
}

/// What helps against a container's profile.
pub const LOOSEN: &str = "start the container without a seccomp profile (docker run --security-opt seccomp=unconfined; in Kubernetes \
                      seccompProfile.type: Unconfined)";

/// The Linux that brought it.
fn since(capability: Capability) -> &'static str {
    match capability {
        Capability::Notification => "Linux 5.5",
        Capability::AddDescriptor => "Linux 5.14",
        Capability::ProcessMemory => "Linux 3.2",
        Capability::PidfdGetfd => "Linux 5.6",
        Capability::SynchronousWakeUp => "Linux 6.6",
        Capability::PidfdThread => "Linux 6.9",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_errno_has_different_reasons() {
        let free = Surroundings::default();
        let container = Surroundings {
            filtered: true,
            ptrace_scope: Some(1),
        };
        let yama = |scope| Surroundings {
            filtered: false,
            ptrace_scope: Some(scope),
        };
        for (capability, errno, around, why, help) in [
            (
                Capability::Notification,
                Errno::BUSY,
                free,
                "a seccomp listener is already in force: this runs inside of another inpod, or of a tool that traps calls \
                 as inpod does",
                "run it outside of that",
            ),
            (
                Capability::Notification,
                Errno::NOSYS,
                free,
                "this kernel has no seccomp notification (it came with Linux 5.5)",
                "use a newer kernel, or run it outside of gVisor, which has none of this",
            ),
            (
                Capability::Notification,
                Errno::PERM,
                container,
                "the container's seccomp profile, or a policy, refuses seccomp notification (Operation not permitted (os error 1))",
                LOOSEN,
            ),
            (
                Capability::PidfdGetfd,
                Errno::PERM,
                container,
                "the container's seccomp profile, or a policy, refuses pidfd_getfd",
                "give the container the capability SYS_PTRACE (docker run --cap-add SYS_PTRACE; in Kubernetes \
                 securityContext.capabilities.add), or start the container without a seccomp profile (docker run \
                 --security-opt seccomp=unconfined; in Kubernetes seccompProfile.type: Unconfined)",
            ),
            (
                Capability::PidfdGetfd,
                Errno::NOSYS,
                container,
                "this kernel has no pidfd_getfd (it came with Linux 5.6), or the container's seccomp profile hides it",
                LOOSEN,
            ),
            (
                Capability::ProcessMemory,
                Errno::PERM,
                yama(2),
                "yama refuses process_vm_readv to all but root (kernel.yama.ptrace_scope = 2)",
                "sudo sysctl kernel.yama.ptrace_scope=1",
            ),
            (
                Capability::ProcessMemory,
                Errno::PERM,
                yama(3),
                "yama refuses process_vm_readv to everybody (kernel.yama.ptrace_scope = 3)",
                "set kernel.yama.ptrace_scope=1 in /etc/sysctl.d and restart the machine",
            ),
            (
                Capability::SynchronousWakeUp,
                Errno::INVAL,
                free,
                "this kernel has no synchronous wake-up (it came with Linux 6.6)",
                "use a newer kernel, or run it outside of gVisor, which has none of this",
            ),
        ] {
            let explanation = explain(capability, Absent::Refused(errno), &around);
            assert_eq!(
                (explanation.why.as_str(), explanation.help.as_deref()),
                (why, Some(help)),
                "{capability:?} {errno:?}"
            );
        }
    }
}
