//! File mode `write-local`: what the app changes in the pod's files is kept on this machine.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use ::playground::Playground;
use tempfile::TempDir;
use tests::{Run, playground, suites};

struct Pod {
    playground: Playground,
    /// As this machine reaches it.
    root: PathBuf,
    before: Vec<String>,
    state: TempDir,
}

impl Pod {
    fn new(name: &str) -> Self {
        let playground = playground(name);
        let root = PathBuf::from(format!("/proc/{}/root", playground.pid()));
        for directory in ["data/in/directory", "data/out"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in ["data/in/file", "data/in/directory/inner"] {
            std::fs::write(root.join(file), "as it was\n").unwrap();
        }
        Self {
            playground,
            before: content(&root.join("data")),
            root,
            state: tempfile::tempdir().unwrap(),
        }
    }

    fn run(&self) -> Run {
        Run::inside(&self.playground)
            .env("INPOD_FILES_MODE", "write-local")
            .env("XDG_STATE_HOME", self.state.path().to_str().unwrap())
    }

    /// What sessions without a directory of their own have left.
    fn left(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.state.path().join("inpod/changes"))
            .into_iter()
            .flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn assert_unchanged(&self) {
        assert_eq!(content(&self.root.join("data")), self.before);
    }
}

/// Kind, path and content of everything below a directory.
fn content(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    collect(directory, Path::new(""), &mut found);
    found.sort();
    found
}

fn collect(root: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (below.join(entry.file_name()), entry.file_type().unwrap());
        let shown = path.display();
        if kind.is_dir() {
            found.push(format!("directory {shown}"));
            collect(root, &path, found);
        } else if kind.is_file() {
            found.push(format!(
                "{shown}: {}",
                std::fs::read_to_string(entry.path()).unwrap().trim()
            ));
        } else if kind.is_char_device() {
            found.push(format!("{shown} removed"));
        } else {
            found.push(format!("other {shown}"));
        }
    }
}

#[test]
fn changes_are_seen_and_the_pod_stays_as_it_is() {
    let pod = Pod::new("kept");
    let script = "
cd /data/in
echo changed > file; cat file
echo more >> directory/inner; cat directory/inner
mkdir -p /data/new/empty; echo new > /data/new/file; mv /data/new/file new; cat new; rm new; rm -r directory; ls
test ! -e directory; touch /data/out/x; rm /data/out/x
";
    for engine in ["auto", "trap", "layer"] {
        let ended = pod.run().flags(&["--engine", engine]).run(&["sh", "-euc", script]);
        let said = ended.stderr.clone();
        assert!(said.contains("(3 changed, 1 removed)"), "{said}");
        assert_eq!(ended.ok(), "changed\nas it was\nmore\nnew\nfile\n", "{engine}");
        pod.assert_unchanged();
        let left = pod.left();
        let [kept] = left.as_slice() else { panic!("{left:?}") };
        assert!(said.contains(&format!("{}/files", kept.display())), "{said}");
        assert_eq!(
            content(&kept.join("files")),
            [
                "data/in/directory removed",
                "data/in/file: changed",
                "directory data",
                "directory data/in",
                "directory data/new",
                "directory data/new/empty",
                "directory data/out",
            ],
            "{engine}"
        );
        std::fs::remove_dir_all(kept).unwrap();
    }
    // Nothing changed, nothing left, nothing said.
    let ended = pod.run().run(&["cat", "/data/in/file"]);
    assert!(!ended.stderr.contains("rm -r"), "{}", ended.stderr);
    assert_eq!((ended.ok().as_str(), pod.left().len()), ("as it was\n", 0));
}

#[test]
fn a_named_directory_is_gone_on_from_and_one_sessions_alone() {
    let pod = Pod::new("kept-named");
    let changes = pod.state.path().join("mine");
    let run = || pod.run().env("INPOD_FILES_CHANGES", changes.to_str().unwrap());
    let ended = run().run(&["sh", "-c", "echo one > /data/in/file; rm -r /data/in/directory"]);
    assert_eq!(ended.ok(), "");
    let ended = run().run(&["sh", "-c", "cat /data/in/file; ls /data/in; echo two > /data/in/file"]);
    assert_eq!(ended.ok(), "one\nfile\n");
    let mut first = run().start(&["sh", "-c", "echo ready; exec sleep 600"]);
    first.wait_for_stdout("ready");
    let second = run().run(&["true"]);
    assert_eq!(second.code(), 71);
    assert!(second.stderr.contains("a session that still runs"), "{}", second.stderr);
    let _ = first.stop();
    pod.assert_unchanged();
}

#[test]
fn what_is_listed_to_be_written_is_written_in_the_pod() {
    let pod = Pod::new("kept-listed");
    let ended = pod.run().env("INPOD_FILES_WRITE", "/data/out").run(&[
        "sh",
        "-c",
        "echo real > /data/out/real; echo changed > /data/in/file; cat /data/*/*",
    ]);
    assert!(
        ended.stdout.ends_with("changed\nreal\n"),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
    assert_eq!(
        std::fs::read_to_string(pod.root.join("data/out/real")).unwrap(),
        "real\n"
    );
    assert_eq!(
        std::fs::read_to_string(pod.root.join("data/in/file")).unwrap(),
        "as it was\n"
    );
    assert!(ended.stderr.contains("(1 changed, 0 removed)"), "{}", ended.stderr);
}

/// Where files are copied, it is said before anything starts.
#[test]
fn without_mounts_it_is_refused() {
    let pod = Pod::new("kept-copies");
    let ended = pod.run().env("INPOD_WITHOUT", "fuse").run(&["true"]);
    assert_eq!(ended.code(), 71);
    assert!(ended.stderr.contains("files.mode is write-local"), "{}", ended.stderr);
    assert_eq!(pod.left().len(), 0);
}

/// Random reads, writes, truncations and mappings against a model in memory, and databases.
#[test]
fn programs_do_not_see_a_difference() {
    let pod = Pod::new("kept-programs");
    let fsx = suites::program("fsx", "0.3.2");
    let ended = pod
        .run()
        .run(&[fsx.to_str().unwrap(), "-N", "3000", "-S", "1", "/data/out/fsx"]);
    assert!(ended.ok().contains("A-OK"));
    let script = "
set -e
cd /data/out; git init -q one; cd one; echo 1 > file; git add .
git -c user.name=a -c user.email=a@b commit -qm one; git clone -q . ../two; git -C ../two log --format=%s
python3 -c 'import sqlite3; d = sqlite3.connect(\"/data/out/db\"); d.execute(\"create table t(x)\"); d.commit(); print(\"kept\")'
";
    assert_eq!(pod.run().run(&["bash", "-c", script]).lines(), ["one", "kept"]);
    pod.assert_unchanged();
}
