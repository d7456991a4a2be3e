//! Where the table's rule does not hold, and why.

use super::Exception;
use crate::language::Engine::{Layer, Trap, TrapAndLayer};
use crate::language::Language::{
    Busybox, C, CRaw, CStatic, GoCgo, GoPie, GoRace, GoStatic, GoStripped, Java, Node, Rust, RustStatic,
};
use crate::language::View::{Copy, Path};

pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        behaviours: &["chdir"],
        languages: &[],
        engines: &[Trap],
        views: &[Path, Copy],
        expect: None,
        says: "it cannot be moved into /data/conformance/directory, a directory of the pod, from outside",
        reason: "nobody but a process itself can change its working directory, and that one is not here: it is refused (EACCES).",
    },
    Exception {
        behaviours: &["chdir"],
        languages: &[
            CStatic, CRaw, GoStatic, GoStripped, GoCgo, GoRace, GoPie, RustStatic, Busybox,
        ],
        engines: &[TrapAndLayer],
        views: &[Path, Copy],
        expect: None,
        says: "it cannot be moved into /data/conformance/directory, a directory of the pod, from outside",
        reason: "the same without the layer.",
    },
    Exception {
        behaviours: &["script"],
        languages: &[],
        engines: &[],
        views: &[Path, Copy],
        expect: None,
        says: "it is a file of the pod, and the pod's programs cannot be run on this machine",
        reason: "the kernel would look for its interpreter and libraries on this machine: it is refused (EACCES).",
    },
    Exception {
        behaviours: &["symlinks"],
        languages: &[C, Rust, Node, Java],
        engines: &[Layer],
        views: &[Copy],
        expect: None,
        says: "",
        reason: "realpath(3) is the library's own there, and follows a link of the pod only at the path's end.",
    },
];
