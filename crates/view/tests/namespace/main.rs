//! The namespace backend as real programs see it, as root and as an unprivileged user.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod content;
mod faults;
#[path = "../support/mod.rs"]
mod support;
mod trips;
mod unasked;
mod xattr;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Child;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rules::PathPattern;
use support::guest::{As, Stand};
use support::pod::{Twist, write};
use support::{DEADLINE, wait_for};

fn shop(root: &Path) {
    write(root, "/app/main.txt", "the pod's app\n");
    write(root, "/app/deep/er/file", "deep\n");
    let script = write(root, "/app/run.sh", "#!/bin/sh\necho ran $0 in $(pwd)\n");
    std::fs::set_permissions(script, PermissionsExt::from_mode(0o755)).unwrap();
    symlink("/app/main.txt", root.join("app/absolute")).unwrap();
    symlink("deep/er", root.join("app/relative")).unwrap();
    symlink("app", root.join("current")).unwrap();
    write(root, "/etc/hosts", "10.0.0.7 pod\n");
    write(root, "/etc/resolv.conf", "nameserver 10.96.0.10\n");
    write(root, "/etc/app/config.toml", "from = 'the pod'\n");
    write(root, "/run/secrets/kubernetes.io/serviceaccount/token", "secret");
    write(root, "/var/lib/db/data", "rows\n");
    write(root, "/var/www/index.html", "<html>\n");
    write(root, "/usr/bin/pods-own", "#!/bin/sh\n");
}

fn stand() -> Stand {
    let mut stand = Stand::new(shop);
    stand.rules.volumes = vec![
        "/etc/app".into(),
        "/var/lib/db".into(),
        "/run/secrets/kubernetes.io/serviceaccount".into(),
    ];
    stand
}

fn sees_the_pod(who: As) {
    let mut stand = stand();
    let guest = stand.spawn(who, &["/bin/true"]).unwrap();
    println!("set-up took {:?}; skipped: {}", guest.setup, guest.skipped);
    assert!(guest.child.wait_with_output().unwrap().status.success());
    let said = stand.sh(
        who,
        "cat /app/main.txt /app/absolute /app/relative/file /current/main.txt /etc/hosts /etc/resolv.conf
         cat /etc/app/config.toml /run/secrets/kubernetes.io/serviceaccount/token; echo
         cat /var/run/secrets/kubernetes.io/serviceaccount/token; echo
         cat /var/lib/db/data /var/www/index.html
         ls /app; readlink /app/absolute; realpath /app/relative/file /current/main.txt
         cd /app/relative; pwd -P; cat file ../../main.txt
         cd /app; ./run.sh; /app/run.sh
         test -e /usr/bin/env; test ! -e /usr/bin/pods-own; test -d /proc/self/fd; test -e /dev/null; test -d /sys/kernel
         test -e /etc/passwd; test -d /var/lib/dpkg; test -d /root -o ! -e /root; test -d /tmp
         stat -c '%F %s' /app/main.txt",
    );
    let expect = "the pod's app
the pod's app
deep
the pod's app
10.0.0.7 pod
nameserver 10.96.0.10
from = 'the pod'
secret
secret
rows
<html>
absolute
deep
main.txt
relative
run.sh
/app/main.txt
/app/deep/er/file
/app/main.txt
/app/deep/er
deep
the pod's app
ran ./run.sh in /app
ran /app/run.sh in /app
regular file 14
";
    assert_eq!(said, expect);
    stand.served_to_the_end();
}

#[test]
fn root_sees_the_pod() {
    sees_the_pod(As::Root);
}

#[test]
fn an_unprivileged_user_sees_the_pod() {
    sees_the_pod(As::Nobody);
}

/// One line of what a program says.
fn line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::with_capacity(1, child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    line
}

