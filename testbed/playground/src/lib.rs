//! A small service with its own network, host name, files, environment, dependency and steady client traffic, isolated by
//! namespaces: a target for `inpod exec -t process/<pid>` where there is no cluster.
//!
//! Works without root where unprivileged user namespaces are allowed. Nothing in it is reachable from outside, and nothing
//! of it outlives the [`Playground`].

mod root;
mod services;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Addresses inside, on the playground's own loopback.
pub const WEB: &str = "10.77.0.10";
/// The dependency's address; its name is [`STOCK_NAME`].
pub const STOCK: &str = "10.77.0.20";
/// Where the steady client comes from.
pub const CLIENT: &str = "10.77.0.30";
/// The name server, which knows no name: those of the playground are in its hosts file.
pub const NAMES: &str = "10.77.0.53";
/// Resolvable inside only.
pub const STOCK_NAME: &str = "stock.shop.internal";
/// The service's port.
pub const PORT: u16 = 8080;
/// The service's host name.
pub const HOSTNAME: &str = "shop-5c9d7";

/// How long it may take until the service answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// A playground that cannot be had here.
#[derive(Debug, thiserror::Error)]
pub enum PlaygroundError {
    #[error("cannot prepare the playground's files in {}", .0.display())]
    Files(PathBuf, #[source] io::Error),
    #[error("cannot run `unshare` (package util-linux)")]
    Unshare(#[source] io::Error),
    #[error(
        "the playground did not start: {0}\n  unprivileged user namespaces may be switched off here \
         (kernel.unprivileged_userns_clone, user.max_user_namespaces, AppArmor's apparmor_restrict_unprivileged_userns): \
         run it as root, or allow them"
    )]
    Refused(String),
    #[error("the playground's service did not answer within {} s; its log:\n{log}", PATIENCE.as_secs())]
    Silent { log: String },
}

/// A running playground.
#[derive(Debug)]
pub struct Playground {
    unshare: Child,
    directory: PathBuf,
    pid: u32,
}

impl Playground {
    /// Starts it in `directory`, which is made anew; `shop` is the statically linked program of its services.
    ///
    /// # Errors
    /// See [`PlaygroundError`].
    pub fn start(shop: &Path, directory: &Path) -> Result<Self, PlaygroundError> {
        let files = |error| PlaygroundError::Files(directory.to_owned(), error);
        root::prepare(shop, directory).map_err(files)?;
        let log = std::fs::File::create(directory.join("log")).map_err(files)?;
        let script = directory.join("start");
        std::fs::write(&script, services::script(&directory.join("root"))).map_err(files)?;
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        let unshare = command
            .args([
                "--net",
                "--mount",
                "--uts",
                "--ipc",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
            ])
            .arg(&script)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(files)?)
            .stderr(log)
            .spawn()
            .map_err(PlaygroundError::Unshare)?;
        let mut playground = Self {
            unshare,
            directory: directory.to_owned(),
            pid: 0,
        };
        playground.pid = playground.wait()?;
        Ok(playground)
    }

    /// The service's process id, as this machine sees it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What its processes printed: the steady client reports every second.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// The service's root directory, as this machine sees it.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// Runs a program inside, as another client would: `shop` or anything of this machine.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn inside(&self, arguments: &[&str]) -> io::Result<std::process::Output> {
        self.command(arguments).output()
    }

    /// The same, for the caller to start.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.pid)).args(["--net", "--uts"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(arguments);
        command
    }

    /// The service is the first process that was told to listen; it is up when it has said so and a client was answered.
    fn wait(&mut self) -> Result<u32, PlaygroundError> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.unshare.try_wait() {
                return Err(PlaygroundError::Refused(format!("{} ({status})", self.log().trim())));
            }
            if self.log().contains("answered=")
                && let Some(pid) = only_child(self.unshare.id())
            {
                return Ok(pid);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(PlaygroundError::Silent { log: self.log() })
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        // --kill-child: with unshare goes the first process of the pid namespace, and with that all the others.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let deadline = Instant::now() + PATIENCE;
        while Path::new(&format!("/proc/{}", self.pid)).exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn only_child(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_ascii_whitespace().next()?.parse().ok()
}
