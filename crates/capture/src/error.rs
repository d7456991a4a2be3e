//! What can go wrong.

use rustix::io::Errno;

/// Why packets cannot be captured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// EPERM.
    #[error("{doing}: not permitted: the process lacks NET_RAW in the user namespace that owns this network namespace")]
    Permission {
        /// What was being done.
        doing: &'static str,
    },

    /// The kernel has no packet sockets, or no ring of version 3 (Linux 3.2).
    #[error("{doing}: this kernel has no packet sockets with a ring (CONFIG_PACKET, TPACKET_V3)")]
    Unsupported {
        /// What was being done.
        doing: &'static str,
    },

    /// No such interface in this network namespace.
    #[error("there is no network interface {name:?} here")]
    Interface {
        /// Its name.
        name: String,
    },

    /// The configuration cannot work.
    #[error("{what}")]
    Config {
        /// What is wrong with it.
        what: String,
    },

    /// Any other answer.
    #[error("{doing}: {errno}")]
    Kernel {
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
}

/// What an errno means.
pub(crate) fn meaning(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| match errno {
        Errno::PERM | Errno::ACCESS => Error::Permission { doing },
        Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT | Errno::NOPROTOOPT => Error::Unsupported { doing },
        errno => Error::Kernel { doing, errno },
    }
}
