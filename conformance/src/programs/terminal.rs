//! An interactive shell in a terminal of its own.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{Outcome, Stage};

pub(super) fn job_control(stage: &Stage<'_>) -> Outcome {
    let terminal = Terminal::start(stage).map_err(|error| error.to_string())?;
    let begun = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        terminal.say("PS1='ready> '; echo go$((1))\n");
        terminal.wait_for("go1");
        terminal.say("read -r line < /data/conformance/text; echo \"file: $line\"\n");
        terminal.wait_for("file: hello from the pod");
        // Ctrl-C ends the foreground job, not the shell.
        terminal.say("/usr/bin/python3 -uc 'print(\"wait\" + \"ing\"); import signal; signal.pause()'\n");
        terminal.wait_for("waiting");
        terminal.say("\x03");
        terminal.say("echo status $?\n");
        terminal.wait_for("status 130");
        // Ctrl-Z stops it, fg goes on with it.
        terminal.say("/usr/bin/python3 -uc 'print(\"slum\" + \"ber\"); print(\"woke \" + input())'\n");
        terminal.wait_for("slumber");
        terminal.say("\x1a");
        terminal.wait_for("Stopped");
        terminal.say("echo stopped $?\n");
        terminal.wait_for("stopped 148");
        terminal.say("fg\n");
        terminal.wait_for("input");
        terminal.say("up\n");
        terminal.wait_for("woke up");
        terminal.say("exit 7\n");
    }));
    let (printed, status) = terminal.end();
    match begun {
        Ok(()) if status == Some(7) => Ok(()),
        Ok(()) => Err(format!(
            "expected status 7, came {status:?}; the terminal showed:\n{printed}"
        )),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map_or("", String::as_str);
            Err(format!("{text}; the terminal showed:\n{printed}"))
        }
    }
}

struct Terminal {
    keyboard: std::fs::File,
    screen: Arc<Mutex<Vec<u8>>>,
    child: std::process::Child,
}

impl Terminal {
    fn start(stage: &Stage<'_>) -> std::io::Result<Self> {
        let ours: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let theirs = std::fs::File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap_or_default())?;
        let inpod = tests::inpod(&[
            "exec",
            "-t",
            &stage.world.target(),
            "--engine",
            stage.engine.flag(),
            "--no-incoming",
        ]);
        // setsid makes the terminal the controlling one; env: whoever runs the tests in the background ignores Ctrl-C.
        let child = Command::new("env")
            .args(["--default-signal=INT,QUIT,HUP", "setsid", "--ctty", "--wait"])
            .arg(inpod.get_program())
            .args(inpod.get_args())
            .args(["--", "bash", "--norc", "--noprofile", "--noediting", "-i"])
            .current_dir(tests::workspace())
            .env("TERM", "dumb")
            .stdin(Stdio::from(theirs.try_clone()?))
            .stdout(Stdio::from(theirs.try_clone()?))
            .stderr(Stdio::from(theirs))
            .spawn()?;
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, shown) = (std::fs::File::from(ours.try_clone()?), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // EIO: nobody has the other end any more.
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                shown
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&bytes[..length]);
            }
        });
        Ok(Self {
            keyboard: std::fs::File::from(ours),
            screen,
            child,
        })
    }

    fn say(&self, keys: &str) {
        (&self.keyboard)
            .write_all(keys.as_bytes())
            .expect("the terminal takes keys");
    }

    fn shows(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn wait_for(&self, text: &str) {
        tests::wait_until(text, || self.shows().contains(text));
    }

    /// What it showed, and the exit status.
    fn end(mut self) -> (String, Option<i32>) {
        let deadline = std::time::Instant::now() + tests::PATIENCE / 4;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status.code(),
                _ if std::time::Instant::now() > deadline => {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    break None;
                }
                _ => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
        };
        (self.shows(), status)
    }
}
