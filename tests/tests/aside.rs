//! The pod's files mounted aside by fusermount3: the mount is one of the machine's, so others meet it, and it must not stay.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use ::playground::Playground;
use rustix::process::Signal;
use tests::{Run, Session, is_alive, playground, processes, wait_until};

/// In the pod's directory, with a file of it open, and a child that is not of its process group.
const IN_THE_MOUNT: &str = "cd /etc/shop && exec 5<shop.toml || exit; setsid sleep 600 & echo in $!; wait";

struct Aside {
    session: Session,
    /// The temporary directory of inpod.
    own: tempfile::TempDir,
    server: u32,
    app: u32,
    child: u32,
}

impl Aside {
    fn start(playground: &Playground) -> Self {
        let own = tempfile::tempdir().unwrap();
        let mut session = run(playground, own.path()).start(&["bash", "-c", IN_THE_MOUNT]);
        session.wait_for_stdout("in ");
        let child = session.stdout().trim().strip_prefix("in ").unwrap().parse().unwrap();
        Self {
            server: processes::server(session.pid()).unwrap(),
            app: processes::app(session.pid()).unwrap(),
            child,
            session,
            own,
        }
    }

    fn mount(&self) -> PathBuf {
        let name = format!("inpod-0-{}/pod", self.session.pid());
        self.own.path().join(name)
    }

    /// Waits until nothing of it is there any more.
    fn goes(self, what: &str, processes_too: bool) {
        let named = self.own.path().display().to_string();
        let mounted = || {
            std::fs::read_to_string("/proc/self/mountinfo")
                .unwrap()
                .contains(&named)
        };
        let left = || std::fs::read_dir(self.own.path()).unwrap().count();
        wait_until(&format!("the end of the mount ({what})"), || !mounted() && left() == 0);
        let all = [self.session.pid(), self.server, self.app, self.child];
        if !processes_too {
            // Nobody was left to end them.
            [self.app, self.child].into_iter().for_each(kill);
        }
        let _ = self.session.wait();
        wait_until(&format!("the end of the processes ({what})"), || {
            !all.iter().any(|pid| is_alive(*pid))
        });
        wait_until(&format!("the end of the keeper ({what})"), || {
            let listed = Command::new("ps").args(["-eo", "args"]).output().unwrap().stdout;
            !String::from_utf8_lossy(&listed).contains(&named)
        });
    }
}

fn run(playground: &Playground, own: &Path) -> Run {
    Run::inside(playground)
        .flags(&["-v"])
        .env("INPOD_WITHOUT", "mount_namespaces")
        .env("TMPDIR", own.to_str().unwrap())
        .env("XDG_RUNTIME_DIR", "")
}

fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

fn signal(pid: u32, signal: Signal) {
    let _ = processes::signal(pid, signal);
}

#[test]
fn nothing_of_it_stays_however_it_ends() {
    let playground = playground("aside-ends");
    let start = || Aside::start(&playground);
    for (what, end) in [
        ("the app is killed", (|aside| kill(aside.app)) as fn(&Aside)),
        ("SIGTERM", |aside| signal(aside.session.pid(), Signal::TERM)),
        ("SIGINT", |aside| signal(aside.session.pid(), Signal::INT)),
        ("the supervisor is killed", |aside| kill(aside.session.pid())),
        ("the server is killed", |aside| kill(aside.server)),
    ] {
        let aside = start();
        assert!(aside.mount().exists(), "{what}");
        end(&aside);
        aside.goes(what, true);
    }
    for both in [
        |aside: &Aside| [aside.session.pid(), aside.server],
        |aside: &Aside| [aside.server, aside.session.pid()],
    ] {
        let aside = start();
        both(&aside).into_iter().for_each(kill);
        aside.goes("both are killed", false);
    }
    let own = tempfile::tempdir().unwrap();
    let ended = run(&playground, own.path()).run(&["cat", "/etc/shop/shop.toml"]);
    assert!(
        ended
            .stderr
            .contains("files: mounted aside by fusermount3, because mount namespaces are switched off"),
        "{}",
        ended.stderr
    );
    assert!(ended.ok().contains("hello from inside"));
    assert_eq!(std::fs::read_dir(own.path()).unwrap().count(), 0);
}

#[test]
fn strangers_are_turned_away_and_do_no_harm() {
    let playground = playground("aside-strangers");
    let aside = Aside::start(&playground);
    let mount = aside.mount();
    let refused = |result: std::io::Result<()>| result.err().map(|error| error.kind());
    let denied = Some(std::io::ErrorKind::PermissionDenied);
    // What the session has not looked at is not looked up, while the pod stands still too.
    assert_eq!(refused(std::fs::read_dir(&mount).map(drop)), denied);
    assert_eq!(refused(mount.join("etc/hosts").metadata().map(drop)), denied);
    assert_eq!(
        refused(std::fs::read(mount.join("etc/shop/shop.toml")).map(drop)),
        denied
    );
    assert!(mount.metadata().unwrap().is_dir());
    let figures = rustix::fs::statvfs(&mount).unwrap();
    assert_eq!((figures.f_blocks, figures.f_bfree), (0, 0));
    let walked = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .arg(aside.own.path())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let found = walked("find", &["-xdev"]);
    assert!(!found.contains("denied") && !found.contains("shop.toml"), "{found}");
    let found = walked("find", &[]);
    assert!(found.contains("denied") && !found.contains("shop.toml"), "{found}");
    assert!(!walked("df", &["-a"]).contains("pod"), "df");
    // The app's own directory was asked for by name, and is where it was.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let _ = mount.join("etc/shop").metadata();
    let place = std::fs::read_link(format!("/proc/{}/cwd", aside.app)).unwrap();
    assert_eq!(place, mount.join("etc/shop"));
    signal(aside.session.pid(), Signal::TERM);
    aside.goes("strangers came", true);
}

#[test]
fn changes_are_not_kept_here() {
    let playground = playground("aside-writing");
    let own = tempfile::tempdir().unwrap();
    let ended = run(&playground, own.path())
        .env("INPOD_FILES_MODE", "write-local")
        .run(&["true"]);
    assert_ne!(ended.code(), 0);
    let reason = "which needs a mount namespace, but here: files: mounted aside by fusermount3, because mount namespaces are \
                  switched off";
    assert!(ended.stderr.contains(reason), "{}", ended.stderr);
}
