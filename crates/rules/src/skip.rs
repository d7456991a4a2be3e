//! Programs of the app's tree that run untouched: compilers, package managers and the like.

use std::ffi::OsStr;
use std::path::Path;

/// Build tools that are skipped by default: their children are decided anew.
pub const BUILD_TOOLS: &[&str] = &[
    "cc",
    "gcc",
    "g++",
    "c++",
    "clang",
    "clang++",
    "cc1",
    "cc1plus",
    "as",
    "ld",
    "ld.bfd",
    "ld.gold",
    "ld.lld",
    "mold",
    "collect2",
    "ar",
    "rustc",
    "git",
    "git-remote-https",
    "apt",
    "apt-get",
    "dpkg",
    "compile",
    "link",
    "asm",
    "cgo",
    "javac",
    "kotlinc",
];

/// Which executables are skipped, by file name or by whole path.
#[derive(Debug, Clone)]
pub struct SkipRules {
    pub build_tools: bool,
    pub programs: Vec<String>,
}

impl Default for SkipRules {
    fn default() -> Self {
        Self {
            build_tools: true,
            programs: Vec::new(),
        }
    }
}

impl SkipRules {
    /// Decided for each executable at its exec; never inherited.
    #[must_use]
    pub fn skips(&self, executable: &Path) -> bool {
        let name = executable.file_name().unwrap_or(OsStr::new(""));
        (self.build_tools && BUILD_TOOLS.iter().any(|tool| name == *tool))
            || self
                .programs
                .iter()
                .any(|program| name == program.as_str() || executable == Path::new(program))
    }
}
