//! What people do with the files of a pod, with the programs that they use for it: the same output and the same files as on
//! the pod's own file system, in each view.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::playground::Playground;
use tempfile::TempDir;
use tests::{Run, playground};

/// How the files are there, and the value of `INPOD_WITHOUT` that makes a machine which allows all choose it.
const VIEWS: &[(&str, &str)] = &[
    ("files: mount namespace", ""),
    ("files: mounted aside", "mount_namespaces"),
    ("files: copied on first use", "fuse"),
];

/// Run in a directory of the pod; `$OUT` is a directory of this machine. Nothing may depend on where the directory is.
const PROGRAMS: &[(&str, &str)] = &[
    ("cat", "cat text deep/1/2/3/4/text link 'a name with spaces' absolute"),
    (
        "cp",
        "cp -a . \"$OUT\"/copy; cd \"$OUT\"/copy; find . | sort; cat many/7 link",
    ),
    (
        "grep",
        "grep -rn needle . | sort; grep -c . many/* | tail -3; grep -rl nothing-of-it . || echo none",
    ),
    (
        "find",
        "find . -type f | sort | head -40; find . -name '*.json' -o -type l | sort; find . -size +1000k | sort; find . -empty | sort",
    ),
    (
        "ls",
        "find . -printf '%M %u %g %s %t %p -> %l\\n' | sed 's/^d\\([^ ]* [^ ]* [^ ]*\\) [0-9]*/d\\1/' | sort; ls -lR deep/1/2/3/4 | tail -1; ls -a deep; stat -c '%n %s %a %u %g %Y' text link",
    ),
    (
        "tar",
        "tar cf - . | tar tvf - | sort; tar czf \"$OUT\"/all.tar.gz . && tar xOzf \"$OUT\"/all.tar.gz ./text",
    ),
    (
        "rsync-like",
        "find . -type f -print0 | sort -z | xargs -0 sha256sum; du -a --apparent-size deep | sort",
    ),
    (
        "head",
        "head -c 100 big | od -c | head -3; tail -c 10 big; tail -n 2 lines; wc lines big; cmp big big2 || true",
    ),
    (
        "less",
        "less text; script -qec 'stty rows 40 cols 100; TERM=xterm less -FX text' /dev/null </dev/null",
    ),
    (
        "vim",
        "vim -es -u NONE -i NONE -n -c '%print' -c 'qall!' text; vim -es -u NONE -i NONE -n -c 'e deep/1/text' -c '1print' -c 'qall!'",
    ),
    (
        "python",
        "python3 -BSc 'import sys; sys.path[:] = [\".\"] + sys.path; import package.module as m; print(m.VALUE, m.__file__)'",
    ),
    (
        "node",
        "node -e 'console.log(require(\"./modules/main.js\"), require.resolve(\"./modules\").length > 0)'",
    ),
    (
        "json",
        "python3 -c 'import json, mmap; print(json.load(open(\"modules/data.json\"))); f = open(\"big\", \"rb\"); print(len(mmap.mmap(f.fileno(), 0, prot=1)))'",
    ),
    (
        "shell",
        "for f in many/*; do read -r line < $f; done; echo \"$line\"; ls -d many; . ./sourced; echo $SOURCED; test -x script -a ! -x text && echo modes; realpath --relative-to=. link deep/1/..; readlink link dangling",
    ),
    (
        "missing",
        "cat none; ls nowhere/at/all; cat text/below; cat dangling; cat deep",
    ),
];

/// What differs in which view, and why.
const DIFFERS: &[(&str, &str, &str)] = &[
    (
        "script",
        "mount_namespaces",
        "executing is the kernel's, which does not find the mount at its place in the pod",
    ),
    (
        "script",
        "fuse",
        "executing is the kernel's, which does not find a copy at its place in the pod",
    ),
    (
        "links",
        "fuse",
        "a directory's copy has no directories in it until it is listed, and a file's takes no room until it is read",
    ),
];

fn fill(root: &Path) {
    let write = |path: &str, content: &[u8]| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    write("text", b"first line\nthe needle is here\n");
    write("a name with spaces", b"spaces\n");
    for depth in ["1", "1/2", "1/2/3", "1/2/3/4"] {
        write(&format!("deep/{depth}/text"), format!("at {depth}\n").as_bytes());
    }
    for number in 0..300 {
        write(&format!("many/{number}"), format!("{number}\n").as_bytes());
    }
    write("many/needles", b"needle\nneedle\n");
    let big: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 / 3) as u8).collect();
    write("big", &big);
    write("big2", &[&big[..2_999_999], b"!"].concat());
    write("lines", "one line of many\n".repeat(20_000).as_bytes());
    write("empty", b"");
    write("package/__init__.py", b"");
    write("package/module.py", b"from . import other\nVALUE = other.VALUE + 1\n");
    write("package/other.py", b"VALUE = 41\n");
    write(
        "modules/main.js",
        b"module.exports = require('./lib').map(x => x + require('./data.json').one)\n",
    );
    write("modules/index.js", b"");
    write("modules/lib/index.js", b"module.exports = [1, 2]\n");
    write("modules/data.json", b"{\"one\": 1}\n");
    write("sourced", b"SOURCED=yes\n");
    fixture::executable("#!/bin/sh\necho script $1\n", &root.join("script"));
    symlink("deep/1/text", root.join("link")).unwrap();
    symlink("/srv/tree/text", root.join("absolute")).unwrap();
    symlink("none", root.join("dangling")).unwrap();
}

