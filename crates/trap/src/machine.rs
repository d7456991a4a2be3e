//! What this machine allows of what the trap needs.
//!
//! Kernel versions say little: container profiles, yama and policies refuse calls that the kernel has. So everything is
//! really done once, on a child made for it ([`Machine::probe`]), before an app is started that would meet it later.

mod probe;
mod words;

use std::time::Duration;

use rustix::io::Errno;

pub use words::{LOOSEN, Surroundings};

/// How long the trial may take: it takes about a millisecond, so this is for a child that never answers.
const DEADLINE: Duration = Duration::from_secs(1);

/// Something that a kernel may lack, or a profile around this process may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// A seccomp filter whose calls are answered from outside.
    Notification,
    /// An answer that is a descriptor (`SECCOMP_IOCTL_NOTIF_ADDFD` with `SEND`).
    AddDescriptor,
    /// `process_vm_readv(2)` and `process_vm_writev(2)` on a child.
    ProcessMemory,
    /// `pidfd_getfd(2)` on a child.
    PidfdGetfd,
    /// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`.
    SynchronousWakeUp,
    /// `pidfd_open(2)` with `PIDFD_THREAD`.
    PidfdThread,
}

impl Capability {
    /// What the trap cannot work without comes first.
    pub const ALL: [Self; 6] = [
        Self::Notification,
        Self::AddDescriptor,
        Self::ProcessMemory,
        Self::PidfdGetfd,
        Self::SynchronousWakeUp,
        Self::PidfdThread,
    ];

    /// For machines and for the test switch: stays as it is.
    #[must_use]
    pub fn key(self) -> &'static str {
        self.row().key
    }

    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// What it is good for, and what is lost without it.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.row().about
    }

    /// Whether the trap cannot work without it.
    #[must_use]
    pub fn is_needed(self) -> bool {
        self.row().needed
    }

    fn row(self) -> Row {
        let (key, name, needed, about) = match self {
            Self::Notification => (
                "notification",
                "seccomp notification",
                true,
                "calls of any program can be answered, static ones and children with a changed environment too",
            ),
            Self::AddDescriptor => (
                "addfd",
                "answers by descriptor",
                true,
                "a trapped open or accept can return a descriptor",
            ),
            Self::ProcessMemory => (
                "process_vm",
                "process_vm_readv",
                true,
                "the paths and addresses of trapped calls can be read",
            ),
            Self::PidfdGetfd => (
                "pidfd_getfd",
                "pidfd_getfd",
                true,
                "the sockets of the program can be connected and looked at",
            ),
            Self::SynchronousWakeUp => (
                "sync_wake_up",
                "synchronous wake-up",
                false,
                "a trapped call costs about 4 us, without it about 45",
            ),
            Self::PidfdThread => (
                "pidfd_thread",
                "thread pidfds",
                false,
                "a thread is still served when the first thread of its process has ended",
            ),
        };
        Row {
            key,
            name,
            needed,
            about,
        }
    }
}

struct Row {
    key: &'static str,
    name: &'static str,
    needed: bool,
    about: &'static str,
}

/// Why something is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// The kernel, or what stands before it, answered this.
    Refused(Errno),
    /// It was allowed, but nothing came of it before the deadline.
    Silent,
    /// It could not be tried, because this is absent.
    Needs(Capability),
    /// The test switch `INPOD_WITHOUT` says so.
    SwitchedOff,
}

/// Why something is absent, as people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub why: String,
    /// What to do about it, where anything can be done.
    pub help: Option<String>,
}

/// What was found out about this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    found: [Result<(), Absent>; Capability::ALL.len()],
    around: Surroundings,
}

impl Machine {
    /// Tries everything, with the rights of this process and from within whatever surrounds it: about a millisecond. A
    /// process of its own is made for it and is gone afterwards.
    ///
    /// # Errors
    /// When there is no process to be had.
    pub fn probe() -> std::io::Result<Self> {
        Ok(Self {
            found: probe::probe(DEADLINE)?,
            around: Surroundings::read(),
        })
    }

    /// One that is made up, for tests and documentation.
    #[must_use]
    pub fn made_up(around: Surroundings, found: impl Fn(Capability) -> Result<(), Absent>) -> Self {
        Self {
            found: Capability::ALL.map(found),
            around,
        }
    }

    /// This machine as if `capability` were not there.
    #[must_use]
    pub fn without(mut self, capability: Capability) -> Self {
        self.found[capability as usize] = Err(Absent::SwitchedOff);
        if capability == Capability::Notification {
            for dependent in [Capability::AddDescriptor, Capability::SynchronousWakeUp] {
                self.found[dependent as usize] = Err(Absent::Needs(capability));
            }
        }
        self
    }

    /// Whether a container's profile, or another seccomp filter, is in force on this process.
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        self.around.filtered
    }

    /// # Errors
    /// Why it is not to be had.
    pub fn has(&self, capability: Capability) -> Result<(), Absent> {
        self.found[capability as usize]
    }

    /// Why `capability` is absent and what to do, if it is.
    #[must_use]
    pub fn explain(&self, capability: Capability) -> Option<Explanation> {
        let absent = self.has(capability).err()?;
        Some(words::explain(capability, absent, &self.around))
    }

    /// Whether the trap can work here.
    ///
    /// # Errors
    /// The first thing that it needs and that is absent, and why.
    pub fn can_trap(&self) -> Result<(), (Capability, Explanation)> {
        let missing = Capability::ALL
            .into_iter()
            .filter(|capability| capability.is_needed())
            .find_map(|capability| Some((capability, self.explain(capability)?)));
        missing.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_in_the_list_is_the_capability_s_own() {
        for (index, capability) in Capability::ALL.into_iter().enumerate() {
            assert_eq!(capability as usize, index, "{capability:?}");
        }
    }

    #[test]
    fn the_trap_needs_the_first_four() {
        let all = Machine::made_up(Surroundings::default(), |_| Ok(()));
        assert_eq!(all.can_trap(), Ok(()));
        for capability in Capability::ALL {
            let without = all.clone().without(capability);
            match without.can_trap() {
                Ok(()) => assert!(!capability.is_needed(), "{capability:?}"),
                Err((missing, why)) => {
                    assert_eq!(missing, capability);
                    assert!(capability.is_needed(), "{capability:?}");
                    assert_eq!(why.why, "switched off by INPOD_WITHOUT");
                }
            }
        }
        let none = all.without(Capability::Notification);
        assert_eq!(
            none.has(Capability::SynchronousWakeUp),
            Err(Absent::Needs(Capability::Notification))
        );
    }
}
