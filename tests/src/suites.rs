//! Public test suites, built from crates.io and from Go modules, and installed from PyPI.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use crate::workspace;

/// A suite's program; built where this version is not there yet.
///
/// # Panics
/// When cargo cannot build it.
#[must_use]
pub fn program(name: &str, version: &str) -> PathBuf {
    let root = workspace().join("target/suites").join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if !program.exists() {
        let mut cargo = Command::new("cargo");
        cargo
            .args(["install", name, "--version", version, "--locked", "--debug", "--root"])
            .arg(&root)
            .args(["--target-dir"])
            .arg(workspace().join("target/suites/build"));
        build(&mut cargo, "cargo can be run");
    }
    program
}

/// The programs of these Go packages, which tests/suites/go.mod has; built where they are not there yet.
///
/// # Panics
/// When go cannot build them.
#[must_use]
pub fn go<const N: usize>(packages: [(&str, &str); N]) -> [PathBuf; N] {
    let source = workspace().join("tests/suites");
    packages.map(|(name, package)| {
        let program = workspace().join("target/suites/go").join(name);
        // It knows itself what is to be done.
        let mut go = Command::new("go");
        go.args(["build", "-buildvcs=false", "-trimpath", "-o"])
            .args([program.as_os_str(), package.as_ref()])
            .current_dir(&source)
            .env("CGO_ENABLED", "0");
        build(&mut go, "Go is installed (https://go.dev/dl)");
        program
    })
}

/// Autobahn's `wstest`.
///
/// # Panics
/// As [`autobahn`].
#[must_use]
pub fn wstest() -> Command {
    autobahn("target/suites/autobahn/bin/wstest")
}

/// Its own server, which says the port that it listens on.
///
/// # Panics
/// As [`autobahn`].
#[must_use]
pub fn testee() -> Command {
    autobahn("tests/suites/testee.py")
}

/// A script in the Python that has the packages of tests/suites/autobahn.txt; they are installed where they are not there yet.
///
/// # Panics
/// When there is no Python 2.7, or pip cannot install them.
fn autobahn(script: &str) -> Command {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _alone = INSTALLING.lock();
    let python = python2();
    let root = workspace().join("target/suites/autobahn");
    let packages = workspace().join("tests/suites/autobahn.txt");
    let installed = root.join("installed.txt");
    let listed = |list| std::fs::read(list).unwrap_or_default();
    if listed(&installed) != listed(&packages) {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--user", "--ignore-installed", "--no-deps"])
            .arg("--requirement")
            .arg(&packages)
            .env("PYTHONUSERBASE", &root);
        build(&mut pip, "it could be run before");
        std::fs::copy(&packages, &installed).expect("target/suites can be written");
    }
    let mut command = Command::new(python);
    command.arg(workspace().join(script)).env("PYTHONUSERBASE", &root);
    command
}

/// A Python 2.7 with pip: the one in PATH, or one of pyenv's, whose own in PATH may lead nowhere.
fn python2() -> PathBuf {
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| Some(std::env::home_dir()?.join(".pyenv")));
    let versions = pyenv.and_then(|root| root.join("versions").read_dir().ok());
    let versions = versions.into_iter().flatten().flatten();
    let has_pip = |python: &PathBuf| {
        let pip = Command::new(python).args(["-m", "pip", "--version"]).output();
        pip.is_ok_and(|ran| ran.status.success())
    };
    std::iter::once(PathBuf::from("python2.7"))
        .chain(versions.map(|version| version.path().join("bin/python2.7")))
        .find(has_pip)
        .expect("Autobahn's suite needs Python 2.7 with pip: `pyenv install 2.7.18`, or a `python2.7` in PATH")
}

fn build(command: &mut Command, there: &str) {
    let built = command.output().expect(there);
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{command:?}: {said}");
}
