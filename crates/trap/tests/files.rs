//! Path calls where the pod's files lie elsewhere: the translated view and the copy view answer alike.
#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

mod common;

use common::{c, go, views};

#[test]
fn python_reads_lists_and_is_refused_writes() {
    for (view, stand) in views() {
        let local = stand.directory.path().join("local");
        let ran = stand.python(
            r#"
import os, sys, errno, stat
print(open("/data/config").read().strip(), open("/data/absolute").read().strip(), open("/data/relative").read().strip())
print(open("/data/./deep/../config").read().strip(), os.stat("/data/config").st_size, stat.S_ISLNK(os.lstat("/data/relative").st_mode))
print(os.readlink("/data/absolute"), os.path.exists("/data/none"), os.access("/data/config", os.R_OK), os.access("/data/config", os.W_OK))
print(sorted(os.listdir("/data")), os.path.isdir("/data/deep/er"), os.path.realpath("/data/relative"))
os.chdir(sys.argv[1]); print(open("link/config").read().strip(), os.path.exists("link/none"))
d = os.open("/data", os.O_DIRECTORY); f = os.open("deep/er/file", os.O_RDONLY, dir_fd=d); print(os.read(f, 9), os.stat("config", dir_fd=d).st_size)
print(os.readlink("/proc/self/fd/%d" % f), os.get_inheritable(f), os.statvfs("/data").f_bsize > 0)
for action in (lambda: open("/data/config", "w"), lambda: open("/data/new", "x"), lambda: os.mkdir("/data/d"), lambda: os.unlink("/data/config"),
               lambda: os.rename("/data/config", "/data/c"), lambda: os.rename(sys.argv[1] + "/link", "/data/c"),
               lambda: os.execv("/data/config", ["x"]), lambda: os.open("/data/config", os.O_DIRECTORY)):
    try: action(); print("done?")
    except OSError as e: print(errno.errorcode[e.errno], end=" ")
print(); print(open("/etc/hostname").read() != "", os.listdir("/proc/self/task") != [])
"#,
            &[local.to_str().unwrap()],
        );
        let expected = [
            "from the pod from the pod deep",
            "from the pod 13 True",
            "/data/config False True False",
            "['absolute', 'config', 'deep', 'escape', 'linked', 'relative'] True /data/deep/er/file",
            "from the pod False",
            "b'deep\\n' 13",
            "/data/deep/er/file False True",
            "EROFS EROFS EROFS EROFS EROFS EXDEV EACCES ENOTDIR ",
            "True True",
        ];
        assert_eq!(ran.lines(), expected, "{view} {}", ran.all());
    }
}

/// What a link of the pod leads to is decided by the rules at each step.
#[test]
fn links_of_the_pod_lead_where_the_rules_say() {
    let (_, stand) = views().remove(0);
    let at = |path: &str| stand.directory.path().join(path);
    std::fs::create_dir(at("pod/links")).unwrap();
    std::fs::create_dir(at("local/inner")).unwrap();
    std::fs::write(at("local/inner/file"), "of this machine").unwrap();
    for (link, target) in [
        ("here", at("local").to_str().unwrap()),
        ("through", "here/inner"),
        ("data", "../data/linked"),
        ("around", "around"),
        ("null", "/dev/null"),
        ("secret", "/hidden/secret"),
    ] {
        std::os::unix::fs::symlink(target, at("pod/links").join(link)).unwrap();
    }
    let stand = stand.option("--remote-path", "/links");
    let ran = stand.python(
        r#"
import os, errno, stat
def failed(action):
    try: return "done: %r" % (action(),)
    except OSError as e: return errno.errorcode[e.errno]
print(open("/links/here/inner/file").read(), open("/links/through/file").read(), os.listdir("/links/through"), os.stat("/links/through/file").st_size)
print(open("/links/data/file").read().strip(), open("/data/escape").read() == open("/etc/passwd").read(), os.path.realpath("/links/data/file"), os.path.islink("/links/here"), stat.S_ISDIR(os.stat("/links/here").st_mode))
print([failed(f) for f in (lambda: open("/links/around"), lambda: open("/links/null"), lambda: open("/links/secret"), lambda: open("/links/here/none"),
       lambda: open("/links/through/file", "w"), lambda: os.open("/links/here", os.O_NOFOLLOW))], stat.S_ISCHR(os.stat("/links/null").st_mode))
print(os.path.exists("/data/deep/.."), failed(lambda: os.stat("/data/../etc/passwd").st_size > 0), failed(lambda: len(os.listdir("/data/..")) > 3))
"#,
        &[],
    );
    let expected = [
        "of this machine of this machine ['file'] 15",
        "deep True /data/deep/er/file True True",
        "['ELOOP', 'EACCES', 'ENOENT', 'ENOENT', 'EROFS', 'ELOOP'] True",
        "True done: True done: True",
    ];
    assert_eq!(ran.lines(), expected, "{}", ran.all());
}

