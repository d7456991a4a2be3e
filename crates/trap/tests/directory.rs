//! A working directory of the pod, and paths relative to it or to a descriptor of one, across the border in both directions.
#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

mod common;

use std::process::Command;

use common::{Ran, Stand, c, engine, go, views};

/// What goes before a test's own lines: `go` enters a directory of the pod. Without the layer nobody can move a process from
/// outside, and it has to open the directory.
const BEGIN: &str = r#"
import os, sys, errno, subprocess, threading
local = sys.argv[1]
up = "../" * 20
def go(path):
    if sys.argv[2] == "trap":
        d = os.open(path, os.O_DIRECTORY); os.fchdir(d); os.close(d)
    else: os.chdir(path)
def failed(action):
    try: return "done: %r" % (action(),)
    except OSError as e: return errno.errorcode[e.errno]
def text(path, **how): return open(path, **how).read().strip()
"#;

#[track_caller]
fn python(stand: &Stand, code: &str) -> Ran {
    let local = stand.directory.path().join("local");
    stand.python(&format!("{BEGIN}{code}"), &[local.to_str().unwrap(), &engine()])
}

#[test]
fn relative_paths_mean_the_pods() {
    for (view, stand) in views() {
        let ran = python(
            &stand,
            r#"
go("/data"); print(os.getcwd(), text("config"), os.stat("config").st_size, sorted(os.listdir(".")), os.readlink("absolute"), text("absolute"))
print(os.path.realpath("relative"), os.path.realpath("."), os.path.exists("none"), text("./deep/../config"), text("deep/er/file"))
os.chdir("deep"); print(os.getcwd(), text("../config"), os.listdir("."), os.listdir("er"), os.access("../config", os.R_OK))
os.chdir("er"); os.chdir("../er"); print(os.getcwd(), text("file"), text("../../config"), os.listdir(".."))
os.chdir(".."); d = os.open(".", os.O_DIRECTORY); os.chdir(".."); print(os.getcwd())
print(text("/proc/self/cwd/config"), text("/proc/self/fd/%d/../config" % d), os.readlink("/proc/self/cwd"), sorted(os.listdir("/proc/self/cwd")))
o = os.open("deep/er/file", os.O_PATH); print(text("/proc/self/fd/%d" % o), text("/dev/fd/%d" % o), text("/proc/self/root/data/config"))
print([failed(f) for f in (lambda: os.mkdir("d"), lambda: open("new", "w"), lambda: open("config", "r+"), lambda: os.unlink("config"), lambda: os.rename("config", "c"),
       lambda: os.utime("config"), lambda: os.chmod("config", 0o600), lambda: os.rename("config", local + "/c"), lambda: os.rename(local + "/link", "c"))])
print([failed(f) for f in (lambda: go("/data/none"), lambda: go("/data/config"), lambda: os.chdir("none"), lambda: os.chdir("config"), lambda: open("none"), lambda: open("config/x"))], os.getcwd())
"#,
        );
        let names = "['absolute', 'config', 'deep', 'escape', 'linked', 'relative']";
        let expected = [
            &format!("/data from the pod 13 {names} /data/config from the pod"),
            "/data/deep/er/file /data False from the pod deep",
            "/data/deep from the pod ['er'] ['file'] True",
            "/data/deep/er deep from the pod ['er']",
            "/data",
            &format!("from the pod from the pod /data {names}"),
            "deep deep from the pod",
            "['EROFS', 'EROFS', 'EROFS', 'EROFS', 'EROFS', 'EROFS', 'EROFS', 'EROFS', 'EXDEV']",
            "['ENOENT', 'ENOTDIR', 'ENOENT', 'ENOTDIR', 'ENOENT', 'ENOTDIR'] /data",
        ];
        assert_eq!(ran.lines(), expected, "{view} {}", ran.all());
    }
}

#[test]
fn the_border_is_crossed_in_both_directions() {
    for (view, stand) in views() {
        let ran = python(
            &stand,
            r#"
go("/data/deep"); here = local.lstrip("/")
print(text(up + "etc/passwd") == text("/etc/passwd"), os.path.samestat(os.stat("../.."), os.stat("/")), os.listdir(up + here) == os.listdir(local), text(up + here + "/link/config"))
print(failed(lambda: open("../../etc/none")), os.readlink(up + here + "/link"), os.access(up + here, os.W_OK), failed(lambda: open(up + "data/none")))
with open(up + here + "/made", "x") as f: f.write("here")
print(text(local + "/made"), failed(lambda: open(up + here + "/made", "x")))
d = os.open("/data/deep", os.O_DIRECTORY); e = os.open(local, os.O_DIRECTORY)
opener = lambda at: lambda path, flags: os.open(path, flags, dir_fd=at)
print(text("../config", opener=opener(d)), text(up + here + "/made", opener=opener(d)), text(up + "data/config", opener=opener(e)), text("link/config", opener=opener(e)), text("made", opener=opener(e)))
print(text("/data/linked/../../config"), text("../linked/../er/file"), text(local + "/link/deep/../config"), text(local + "/link/../" + here + "/made"))
wrote = [failed(lambda: os.mkdir(up + here + "/d")), failed(lambda: os.rename(up + here + "/made", up + here + "/moved")), failed(lambda: os.chdir(up + here))]
print(sys.argv[2] == "trap", wrote)
os.chdir(local); print(os.getcwd() == os.path.realpath(local), text("link/config"), sorted(os.listdir(".")), text(up + "data/config"))
os.chdir(up + "data") if sys.argv[2] != "trap" else go(up + "data"); print(os.getcwd())
"#,
        );
        let (wrote, list) = if engine() == "trap" {
            ("True ['EACCES', 'EACCES', 'EACCES']", "['link', 'made']")
        } else {
            (
                "False ['done: None', 'done: None', 'done: None']",
                "['d', 'link', 'moved']",
            )
        };
        let expected = [
            "True True True from the pod",
            "ENOENT /data True ENOENT",
            "here EEXIST",
            "from the pod here from the pod from the pod here",
            "from the pod deep from the pod here",
            wrote,
            &format!("True from the pod {list} from the pod"),
            "/data",
        ];
        assert_eq!(ran.lines(), expected, "{view} {}", ran.all());
    }
}

