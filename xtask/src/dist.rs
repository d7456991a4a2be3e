//! `cargo xtask dist`: the one executable with everything inside.

use std::path::PathBuf;

use crate::build::{layer, programs, statically};
use crate::shell::{root, say};

/// Builds target/dist/inpod, which needs nothing beside it.
///
/// # Errors
/// When a build fails or the executable cannot be put in its place.
pub fn run() -> Result<PathBuf, String> {
    let (agent, layer) = (statically(&["agent"])?.join("agent"), layer()?);
    let mut build = programs(&["inpod"]);
    build.env("INPOD_EMBED_AGENT", &agent).env("INPOD_EMBED_LAYER", &layer);
    crate::shell::run(&mut build)?;
    let dist = root().join("target/dist");
    std::fs::create_dir_all(&dist).map_err(|error| format!("cannot make {}: {error}", dist.display()))?;
    let (from, staged, to) = (
        root().join("target/release/inpod"),
        dist.join(".inpod.new"),
        dist.join("inpod"),
    );
    // Renamed into place, so that a running inpod is not written over.
    std::fs::copy(&from, &staged)
        .and_then(|_| std::fs::rename(&staged, &to))
        .map_err(|error| format!("cannot write {}: {error}", to.display()))?;
    say(&format!("built {}", to.display()));
    Ok(to)
}
