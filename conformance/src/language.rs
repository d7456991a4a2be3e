//! What programs are written in, and how they are built.

/// A kind of program, as far as it matters to who intercepts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    C,
    CStatic,
    CRaw,
    CMusl,
    GoStatic,
    GoStripped,
    GoCgo,
    GoRace,
    GoPie,
    Rust,
    RustStatic,
    Python,
    Node,
    Java,
    Bash,
    Busybox,
}

use Language::{
    Bash, Busybox, C, CMusl, CRaw, CStatic, GoCgo, GoPie, GoRace, GoStatic, GoStripped, Java, Node, Python, Rust,
    RustStatic,
};

pub const ALL: &[Language] = &[
    C, CStatic, CRaw, CMusl, GoStatic, GoStripped, GoCgo, GoRace, GoPie, Rust, RustStatic, Python, Node, Java, Bash,
    Busybox,
];

impl Language {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            C => "c",
            CStatic => "c-static",
            CRaw => "c-raw",
            CMusl => "c-musl",
            GoStatic => "go-static",
            GoStripped => "go-stripped",
            GoCgo => "go-cgo",
            GoRace => "go-race",
            GoPie => "go-pie",
            Rust => "rust",
            RustStatic => "rust-static",
            Python => "python",
            Node => "node",
            Java => "java",
            Bash => "bash",
            Busybox => "busybox",
        }
    }

    /// For people who read the document.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            C => "C, glibc, dynamic",
            CStatic => "C, glibc, static",
            CRaw => "C, dynamic, with `syscall` instructions of its own",
            CMusl => "C, musl, dynamic",
            GoStatic => "Go, static (`CGO_ENABLED=0`)",
            GoStripped => "the same, stripped (`-ldflags '-s -w'`)",
            GoCgo => "Go with cgo: dynamic, but its runtime makes its system calls itself",
            GoRace => "Go, `-race`",
            GoPie => "Go, `-buildmode=pie`",
            Rust => "Rust, dynamic",
            RustStatic => "Rust, `+crt-static`",
            Python => "Python 3",
            Node => "Node",
            Java => "Java",
            Bash => "bash and the programs it starts",
            Busybox => "busybox sh, static",
        }
    }

    /// Whether a preloaded library can see all that it does: dynamic, of glibc, and without system calls of its own.
    #[must_use]
    pub fn can_be_preloaded(self) -> bool {
        matches!(self, C | Rust | Python | Node | Java | Bash)
    }
}

/// How the pod's files come to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum View {
    /// They lie at their real places, in a mount namespace.
    Namespace,
    /// They are mounted aside by fusermount3: path calls are trapped and led there.
    Path,
    /// They are copied on first use: path calls are trapped.
    Copy,
}

pub const VIEWS: &[View] = &[View::Namespace, View::Path, View::Copy];

impl View {
    /// For people who read the document.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Namespace => "files mounted",
            Self::Path => "files mounted aside",
            Self::Copy => "files copied",
        }
    }

    /// What the names of its tests end with.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Namespace => "",
            Self::Path => "::path",
            Self::Copy => "::copy",
        }
    }

    /// The value of `INPOD_WITHOUT` that makes a machine which allows all choose this one.
    #[must_use]
    pub fn without(self) -> Option<&'static str> {
        match self {
            Self::Namespace => None,
            Self::Path => Some("mount_namespaces"),
            Self::Copy => Some("fuse"),
        }
    }
}

/// How a program is intercepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Engine {
    TrapAndLayer,
    Trap,
    Layer,
}

pub const ENGINES: &[Engine] = &[Engine::TrapAndLayer, Engine::Trap, Engine::Layer];

impl Engine {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TrapAndLayer => "trap+layer",
            Self::Trap => "trap",
            Self::Layer => "layer",
        }
    }

    /// The value of `inpod exec --engine`.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::TrapAndLayer => "auto",
            Self::Trap => "trap",
            Self::Layer => "layer",
        }
    }
}
