//! Root file systems from Debian packages, without installing anything on the machine: apt resolves against an empty
//! system, and the packages are unpacked without running their scripts.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{At, Result, run};
use crate::packages::{apt_get, with_update};
use crate::paths::Paths;
use crate::stamp::{self, Fingerprint};

/// A shell, the usual commands and the files that every program expects.
const BASE: &[&str] = &["base-files", "base-passwd", "coreutils", "dash"];

/// Needed to install packages, which is done here without them: by how their names begin.
const INSTALLERS: &[&str] = &[
    "adduser_",
    "debconf_",
    "dpkg_",
    "init-system-helpers_",
    "libperl",
    "passwd_",
    "perl",
];

/// What a container never reads.
const DROPPED: &[&str] = &[
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
];

/// Of all that the tree of these packages depends on here; newer versions of the packages are not looked for.
pub(crate) fn inputs(packages: &[&str]) -> Fingerprint {
    Fingerprint::of((packages, BASE, INSTALLERS, DROPPED))
}

/// The tree of these packages and all that they depend on; fetched again only when the list changes.
pub(crate) fn root(paths: &Paths, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let directory = paths.debian(name);
    let root = directory.join("root");
    stamp::make(&paths.stamp(&format!("debian-{name}")), &root, inputs(packages), || {
        if directory.exists() {
            fs::remove_dir_all(&directory).at("empty", &directory)?;
        }
        with_update(|| download(&directory, packages))?;
        unpack(&directory.join("archives"), &root)?;
        finish(&root)
    })?;
    Ok(root)
}

fn download(directory: &Path, packages: &[&str]) -> Result<()> {
    let partial = directory.join("archives/partial");
    fs::create_dir_all(&partial).at("create", &partial)?;
    let status = directory.join("status");
    fs::write(&status, "").at("write", &status)?;
    let option = |name: &str, value: &Path| {
        let mut option = OsString::from(name);
        option.push("=");
        option.push(value);
        option
    };
    let mut apt = apt_get(&["install", "-y", "--download-only", "--no-install-recommends"]);
    apt.arg("-o").arg(option("Dir::State::status", &status));
    apt.arg("-o").arg(option("Dir::Cache", directory));
    // Nothing of the machine's own apt is written, so its locks need not be taken, nor its user be able to write here.
    apt.args(["-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=root"]);
    apt.args(BASE).args(packages);
    run(&format!("download the packages {}", packages.join(" ")), &mut apt).map(drop)
}

fn unpack(archives: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root).at("create", root)?;
    for entry in fs::read_dir(archives).at("list", archives)? {
        let archive = entry.at("list", archives)?.path();
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".deb") && !INSTALLERS.iter().any(|installer| name.starts_with(installer)) {
            run(
                "unpack a package",
                Command::new("dpkg-deb").arg("-x").arg(&archive).arg(root),
            )?;
        }
    }
    fs::remove_dir_all(archives).at("remove", archives)
}

/// What the packages' scripts would have done, as far as anything here needs it.
fn finish(root: &Path) -> Result<()> {
    for dropped in DROPPED {
        drop(fs::remove_dir_all(root.join(dropped)));
    }
    let masters = root.join("usr/share/base-passwd");
    for name in ["passwd", "group"] {
        let target = root.join("etc").join(name);
        fs::copy(masters.join(format!("{name}.master")), &target).at("write", &target)?;
    }
    let shell = root.join("bin/sh");
    if !shell.exists() {
        std::os::unix::fs::symlink("dash", &shell).at("link", &shell)?;
    }
    Ok(())
}