#[test]
fn children_threads_and_programs_are_where_their_parent_was() {
    for (view, stand) in views() {
        let ran = python(
            &stand,
            r#"
go("/data"); sys.stdout.flush()
run = lambda *words, **how: print(subprocess.run(words, capture_output=True, text=True, **how).stdout.split(), flush=True)
run("cat", "config"); run("bash", "-c", "pwd; cd deep; pwd; /bin/pwd; cat ../config; cd ..; ls"); run("dash", "-c", "cd -P deep/er && cat file && cat <../../config")
seen = []; thread = threading.Thread(target=lambda: (os.chdir("deep"), seen.append(os.getcwd()))); thread.start(); thread.join(); print(seen, os.getcwd())
r, w = os.pipe()
if os.fork() == 0: os.chdir(".."); os.write(w, (os.getcwd() + " " + text("config")).encode()); os._exit(0)
os.wait(); print(os.read(r, 99).decode(), os.getcwd(), flush=True)
os.waitpid(os.posix_spawn("/bin/cat", ["cat", "../config"], os.environ), 0)
print([failed(lambda: os.execv(name, ["x"])) for name in ("./none", "./er", "er/file", "../config")], flush=True)
if sys.argv[2] != "trap":
    run("cat", "file", cwd="/data/deep/er"); run("cat", "file", cwd="er"); run(up + "bin/echo", "local")
else: print("['deep']\n['deep']\n['local']")
sys.stdout.flush(); os.execv("/bin/sh", ["sh", "-c", "pwd; cat ../config"])
"#,
        );
        let expected = [
            "['from', 'the', 'pod']",
            "['/data', '/data/deep', '/data/deep', 'from', 'the', 'pod', 'absolute', 'config', 'deep', 'escape', 'linked', 'relative']",
            "['deep', 'from', 'the', 'pod']",
            "['/data/deep'] /data/deep",
            "/data from the pod /data/deep",
            "from the pod",
            "['ENOENT', 'EACCES', 'EACCES', 'EACCES']",
            "['deep']",
            "['deep']",
            "['local']",
            "/data/deep",
            "from the pod",
        ];
        assert_eq!(ran.lines(), expected, "{view} {}", ran.all());
    }
}

#[test]
fn other_runtimes_go_there() {
    let refused = "a directory of the pod, from outside";
    for (view, stand) in views() {
        let layer = engine() != "trap";
        let path = stand.directory.path();
        let node = "try{process.chdir('/data');const fs=require('fs');console.log(process.cwd(),fs.readFileSync('config','utf8').trim(),fs.readdirSync('deep'),
            require('child_process').execFileSync('/bin/cat',['file'],{cwd:'deep/er'}).toString().trim())}catch(e){console.log(e.code)}";
        let ran = stand.run("node", &["-e", node]);
        let expected = if layer {
            "/data from the pod [ 'er' ] deep"
        } else {
            "EACCES"
        };
        assert_eq!(ran.lines(), [expected], "{view} {}", ran.all());

        let ran = stand.run(
            "bash",
            &[
                "-c",
                "cd /data && pwd && cat config && cd - && cd /data/deep/.. && pwd -P",
            ],
        );
        if layer {
            let here = std::env::current_dir().unwrap();
            let expected = ["/data", "from the pod", here.to_str().unwrap(), "/data"];
            assert_eq!(ran.lines(), expected, "{view} {}", ran.all());
        } else {
            assert!(ran.events.contains(refused), "{view} {}", ran.all());
        }

        let program = c("spawn", path, &[]);
        let ran = stand.run(program, &["/data/deep", "sh", "-c", "pwd; cat; cat er/file"]);
        let expected: &[&str] = if layer {
            &["/data/deep", "from the pod", "deep", "0 /"]
        } else {
            &["Permission denied"]
        };
        assert_eq!(ran.lines(), expected, "{view} {}", ran.all());

        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/Directory.java");
        let built = Command::new("javac").arg("-d").arg(path).arg(source).status().unwrap();
        assert!(built.success(), "a JDK is needed");
        let ran = stand.run(
            "java",
            &[
                "-XX:+UseSerialGC",
                "-Xshare:auto",
                "-cp",
                path.to_str().unwrap(),
                "Directory",
            ],
        );
        if layer {
            assert_eq!(ran.lines(), ["/data", "from the pod", "0"], "{view} {}", ran.all());
        } else {
            assert!(ran.events.contains(refused), "{view} {}", ran.all());
        }
    }
}

/// What a static program can do: enter by a descriptor, and go on from there.
#[test]
fn static_programs_enter_by_a_descriptor() {
    for (view, stand) in views() {
        let program = go("directory", stand.directory.path());
        if let Some(ran) = stand.run_static(program, &[]) {
            let expected = [
                "fork/exec /bin/cat: permission denied",
                "<nil> <nil>",
                "/data/deep/er <nil> from the pod",
                "<nil> chdir ../..: permission denied",
            ];
            assert_eq!(ran.lines(), expected, "{view} {}", ran.all());
            assert!(
                ran.events.contains("it could open it and call fchdir"),
                "{view} {}",
                ran.events
            );
            assert!(ran.events.contains("an absolute path works"), "{view} {}", ran.events);
        }
    }
}