fn go_on(child: &mut Child) {
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn nothing_is_mounted_outside_and_nothing_stays() {
    let before = mounts();
    let mut stand = stand();
    let mut guest = stand
        .spawn(
            As::Root,
            &[
                "/bin/sh",
                "-c",
                "cat /app/main.txt; read x; grep -c fuse.inpod /proc/self/mountinfo",
            ],
        )
        .unwrap();
    assert_eq!(line(&mut guest.child), "the pod's app\n");
    assert_eq!(mounts(), before);
    assert!(!Path::new("/app").exists());
    go_on(&mut guest.child);
    let seen: usize = line(&mut guest.child).trim().parse().unwrap();
    assert!(seen >= 5, "{seen} mounts");
    guest.child.wait().unwrap();
    stand.served_to_the_end();
    assert_eq!(mounts(), before);
}

#[test]
fn the_working_directory_and_the_machines_files_stay() {
    let here = tempfile::Builder::new().prefix("here").tempdir_in("/work").unwrap();
    write(here.path(), "mine.txt", "mine\n");
    let mut stand = stand();
    // The pod has a /work of its own.
    write(stand.root.path(), "/work/pods.txt", "the pod's\n");
    stand.rules.kept = vec![here.path().to_owned(), "/root".into()];
    stand.cwd = here.path().to_owned();
    let said = stand.sh(
        As::Root,
        "cat mine.txt; test \"$(pwd -P)\" = \"$PWD\"; cat $PWD/mine.txt /work/pods.txt; ls /work; touch new; echo $PWD",
    );
    let name = here.path().file_name().unwrap().to_str().unwrap();
    let mut listed = ["pods.txt", name];
    listed.sort_unstable();
    let path = here.path().display();
    assert_eq!(
        said,
        format!("mine\nmine\nthe pod's\n{}\n{}\n{path}\n", listed[0], listed[1])
    );
    assert!(here.path().join("new").exists());
}

#[test]
fn what_the_pod_lacks_is_not_there_and_hidden_is_hidden() {
    let mut stand = stand();
    stand.rules.hidden = vec![
        PathPattern::Prefix("/app/deep".into()),
        PathPattern::Prefix("/etc/passwd".into()),
    ];
    let said = stand.sh(
        As::Root,
        "test ! -e /srv; test ! -e /app/deep; ls /app; test ! -s /etc/passwd; cat /app/none 2>&1 || true",
    );
    assert_eq!(
        said,
        "absolute\nmain.txt\nrelative\nrun.sh\ncat: /app/none: No such file or directory\n"
    );
}

#[test]
fn prefixes_are_mapped() {
    let mut stand = stand();
    stand.rules.map = vec![
        ("/models".into(), "/var/lib/db".into()),
        ("/app/static".into(), "/var/www".into()),
    ];
    let said = stand.sh(As::Root, "cat /models/data /app/static/index.html; cd /models; pwd -P");
    assert_eq!(said, "rows\n<html>\n/models\n");
}

#[test]
fn links_of_the_pod_to_where_the_machine_rules() {
    let mut stand = Stand::new(|root| {
        shop(root);
        write(root, "/usr/share/site/page", "the pod's page\n");
        symlink("/usr/share/site", root.join("site")).unwrap();
        write(root, "/run/systemd/stub.conf", "nameserver 10.1.1.1\n");
        std::fs::remove_file(root.join("etc/resolv.conf")).unwrap();
        symlink("../run/systemd/stub.conf", root.join("etc/resolv.conf")).unwrap();
        symlink("/nowhere", root.join("dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
    });
    let said = stand.sh(
        As::Root,
        "cat /site/page /etc/resolv.conf; ls /site; readlink /dangling; cat /loop 2>&1 || true",
    );
    assert_eq!(
        said,
        "the pod's page\nnameserver 10.1.1.1\npage\n/nowhere\ncat: /loop: Too many levels of symbolic links\n"
    );
}

#[test]
fn links_of_the_machine_are_no_obstacle() {
    // A machine whose resolv.conf is a dangling link and whose /run is empty, made in a namespace of its own.
    let mut stand = stand();
    stand.nsswitch = b"hosts: files dns\n".to_vec();
    stand.prepare = Some(|| {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        // SAFETY: no other thread is there after fork.
        #[allow(unsafe_code)]
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        mount("inpod-test", "/etc", "tmpfs", MountFlags::empty(), c"mode=0755")?;
        std::fs::write("/etc/passwd", "root:x:0:0::/root:/bin/sh\n")?;
        std::fs::write("/etc/hosts", "127.0.0.1 machine\n")?;
        symlink("../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf")
    });
    let said = stand.sh(
        As::Root,
        "cat /etc/resolv.conf /etc/hosts /etc/nsswitch.conf /etc/app/config.toml /etc/passwd; realpath /etc/resolv.conf",
    );
    assert_eq!(
        said,
        "nameserver 10.96.0.10\n10.0.0.7 pod\nhosts: files dns\nfrom = 'the pod'\nroot:x:0:0::/root:/bin/sh\n/etc/resolv.conf\n"
    );
}

#[test]
fn nothing_can_be_written() {
    let mut stand = stand();
    for (script, why) in [
        ("echo x > /app/new", "Read-only file system"),
        ("echo x >> /app/main.txt", "Read-only file system"),
        ("rm /app/main.txt", "Read-only file system"),
        ("mkdir /app/d", "Read-only file system"),
        ("chmod 600 /app/main.txt", "Read-only file system"),
        ("mv /app/main.txt /app/x", "Read-only file system"),
        ("ln -s x /app/l", "Read-only file system"),
        (
            "test -w /app/main.txt || echo Read-only file system >&2; false",
            "Read-only file system",
        ),
    ] {
        let output = stand.output(As::Root, &["/bin/sh", "-c", script]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{script}: {said}");
    }
}

#[test]
fn the_pods_refusals_are_passed_on() {
    let mut stand = Stand::new(|root| {
        shop(root);
        write(root, "/app/denied", "x");
    });
    let output = stand.output(As::Root, &["/bin/sh", "-c", "cat /app/denied"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "cat: /app/denied: Permission denied\n"
    );
}

#[test]
fn access_is_the_targets_users() {
    let mut stand = Stand::new(|root| {
        for (name, mode) in [("own", 0o600), ("group", 0o640), ("none", 0o600)] {
            let path = write(root, &format!("/data/{name}"), "x");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let owner = if name == "own" { 1234 } else { 0 };
            std::os::unix::fs::chown(&path, Some(owner), Some(2000)).unwrap();
        }
    });
    stand.target_uid = 1234;
    let said = stand.sh(
        As::Root,
        "for f in own group none; do test -r /data/$f && echo $f; done; stat -c '%u %g %a' /data/own",
    );
    assert_eq!(said, "own\ngroup\n1234 2000 600\n");
}

/// Whatever an agent answers: errors for the program, and neither a hang nor a file outside.
#[test]
fn a_hostile_agent_gets_nowhere() {
    use wire::message::{Bytes, FileAnswer, FileOperation};
    let twists: &[(&str, Twist)] = &[
        ("other answers", |_, _| FileAnswer::Closed),
        ("negative errno", |_, _| FileAnswer::Failed(-1)),
        ("huge errno", |_, _| FileAnswer::Failed(i32::MAX)),
        ("fewer answers", |_, answer| match answer {
            FileAnswer::Stat(_) => FileAnswer::Stat(vec![]),
            other => other,
        }),
        ("no type, no size", |_, answer| match answer {
            FileAnswer::Stat(all) => FileAnswer::Stat(
                all.into_iter()
                    .map(|one| {
                        one.map(|mut attributes| {
                            attributes.mode &= 0o777;
                            attributes.size = u64::MAX;
                            attributes
                        })
                    })
                    .collect(),
            ),
            other => other,
        }),
        ("names with slashes", |_, answer| match answer {
            FileAnswer::List { mut entries, next } => {
                for (entry, name) in entries.iter_mut().zip([&b"../x"[..], b"..", b"", b"a\0b"]) {
                    entry.name = Bytes(name.to_vec());
                }
                FileAnswer::List { entries, next }
            }
            other => other,
        }),
        ("directories without end", |operation, answer| {
            match (operation, answer) {
                (FileOperation::List { cookie, .. }, FileAnswer::List { .. }) => FileAnswer::List {
                    entries: vec![],
                    next: cookie + 1,
                },
                (_, other) => other,
            }
        }),
        ("more data than asked", |_, answer| match answer {
            FileAnswer::Open { attributes, .. } => FileAnswer::Open {
                attributes,
                handle: Some(7),
                data: Bytes(vec![1; 900_000]),
            },
            FileAnswer::Read(_) => FileAnswer::Read(Bytes(vec![2; 900_000])),
            other => other,
        }),
        ("a handle without a file", |_, answer| match answer {
            FileAnswer::Open { attributes, .. } => FileAnswer::Open {
                attributes,
                handle: Some(u64::MAX),
                data: Bytes(vec![]),
            },
            other => other,
        }),
        ("links without a target", |_, answer| match answer {
            FileAnswer::ReadLink(_) => FileAnswer::ReadLink(Bytes(vec![0; 5000])),
            other => other,
        }),
    ];
    for (what, twist) in twists {
        let mut stand = Stand::new(|root| {
            shop(root);
            for name in ["a", "b", "c", "d"] {
                write(root, &format!("/data/{name}"), "x");
            }
        });
        let script = "read x; for n in 1 2; do ls -la /data /app; cat /data/a /app/absolute; find /app; stat /data/b; done; echo end";
        let mut guest = stand.spawn(As::Root, &["/bin/sh", "-c", script]).unwrap();
        *stand.pod.twist.lock().unwrap() = Some(*twist);
        go_on(&mut guest.child);
        let begun = Instant::now();
        let output = guest.child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.ends_with("end\n") && begun.elapsed() < DEADLINE, "{what}: {said}");
        assert!(!said.contains("../x"), "{what}: {said}");
        stand.served_to_the_end();
    }
    // From the start: the set-up ends, one way or the other.
    for (what, twist) in twists {
        let mut stand = stand();
        *stand.pod.twist.lock().unwrap() = Some(*twist);
        match stand.spawn(As::Root, &["/bin/true"]) {
            Ok(guest) => assert!(guest.child.wait_with_output().unwrap().status.success(), "{what}"),
            Err(error) => assert!(error.to_string().contains("cannot "), "{what}: {error}"),
        }
    }
}

#[test]
fn a_file_without_rights_is_not_executed() {
    let mut stand = stand();
    let output = stand.output(As::Root, &["/bin/sh", "-c", "/app/main.txt"]);
    assert_eq!(output.status.code(), Some(126));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"));
}

#[test]
fn crossing_a_slow_link_the_set_up_takes_few_round_trips() {
    // Long, so that a busy machine's own time does not count.
    const DELAY: Duration = Duration::from_secs(1);
    let mut stand = stand();
    *stand.pod.delay.lock().unwrap() = DELAY;
    let guest = stand.spawn(As::Root, &["/bin/true"]).unwrap();
    println!("set-up with {DELAY:?} to the pod: {:?}", guest.setup);
    assert!(guest.setup < 3 * DELAY, "{:?}", guest.setup);
    assert!(guest.child.wait_with_output().unwrap().status.success());
}

#[test]
fn warm_and_cold_costs() {
    let mut stand = Stand::new(|root| {
        write(root, "/data/a/b/c/file", vec![1; 7000]);
    });
    let script = "
import os, time
def timed(what, n, f):
    t = time.perf_counter()
    for _ in range(n): f()
    print('%s: %.1f us' % (what, (time.perf_counter() - t) / n * 1e6))
p = '/data/a/b/c/file'
timed('cold stat', 1, lambda: os.stat(p))
timed('warm stat', 2000, lambda: os.stat(p))
def whole():
    fd = os.open(p, os.O_RDONLY); os.read(fd, 8192); os.close(fd)
timed('cold open+read+close', 1, whole)
timed('warm open+read+close', 2000, whole)
fd = os.open(p, os.O_RDONLY)
timed('warm pread', 20000, lambda: os.pread(fd, 4096, 0))
";
    print!("{}", stand.run(As::Root, &["/usr/bin/python3", "-c", script]));
}
