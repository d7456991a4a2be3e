//! The programs that are built here: Kubernetes and CoreDNS from their Go modules, the pause program, the shop.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result, run};
use crate::paths::Paths;
use crate::stamp::{self, Fingerprint};

/// As testbed/kubernetes/go.mod requires it.
pub(crate) const KUBERNETES: &str = "1.34.4";

/// Without a version in it kubectl cannot parse what the server says of itself.
fn kubernetes_ldflags() -> String {
    let package = "k8s.io/component-base/version";
    let mut numbers = KUBERNETES.split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    format!("-s -w -X {package}.gitVersion=v{KUBERNETES} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}")
}

/// Minutes the first time on two cores; the Go cache and a stamp make it nothing afterwards.
pub(crate) fn kubernetes(paths: &Paths) -> Result<Fingerprint> {
    go(paths, "kubernetes", &kubernetes_ldflags())
}

pub(crate) fn coredns(paths: &Paths) -> Result<Fingerprint> {
    go(paths, "coredns", "-s -w")
}

fn go(paths: &Paths, name: &str, ldflags: &str) -> Result<Fingerprint> {
    let source = paths.source(name);
    let output = paths.program(name);
    let inputs = Fingerprint::of_tree(&source)?.and(Fingerprint::of(ldflags));
    stamp::make(&paths.stamp(name), &output, inputs, || {
        let doing = format!("build {name}");
        let mut build = Command::new("nice");
        build
            .args(["go", "build", "-buildvcs=false", "-trimpath", "-ldflags", ldflags, "-o"])
            .arg(&output)
            .arg(".");
        build.current_dir(&source).env("CGO_ENABLED", "0");
        if Command::new("go").arg("version").output().is_err() {
            let (why, hint) = ("there is no go in PATH", "install Go 1.24 or later, https://go.dev/dl");
            return Err(Error::Unmet {
                doing,
                why: why.to_owned(),
                hint: hint.to_owned(),
            });
        }
        run(&doing, &mut build).map(drop)
    })?;
    Ok(inputs)
}

/// The first process of every pod, and of the node itself.
pub(crate) fn pause(paths: &Paths) -> Result<Fingerprint> {
    let source = paths.source("images/pause.c");
    let output = paths.program("pause");
    let inputs = Fingerprint::of_tree(&source)?;
    stamp::make(&paths.stamp("pause"), &output, inputs, || {
        let mut cc = Command::new("gcc");
        cc.args(["-static", "-O2", "-s", "-Wall", "-Werror", "-o"])
            .arg(&output)
            .arg(&source);
        run("build the pause program", &mut cc).map(drop)
    })?;
    Ok(inputs)
}

/// Static, so that it starts in any image.
pub(crate) fn shop(paths: &Paths) -> Result<Fingerprint> {
    let output = paths.program("shop");
    let inputs = Fingerprint::of_tree(&paths.source("shop"))?.and(Fingerprint::of_tree(&paths.source("fixture"))?);
    stamp::make(&paths.stamp("shop"), &output, inputs, || {
        let doing = "build the shop";
        let (mut build, directory) = statically(&paths.workspace, &["shop"]);
        run(doing, build.arg("--quiet"))?;
        copy(doing, &directory.join("shop"), &output)
    })?;
    Ok(inputs)
}

/// How static programs of the workspace are built, and the directory that they are in then. Whoever wants one asks here: other
/// flags, or other packages to resolve features for, and cargo would compile all they are made of once more.
#[must_use]
pub fn statically(workspace: &Path, programs: &[&str]) -> (Command, PathBuf) {
    // Naming the target keeps the flags away from build scripts and proc macros.
    const TARGET: &str = if cfg!(target_arch = "aarch64") {
        "aarch64-unknown-linux-gnu"
    } else {
        "x86_64-unknown-linux-gnu"
    };
    // A directory of its own: the usual one may be locked by the cargo that runs us.
    let directory = workspace.join("target/static");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build
        .current_dir(workspace)
        .args(["build", "--release", "--workspace", "--target", TARGET, "--target-dir"])
        .arg(&directory)
        .args(programs.iter().flat_map(|program| ["--bin", program]))
        // They travel over slow links, and a panic says its file and line without symbols.
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env(
            "RUSTFLAGS",
            "-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\"",
        );
    (build, directory.join(TARGET).join("release"))
}

fn copy(doing: &str, from: &Path, to: &Path) -> Result<()> {
    run(doing, Command::new("install").args(["-m", "0755"]).arg(from).arg(to)).map(drop)
}
