//! A pod's files for dynamic and static programs, with each of the ways in which they can be served.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use testbed::FreshPod;
use tests::{Public, Run, executable, guests, processes, shop, testbed};

const NOBODY: &str = "65534";

fn guest(is_static: bool) -> String {
    guests::c("paths", is_static).display().to_string()
}

#[test]
fn all_ways_to_look_at_a_directory_of_the_pod() {
    for is_static in [false, true] {
        let lines = Run::at("deploy/web")
            .run(&[&guest(is_static), "/etc/shop", "shop.toml", "in"])
            .lines();
        let size = testbed().admin().pod_of_deployment("default", "web").unwrap();
        let size = size.exec(&["stat", "-L", "-c", "%s", "/etc/shop/shop.toml"]).unwrap();
        let size = size.trim();
        let first = "# Read as a file, from /etc/shop/shop.toml";
        let expected = [
            format!("open: {first}"),
            format!("stat: f 644 {size}"),
            "lstat: l".to_owned(),
            "readlink: ..data/shop.toml".to_owned(),
            "opendir: shop.toml".to_owned(),
            format!("openat: {first}"),
            format!("fstatat: {size}"),
            "fdopendir: shop.toml".to_owned(),
            "access: yes".to_owned(),
            "missing: ENOENT".to_owned(),
            "write: EROFS".to_owned(),
            "realpath: /etc/shop".to_owned(),
            "getcwd: /etc/shop".to_owned(),
            format!("relative: {first}"),
            "here: shop.toml".to_owned(),
        ];
        assert_eq!(lines, expected);
    }
}

#[test]
fn secrets_below_both_names_of_run() {
    let lines = Run::at("deploy/web")
        .run(&[
            "sh",
            "-c",
            "cat /run/secrets/shop/password; echo; ls /var/run/secrets/kubernetes.io/serviceaccount",
        ])
        .lines();
    assert_eq!(lines, ["not-a-real-secret", "ca.crt", "namespace", "token"]);
}

