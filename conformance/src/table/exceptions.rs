//! Where the table's rule does not hold, and why.

use super::Exception;
use crate::language::Engine::{Layer, Trap, TrapAndLayer};
use crate::language::Language::{C, Java, Node, Rust};
use crate::language::View::Copy;

pub const EXCEPTIONS: &[Exception] = &[
    // To go with its cause: a directory above one that is this machine's is the pod's, and not in the pod.
    Exception {
        behaviours: &[
            "read",
            "list",
            "cwd",
            "chdir",
            "symlinks",
            "stat",
            "access",
            "write",
            "local-file",
            "script",
            "environment",
            "host-name",
            "spawn-child",
            "bare-environment",
        ],
        languages: &[Node],
        engines: &[],
        views: &[Copy],
        expect: None,
        says: "",
        reason: "Node does not start: it looks at every directory above its script, and those that the pod does not have are \
                 absent, although what is below them is this machine's.",
    },
    // To go when it can.
    Exception {
        behaviours: &["chdir"],
        languages: &[],
        engines: &[],
        views: &[Copy],
        expect: None,
        says: "it cannot be moved into /data/conformance/directory, a directory of the pod, from outside",
        reason: "a directory that is not here cannot be a process' working directory: it is refused (EACCES).",
    },
    Exception {
        behaviours: &["script"],
        languages: &[],
        engines: &[],
        views: &[Copy],
        expect: None,
        says: "it is a file of the pod, and the pod's programs cannot be run on this machine",
        reason: "the kernel would look for a copy's interpreter and libraries on this machine: it is refused (EACCES).",
    },
    Exception {
        behaviours: &["cwd"],
        languages: &[Java],
        engines: &[TrapAndLayer, Trap],
        views: &[Copy],
        expect: None,
        says: "",
        reason: "the same with Java's toRealPath of the working directory.",
    },
    Exception {
        behaviours: &["symlinks"],
        languages: &[C, Rust, Java],
        engines: &[Layer],
        views: &[Copy],
        expect: None,
        says: "",
        reason: "realpath(3) is the library's own there, and follows a link of the pod only at the path's end.",
    },
];
