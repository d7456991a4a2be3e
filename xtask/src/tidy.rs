//! `cargo xtask tidy`: the house rules that rustfmt, clippy and cargo-deny do not know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::{cargo, root, say};

/// Longest file that is not asked to be split, in lines.
const LONG: usize = 600;

/// Which of the workspace's crates each may depend on: dependencies point one way.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("rules", &[]),
    ("wire", &["rules"]),
    ("nft", &[]),
    ("capture", &[]),
    ("http-route", &[]),
    ("tls", &[]),
    ("guest", &["rules"]),
    ("layer", &["guest"]),
    ("config", &["rules"]),
    ("trap", &["guest", "rules"]),
    ("view", &["rules", "wire", "guest"]),
    ("target", &["wire"]),
    ("agent", &["capture", "http-route", "nft", "rules", "tls", "wire"]),
    (
        "session",
        &["guest", "http-route", "nft", "rules", "target", "tls", "view", "wire"],
    ),
    (
        "inpod",
        &[
            "config",
            "guest",
            "http-route",
            "rules",
            "session",
            "target",
            "trap",
            "view",
            "wire",
        ],
    ),
];

/// Crates that may hold unsafe code at all, each in its `sys` module or, where the crate is a kernel interface, anywhere.
const MAY_BE_UNSAFE: &[&str] = &[
    "trap", "layer", "nft", "capture", "guest", "view", "target", "agent", "session", "inpod",
];

/// # Errors
/// Every broken rule, a line each.
pub fn run() -> Result<(), String> {
    let mut broken = Vec::new();
    dependencies(&mut broken)?;
    sources(&mut broken)?;
    if broken.is_empty() {
        say("tidy: every house rule holds");
        return Ok(());
    }
    Err(format!(
        "{} house rules are broken:\n  {}",
        broken.len(),
        broken.join("\n  ")
    ))
}

fn dependencies(broken: &mut Vec<String>) -> Result<(), String> {
    let output = cargo(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .map_err(|error| format!("cannot run cargo metadata: {error}"))?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata printed no JSON: {error}"))?;
    let allowed: BTreeMap<&str, BTreeSet<&str>> = MAY_DEPEND_ON
        .iter()
        .map(|(name, on)| (*name, on.iter().copied().collect()))
        .collect();
    let packages = metadata["packages"].as_array().into_iter().flatten();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed_here) = allowed.get(name) else {
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let for_tests = dependency["kind"] == "dev";
            if allowed.contains_key(on) && !allowed_here.contains(on) && !for_tests {
                broken.push(format!(
                    "crate {name} depends on {on}: dependencies point one way, see MAY_DEPEND_ON"
                ));
            }
        }
    }
    Ok(())
}

fn sources(broken: &mut Vec<String>) -> Result<(), String> {
    let crates = root().join("crates");
    let mut files = Vec::new();
    rust_files(&crates, &mut files).map_err(|error| format!("cannot read {}: {error}", crates.display()))?;
    for file in files {
        let text = fs::read_to_string(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let shown = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        let lines = text.lines().count();
        if lines > LONG {
            broken.push(format!("{shown} has {lines} lines: over {LONG} asks to be split"));
        }
        let owner = shown.split('/').nth(1).unwrap_or_default();
        if text.contains("allow(unsafe_code)") && !MAY_BE_UNSAFE.contains(&owner) {
            broken.push(format!("{shown} allows unsafe code, which crate {owner} may not"));
        }
        if file.ends_with("src/lib.rs") && !text.starts_with("//!") {
            broken.push(format!("{shown} does not open with why the crate exists"));
        }
    }
    Ok(())
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            rust_files(&entry.path(), files)?;
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            files.push(entry.path());
        }
    }
    Ok(())
}