/// A project in a directory that the pod does not have: programs look at each directory on the way to it.
#[test]
fn the_way_to_a_local_directory_is_there() {
    for (view, stand) in views() {
        let outer = stand.directory.path().join("workspace");
        let inner = outer.join("projects/mine");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(outer.join("beside"), "").unwrap();
        let stand = stand
            .option("--remote-path", outer.to_str().unwrap())
            .option("--local-path", inner.to_str().unwrap());
        let ran = stand.python(
            r#"
import os, stat, sys
outer, way = sys.argv[1], []
for part in ["", "projects", "mine"]:
    outer = os.path.join(outer, part)
    way.append(stat.S_ISDIR(os.lstat(outer).st_mode) and os.access(outer, os.X_OK))
print(way, os.path.realpath(outer) == outer.rstrip("/"), os.path.exists(sys.argv[1] + "/beside"))
os.chdir(sys.argv[1]); os.chdir("projects/mine"); print(os.getcwd() == outer)
"#,
            &[outer.to_str().unwrap()],
        );
        assert_eq!(
            ran.lines(),
            ["[True, True, True] True False", "True"],
            "{view}: {}",
            ran.err
        );
    }
}

#[test]
fn static_programs_and_other_runtimes() {
    for (view, stand) in views() {
        let program = c("paths", stand.directory.path(), &["-static"]);
        if let Some(ran) = stand.run_static(program, &["/data/config"]) {
            let expected = ["openat from the pod", "open 13", "openat2 13", "statx 13", "gone 2"];
            assert_eq!(ran.lines(), expected, "{view}");
        }
        let program = go("paths", stand.directory.path());
        if let Some(ran) = stand.run_static(program, &["/data"]) {
            let expected = ["absolute config deep escape linked relative", "from the pod"];
            assert_eq!(ran.lines(), expected, "{view}");
        }
        let node = "const fs=require('fs');console.log(fs.readFileSync('/data/config','utf8').trim(),fs.readdirSync('/data').length,fs.existsSync('/data/x'))";
        assert_eq!(
            stand.run("node", &["-e", node]).lines(),
            ["from the pod 6 false"],
            "{view}"
        );
        let ran = stand.run(
            "dash",
            &[
                "-c",
                "cat /data/config; ls /data/deep; head -c 4 </data/relative; test -e /data/no || echo no",
            ],
        );
        assert_eq!(ran.lines(), ["from the pod", "er", "deepno"], "{view}");
    }
}

/// Local files are the kernel's own work: creation happens exactly once under a timer signal.
#[test]
fn exclusive_creation_under_a_timer_happens_exactly_once() {
    for (view, stand) in views() {
        let program = c("exclusive", stand.directory.path(), &[]);
        let local = stand.directory.path().join("local");
        assert_eq!(
            stand.run(program, &[local.to_str().unwrap()]).lines(),
            ["created 2000, existed 0"],
            "{view}"
        );
    }
}