#[test]
fn every_tool_sees_the_same() {
    let pod = testbed().admin().fresh_pod(&FreshPod {
        args: &["web"],
        spec: serde_json::json!({
            "initContainers": [{
                "name": "fill", "image": "inpod.test/busybox:1", "imagePullPolicy": "Never",
                "command": ["sh", "-c", "cd /data; mkdir -p a/b; for n in $(seq 300); do echo $n > a/b/$n; done; \
                     ln -s a/b/7 link; ln -s /data/a/b/8 absolute; ln -s nowhere dangling; mkfifo pipe; \
                     printf 'echo script $0' > run; chmod 755 run; head -c 3000000 /dev/zero | tr '\\\\0' x > big"],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "containers": [{
                "name": "main", "image": "inpod.test/shop:1", "imagePullPolicy": "Never", "args": ["web"],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
        }),
        ..FreshPod::default()
    });
    let pod = pod.unwrap();
    let target = format!("pod/{}", pod.name);
    for script in [
        "find /data | sort | sha256sum",
        "ls -1 /data/a/b | wc -l; cat /data/a/b/* | sha256sum",
        "sha256sum /data/big; stat -c '%s %a %F' /data/big /data/run",
        "cat /data/link /data/absolute; readlink /data/link; readlink /data/absolute; readlink /data/dangling; cat /data/dangling; true",
        "cd /data/a/b && pwd && cat ../../link && cat ../b/9",
        "realpath /data/absolute",
        "test -p /data/pipe && echo pipe",
        "grep -l '^29.$' -r /data/a | sort",
    ] {
        let here = Run::at(&target).run(&["sh", "-c", script]);
        assert_eq!(
            here.stdout,
            pod.exec(&["sh", "-c", script]).unwrap(),
            "{script}: {}",
            here.stderr
        );
    }
}

/// A user without rights, who starts a playground and a session on it; everything in a directory of theirs.
struct Nobody {
    public: Public,
    inpod: std::path::PathBuf,
    guests: Vec<std::path::PathBuf>,
    /// Without user namespaces, but with the rights that set-user-ID programs have.
    mounts: bool,
}

impl Nobody {
    fn new() -> Self {
        let public = Public::new();
        let inpod = public.copy(&executable());
        let beside = executable().with_file_name("inpod-agent");
        if beside.exists() {
            let _ = public.copy(&beside);
        }
        let guests = [false, true]
            .map(|is_static| public.copy(&guests::c("paths", is_static)))
            .to_vec();
        let own = public.path().join("own");
        std::fs::create_dir(&own).unwrap();
        std::os::unix::fs::chown(&own, Some(65_534), Some(65_534)).unwrap();
        Self {
            public,
            inpod,
            guests,
            mounts: false,
        }
    }

    /// The same program in a mount namespace of its own, after `setup`, and as the user.
    fn command(&self, setup: &str) -> Command {
        let (rights, without) = if self.mounts {
            ("", "INPOD_WITHOUT=user_namespaces")
        } else {
            ("--no-new-privs", "")
        };
        let script = format!(
            "set -e; {setup}\nexec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {rights} \
             env -i PATH=\"$PATH\" HOME=\"$0\" TMPDIR=\"$0\" {without} ${{INPOD_FILES_MODE+INPOD_FILES_MODE=$INPOD_FILES_MODE}} \"$@\"",
        );
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .arg(self.public.path().join("own"));
        command.arg(&self.inpod).current_dir(self.public.path());
        command
    }
}

/// A playground that belongs to the user: a session may enter only what is its user's own.
struct Playground {
    holder: Child,
    pid: String,
}

impl Playground {
    fn start(nobody: &Nobody) -> Self {
        let program = nobody.public.copy(&shop());
        let holder = nobody.public.copy(Path::new(env!("CARGO_BIN_EXE_hold-playground")));
        let own = nobody.public.path().join("own");
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(holder);
        command.arg(program).arg(own.join("playground")).current_dir(&own);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut pid = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut pid)
            .unwrap();
        assert!(!pid.is_empty(), "the playground did not start");
        Self {
            holder,
            pid: pid.trim().to_owned(),
        }
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn check(nobody: &Nobody, setup: &str, backend: &str) {
    let playground = Playground::start(nobody);
    for guest in &nobody.guests {
        let ended = Run::by(nobody.command(setup), &format!("process/{}", playground.pid))
            .flags(&["--no-incoming", "-v"])
            .run(&[guest.to_str().unwrap(), "/etc/shop", "shop.toml"]);
        assert!(ended.stderr.contains(backend), "{}", ended.stderr);
        let lines = ended.lines();
        let shown: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
        let kinds = [
            "open:",
            "stat:",
            "lstat:",
            "readlink:",
            "opendir:",
            "openat:",
            "fstatat:",
            "fdopendir:",
            "access:",
            "missing:",
            "write:",
        ];
        assert_eq!(shown, kinds, "{lines:?}");
        assert_eq!(lines[0].strip_prefix("open"), lines[5].strip_prefix("openat"));
        assert_eq!(lines[0], "open: greeting = \"hello from inside\"");
        assert!(lines[1].starts_with("stat: f "), "{lines:?}");
        assert!(lines[4].contains("shop.toml"), "{lines:?}");
        assert_eq!(lines[4].strip_prefix("opendir"), lines[7].strip_prefix("fdopendir"));
        assert_eq!(lines[8..10], ["access: yes", "missing: ENOENT"]);
        assert_eq!(lines[10], "write: EROFS");
    }
    // Here each open is the supervisor's to decide.
    let directory = nobody.public.path().join("own/created");
    let once = nobody.public.copy(&guests::c("once", false));
    for restart in ["RESTART=1", "RESTARTS=0"] {
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).unwrap();
        std::os::unix::fs::chown(&directory, Some(65_534), Some(65_534)).unwrap();
        let ended = Run::by(nobody.command(setup), &format!("process/{}", playground.pid))
            .flags(&["--no-incoming"])
            .run(&[
                "env",
                restart,
                once.to_str().unwrap(),
                "create",
                directory.to_str().unwrap(),
                "2000",
            ]);
        assert_eq!(ended.ok(), "exists 0 other 0\n");
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 2000);
    }
}

#[test]
fn a_user_without_fuse_gets_copies() {
    let nobody = Nobody::new();
    check(
        &nobody,
        "chmod 0600 /dev/fuse",
        "files: copied on first use, because /dev/fuse is not usable by this user",
    );
}

/// The shell's lines after which everybody may use /dev/fuse.
fn with_fuse(nobody: &Nobody) -> String {
    let node = nobody.public.path().join("fuse");
    format!(
        "test -e {0} || mknod -m 0666 {0} c 10 229; mount --bind {0} /dev/fuse",
        node.display()
    )
}

#[test]
fn a_user_with_fuse_gets_a_namespace() {
    let nobody = Nobody::new();
    check(
        &nobody,
        &with_fuse(&nobody),
        "files: mount namespace in a user namespace",
    );
    changes_are_kept(&nobody, &with_fuse(&nobody));
}

/// Mode `write-local` without rights: the kernel's overlay inside of a user namespace.
fn changes_are_kept(nobody: &Nobody, setup: &str) {
    let playground = Playground::start(nobody);
    let script = "cd /data/catalog; cat items.json > copy; mv copy kept; rm items.json; ls; mkdir /data/new";
    let mut command = nobody.command(setup);
    command.env("INPOD_FILES_MODE", "write-local");
    let ended = Run::by(command, &format!("process/{}", playground.pid))
        .flags(&["--no-incoming"])
        .run(&["sh", "-euc", script]);
    assert!(ended.stderr.contains("(2 changed, 1 removed)"), "{}", ended.stderr);
    assert_eq!(ended.ok(), "kept\n");
    let pod = std::path::PathBuf::from(format!("/proc/{}/root/data", playground.pid));
    assert!(pod.join("catalog/items.json").exists() && !pod.join("new").exists());
    let kept = nobody.public.path().join("own/.local/state/inpod/changes");
    let session = std::fs::read_dir(kept).unwrap().next().unwrap().unwrap().path();
    let copied = std::fs::read(session.join("files/data/catalog/kept")).unwrap();
    assert_eq!(copied, std::fs::read(pod.join("catalog/items.json")).unwrap());
    assert!(!session.join("work").exists());
}

#[test]
fn a_user_without_namespaces_gets_a_mount_aside() {
    let nobody = Nobody {
        mounts: true,
        ..Nobody::new()
    };
    let setup = with_fuse(&nobody);
    check(
        &nobody,
        &setup,
        "files: mounted aside by fusermount3, because user namespaces are switched off",
    );
    let playground = Playground::start(&nobody);
    let own = nobody.public.path().join("own");
    let left = || {
        let entries = std::fs::read_dir(&own).unwrap().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.display().to_string().contains("/inpod-"))
            .collect::<Vec<_>>()
    };
    assert_eq!(left(), Vec::<std::path::PathBuf>::new());
    // Everything of inpod at once, while the app is in the mount.
    let mut session = Run::by(nobody.command(&setup), &format!("process/{}", playground.pid))
        .flags(&["--no-incoming"])
        .start(&["sh", "-c", "cd /etc/shop && cat shop.toml && exec sleep 600"]);
    session.wait_for_stdout("hello from inside");
    assert!(!left().is_empty());
    let app = processes::app(session.pid()).unwrap();
    for pid in [processes::server(session.pid()).unwrap(), session.pid()] {
        kill(pid);
    }
    tests::wait_until("the end of the mount and of its directories", || left().is_empty());
    // Nobody was left to end it.
    kill(app);
    let _ = session.wait();
}

fn kill(pid: u32) {
    processes::signal(pid, rustix::process::Signal::KILL).unwrap();
}