struct Pod {
    playground: Playground,
    /// The pod's /srv, as this machine reaches it.
    srv: PathBuf,
    changes: TempDir,
}

/// What a program wrote to its two outputs, and what is in its directory of this machine.
#[derive(Debug, PartialEq, Eq)]
struct Did {
    out: String,
    err: String,
    files: usize,
}

impl Pod {
    fn new(name: &str) -> Self {
        let playground = playground(name);
        let srv = PathBuf::from(format!("/proc/{}/root/srv", playground.pid()));
        fill(&srv.join("tree"));
        Self {
            playground,
            srv,
            changes: tempfile::tempdir().unwrap(),
        }
    }

    fn run(&self, without: &str, script: &str) -> Did {
        let out = tempfile::tempdir().unwrap();
        let ended = Run::inside(&self.playground)
            .env("INPOD_WITHOUT", without)
            .env("OUT", out.path().to_str().unwrap())
            .run(&["bash", "-c", &format!("cd /srv/tree; {script}")]);
        let err = ended.stderr.lines().filter(|line| !line.starts_with("inpod: "));
        Did {
            out: ended.stdout.clone(),
            err: err.map(|line| format!("{line}\n")).collect(),
            files: count(out.path()),
        }
    }

    /// The same on the pod's own file system.
    fn bare(&self, script: &str) -> Did {
        let out = tempfile::tempdir().unwrap();
        let output = Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-c",
                "mount --rbind \"$1\" /srv; cd /srv/tree; exec bash -c \"$2\"",
                "sh",
            ])
            .args([self.srv.as_os_str(), script.as_ref()])
            .env("OUT", out.path())
            .output()
            .unwrap();
        Did {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            files: count(out.path()),
        }
    }
}

/// The first lines of each output that the other has not.
fn difference(expected: &Did, did: &Did) -> String {
    let mut said = format!("files: {} and {}\n", expected.files, did.files);
    for (one, other) in [(&expected.out, &did.out), (&expected.err, &did.err)] {
        for (sign, one, other) in [('-', one, other), ('+', other, one)] {
            let lines = one.lines().filter(|line| !other.lines().any(|other| other == *line));
            said.extend(lines.take(5).map(|line| format!("  {sign} {line}\n")));
        }
    }
    said
}

fn count(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => 1 + count(&entry.path()),
            false => 1,
        })
        .sum()
}

#[test]
fn programs_read_as_on_the_pods_own_file_system() {
    let pod = Pod::new("reading");
    let mut wrong = Vec::new();
    for (name, script) in PROGRAMS {
        let expected = pod.bare(script);
        assert!(
            !expected.out.is_empty() || !expected.err.is_empty(),
            "{name} says nothing"
        );
        for (view, without) in VIEWS {
            let did = pod.run(without, script);
            let known = DIFFERS
                .iter()
                .find(|(program, known, _)| (program, known) == (name, without));
            if let Some((.., why)) = known {
                assert_ne!(did, expected, "{name}, {view} holds, though {why}");
            } else if did != expected {
                wrong.push(format!("{name}, {view}:\n{}", difference(&expected, &did)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The kernel writes a core dump into the directory that the program is in: into the pod, where that may be written.
#[test]
fn a_core_dump_in_a_directory_of_the_pod_ends() {
    let pod = Pod::new("reading-core");
    let script = "ulimit -c unlimited; sleep 1000 & kill -SEGV $!; wait $! 2> /dev/null; echo $?";
    for (view, without) in VIEWS {
        assert_eq!(pod.run(without, script).out, "139\n", "{view}");
    }
    for mode in ["write", "write-local"] {
        let ended = Run::inside(&pod.playground)
            .env("INPOD_FILES_MODE", mode)
            .env("INPOD_FILES_CHANGES", pod.changes.path().to_str().unwrap())
            .run(&["bash", "-c", &format!("cd /srv/tree; {script}")]);
        assert_eq!(ended.ok(), "139\n", "{mode}");
    }
    let is_plain = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap().trim() == "core";
    let dumped = std::fs::read_dir(pod.srv.join("tree"))
        .unwrap()
        .any(|entry| entry.unwrap().file_name().as_encoded_bytes().starts_with(b"core"));
    assert_eq!(dumped, is_plain);
}
