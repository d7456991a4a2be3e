//! What can go wrong, said so that a person knows what to do.

use rustix::io::Errno;

/// Why packet rules could not be made, changed or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// EPERM or EACCES for the whole request.
    #[error(
        "{doing}: not permitted: the process lacks NET_ADMIN in the user namespace that owns this network namespace"
    )]
    Permission {
        /// What was being done.
        doing: String,
    },

    /// The kernel refuses the owner flag. Without it the rules would outlive the process.
    #[error("{doing}: the kernel does not know tables with an owner: Linux 5.12 or later is needed")]
    NoOwnerFlag {
        /// What was being done.
        doing: String,
    },

    /// A table of this name exists in this network namespace.
    #[error("{doing}: table inet {table} is held by another process{}", holder.map_or(String::new(), |port| format!(" (netlink port {port}, usually its pid)")))]
    Held {
        /// What was being done.
        doing: String,
        /// The table's name.
        table: String,
        /// The holder's netlink port: normally the process id as seen in the holder's PID namespace. `None` when the
        /// table has no owner, or is gone by now.
        holder: Option<u32>,
    },

    /// nf_tables, or the part of it that this step needs, is neither built in nor loadable.
    #[error("{doing}: this kernel has no nf_tables, or not the part that is needed here")]
    Missing {
        /// What was being done.
        doing: String,
    },

    /// The configuration cannot work.
    #[error("{what}")]
    Config {
        /// What is wrong with it.
        what: String,
    },

    /// More than the table is made for.
    #[error("too many {what}: at most {limit}")]
    TooMany {
        /// Ports or clients.
        what: &'static str,
        /// The limit.
        limit: usize,
    },

    /// The address cannot be the source of a connection.
    #[error("{0} cannot be a client's address")]
    Address(std::net::IpAddr),

    /// The connection was not redirected: it was made to the listener itself.
    #[error("the connection was not redirected")]
    NotRedirected,

    /// Any other answer.
    #[error("{doing}: {errno}")]
    Kernel {
        /// What was being done.
        doing: String,
        /// The kernel's answer.
        errno: Errno,
    },
}

/// What the errno of a failed step means.
pub(crate) fn meaning(doing: &str, step: Step, errno: Errno) -> Error {
    let doing = doing.to_owned();
    match (step, errno) {
        (Step::Whole, Errno::PERM | Errno::ACCESS) => Error::Permission { doing },
        (Step::Whole, Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT | Errno::NOENT) => {
            Error::Missing { doing }
        }
        // nf_tables_newtable: EPERM when another socket owns it, EEXIST when none does or we do.
        (Step::Table, Errno::PERM | Errno::EXIST | Errno::BUSY) => Error::Held {
            doing,
            table: String::new(),
            holder: None,
        },
        // Before 5.12 an unknown flag is EINVAL, since then EOPNOTSUPP.
        (Step::Table, Errno::INVAL | Errno::OPNOTSUPP) => Error::NoOwnerFlag { doing },
        (Step::Part, Errno::NOENT | Errno::OPNOTSUPP) => Error::Missing { doing },
        (_, errno) => Error::Kernel { doing, errno },
    }
}

/// Which part of a request an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The request as such.
    Whole,
    /// Creating the table.
    Table,
    /// Creating a chain, set or rule.
    Part,
    /// Changing an element, or removing.
    Change,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errno_is_explained_by_where_it_comes_from() {
        let text = |step, errno| meaning("creating", step, errno).to_string();
        for (step, errno, expect) in [
            (Step::Whole, Errno::PERM, "NET_ADMIN"),
            (Step::Whole, Errno::OPNOTSUPP, "no nf_tables"),
            (Step::Whole, Errno::PROTONOSUPPORT, "no nf_tables"),
            (Step::Table, Errno::PERM, "held by another"),
            (Step::Table, Errno::EXIST, "held by another"),
            (Step::Table, Errno::INVAL, "5.12"),
            (Step::Table, Errno::OPNOTSUPP, "5.12"),
            (Step::Part, Errno::NOENT, "not the part"),
            (Step::Change, Errno::NOENT, "creating: No such file"),
            (Step::Part, Errno::NOMEM, "creating: Cannot allocate"),
        ] {
            assert!(
                text(step, errno).contains(expect),
                "{step:?} {errno:?}: {}",
                text(step, errno)
            );
        }
    }
}
