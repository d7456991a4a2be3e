//! Where sessions go: the playground and the real cluster.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use playground::Playground;
use testbed::Testbed;

/// The checkout.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests lies in the checkout")
}

/// The statically linked services.
#[must_use]
pub fn shop() -> PathBuf {
    let path = workspace().join("target/static/x86_64-unknown-linux-gnu/release/shop");
    assert!(
        path.exists(),
        "{} is missing: `cargo xtask test` builds it",
        path.display()
    );
    path
}

/// A playground of the caller's own.
///
/// # Panics
/// When it cannot be had here.
#[must_use]
pub fn playground(name: &str) -> Playground {
    let directory = std::env::temp_dir().join(format!("inpod-tests-{}-{name}", std::process::id()));
    Playground::start(&shop(), &directory).unwrap_or_else(|error| panic!("{error}"))
}

/// The one cluster of this machine, which must be up.
///
/// # Panics
/// When it is not.
pub fn testbed() -> &'static Testbed {
    static TESTBED: OnceLock<Testbed> = OnceLock::new();
    TESTBED.get_or_init(|| {
        Testbed::require().unwrap_or_else(|error| panic!("{error}; `cargo xtask testbed up` brings it up"))
    })
}
