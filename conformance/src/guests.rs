//! The guest programs, built from conformance/guests into target/conformance where they are missing or old.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::guests::build;
use tests::workspace;

use crate::language::Language;

/// The command of a language's guest, without the behaviours. Builds it.
///
/// # Panics
/// When a compiler is missing or refuses.
#[must_use]
pub fn command(language: Language) -> Vec<String> {
    match language {
        Language::C => c(language, "gcc", &[]),
        Language::CStatic => c(language, "gcc", &["-static"]),
        Language::CRaw => c(language, "gcc", &["-DRAW"]),
        Language::CMusl => c(language, "musl-gcc", &[]),
        Language::GoStatic => go(language, false, &[]),
        Language::GoStripped => go(language, false, &["-ldflags=-s -w"]),
        Language::GoCgo => go(language, true, &["-tags=withcgo"]),
        Language::GoRace => go(language, true, &["-race"]),
        Language::GoPie => go(language, false, &["-buildmode=pie"]),
        Language::Rust => rust(language, &[]),
        Language::RustStatic => rust(language, &["-C", "target-feature=+crt-static"]),
        Language::Python => vec!["/usr/bin/python3".to_owned(), source("python/guest.py")],
        Language::Node => vec!["node".to_owned(), source("node/guest.js")],
        Language::Java => java(),
        Language::Bash => vec!["bash".to_owned(), source("bash/guest.sh")],
        Language::Busybox => vec!["busybox".to_owned(), "sh".to_owned(), source("busybox/guest.sh")],
    }
}

/// One of the C programs in conformance/guests/trouble, dynamic.
///
/// # Panics
/// When the compiler refuses.
#[must_use]
pub fn c_program(name: &str) -> String {
    let source = guests().join("trouble").join(name).with_extension("c");
    let output = workspace().join("target/conformance").join(name);
    let mut command = Command::new("gcc");
    command.args(["-O1", "-Wall", "-pthread", "-o"]);
    build(std::slice::from_ref(&source), &output, |staged| {
        command.arg(staged).arg(&source)
    });
    output.display().to_string()
}

/// A Go program, by its path below conformance/guests without the extension, static.
///
/// # Panics
/// When the compiler refuses.
#[must_use]
pub fn go_program(path: &str) -> String {
    let source = guests().join(path).with_extension("go");
    let name = source.file_stem().expect("a program has a name");
    let output = workspace().join("target/conformance").join(name);
    let mut command = Command::new("go");
    command
        .args(["build", "-o"])
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local");
    build(std::slice::from_ref(&source), &output, |staged| {
        command.arg(staged).arg(&source)
    });
    output.display().to_string()
}

/// The Go client, for a debugger: not optimised, and with what Debian's delve can read.
///
/// # Panics
/// When the compiler refuses.
#[must_use]
pub fn go_program_for_delve() -> String {
    let source = guests().join("programs/go/httpclient.go");
    let output = workspace().join("target/conformance/httpclient-to-debug");
    let mut command = Command::new("go");
    command
        .args(["build", "-gcflags=all=-N -l", "-o"])
        .env("CGO_ENABLED", "0")
        .env("GOEXPERIMENT", "nodwarf5")
        .env("GOTOOLCHAIN", "local");
    build(std::slice::from_ref(&source), &output, |staged| {
        command.arg(staged).arg(&source)
    });
    output.display().to_string()
}

/// The command of one of the Java guest's classes.
#[must_use]
pub fn java_program(class: &str) -> Vec<String> {
    let mut command = java();
    command.pop();
    command.push(class.to_owned());
    command
}

/// A file below conformance/guests.
#[must_use]
pub fn source(name: &str) -> String {
    guests().join(name).display().to_string()
}

fn guests() -> PathBuf {
    workspace().join("conformance/guests")
}

fn output(language: Language) -> PathBuf {
    workspace().join("target/conformance").join(language.name())
}

/// Every file of a guest: some are included by others.
fn sources(directory: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(guests().join(directory)).expect("the guest lies in the checkout");
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| {
        extensions
            .iter()
            .any(|extension| path.extension().is_some_and(|found| found == *extension))
    });
    found.sort();
    found
}

fn c(language: Language, compiler: &str, flags: &[&str]) -> Vec<String> {
    let mut command = Command::new(compiler);
    command
        .args(["-O1", "-Wall", "-Wno-attributes", "-pthread"])
        .args(flags);
    command.args(sources("c", &["c"])).arg("-o");
    made(language, &sources("c", &["c", "h"]), &mut command)
}

fn go(language: Language, cgo: bool, flags: &[&str]) -> Vec<String> {
    let mut command = Command::new("go");
    command
        .arg("build")
        .args(flags)
        .arg("-o")
        .current_dir(guests().join("go"));
    command
        .env("CGO_ENABLED", if cgo { "1" } else { "0" })
        .env("GOTOOLCHAIN", "local");
    made(language, &sources("go", &["go", "mod"]), &mut command)
}

fn rust(language: Language, flags: &[&str]) -> Vec<String> {
    let mut command = Command::new("rustc");
    // Naming the target keeps crt-static away from what runs at build time.
    command.args(["--edition", "2024", "-O", "--target", "x86_64-unknown-linux-gnu"]);
    command.args(flags).arg(guests().join("rust/guest.rs")).arg("-o");
    made(language, &sources("rust", &["rs"]), &mut command)
}

fn java() -> Vec<String> {
    let mut command = Command::new("javac");
    command.args(sources("java", &["java"])).arg("-d");
    let classes = made(Language::Java, &sources("java", &["java"]), &mut command);
    // The serial collector and the first compiler: what it starts with is not what is looked at here.
    [
        "java",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Xshare:auto",
        "-cp",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(classes)
    .chain(["Guest".to_owned()])
    .collect()
}

/// Runs a compiler whose last argument is the output.
fn made(language: Language, sources: &[PathBuf], command: &mut Command) -> Vec<String> {
    let output: PathBuf = output(language);
    build(sources, &output, |staged: &Path| command.arg(staged));
    vec![output.display().to_string()]
}
