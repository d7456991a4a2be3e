//! The node's namespaces (network, mount, pid, host name), and programs in them. All that runs in the node descends from
//! one process, the first of a pid namespace: ending that one ends everything, and with the last process the mounts and
//! networks go, without a list of what there was.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::{At, Error, Result, run};
use crate::paths::Paths;
use crate::process::Process;
use crate::wait::wait_for;
use crate::{cgroups, network};

pub(crate) const NAME: &str = "inpod-node";

/// Directories that the node has for itself in place of the machine's.
const PRIVATE: &[&str] = &["/run", "/var/lib", "/var/log"];

/// A program of the node with its arguments: data, so that a changed command line is seen as a change.
#[derive(Debug, Clone, Hash)]
pub(crate) struct Program {
    pub name: &'static str,
    pub path: PathBuf,
    pub arguments: Vec<String>,
}

pub(crate) struct Node {
    pub init: Process,
}

impl Node {
    /// Empty namespaces, with nothing but `pause` in them.
    pub fn create(paths: &Paths) -> Result<Self> {
        if let Some(hidden) = PRIVATE.iter().find(|directory| paths.root.starts_with(directory)) {
            return Err(Error::Unmet {
                doing: "start the node".to_owned(),
                why: format!("this checkout lies below {hidden}, which the node has for itself"),
                hint: "move the checkout elsewhere".to_owned(),
            });
        }
        let doing = "create the node's namespaces";
        let log = log(paths, "node");
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--fork",
            "--kill-child",
            "--pid",
            "--mount-proc",
            "--mount",
            "--net",
            "--uts",
            "--",
        ]);
        unshare.arg(paths.program("pause"));
        let outer = start(doing, &unshare, &log)?;
        let pid = wait_for(doing, Duration::from_secs(10), || {
            Ok(child_of(outer, "pause").ok_or_else(|| tail(&log)))
        })?;
        let init = Process::of("node", pid).ok_or_else(|| Error::unexpected(doing, "its first process ended"))?;
        Ok(Self { init })
    }

    /// Gives the node its network, its own directories and its name.
    pub fn set_up(&self, paths: &Paths) -> Result<()> {
        network::join(self.init.pid)?;
        let mut setup = self.command(Path::new("/bin/sh"));
        setup.arg("-eu").arg(paths.config().join("node-setup.sh")).args(PRIVATE);
        run("set up the node", &mut setup).map(drop)
    }

    /// A command that runs in the node's namespaces.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.init.pid.to_string(),
            "--mount",
            "--net",
            "--pid",
            "--uts",
            "--wdns=/",
            "--",
        ]);
        command.arg(program);
        command
    }

    /// Where the machine finds a file of the node.
    pub fn path(&self, inside: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.init.pid.to_string())
            .join("root")
            .join(inside)
    }

    /// Starts a program that stays; the process returned is `nsenter`, which ends with it.
    pub fn start(&self, paths: &Paths, program: &Program) -> Result<Process> {
        let doing = format!("start {}", program.name);
        let mut command = self.command(&program.path);
        command.args(&program.arguments);
        let pid = start(&doing, &command, &log(paths, program.name))?;
        Process::of(program.name, pid).ok_or_else(|| Error::unexpected(doing, "it ended at once"))
    }
}

pub(crate) fn log(paths: &Paths, program: &str) -> PathBuf {
    paths.logs().join(format!("{program}.log"))
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(8)..];
    format!("{} says:\n{}", log.display(), last.join("\n"))
}

/// Starts `command` in the node's control groups, with its output in `log`, apart from the caller's terminal and session.
fn start(doing: &str, command: &Command, log: &Path) -> Result<i32> {
    let output = File::create(log).at("create", log)?;
    let errors = output.try_clone().at("create", log)?;
    // The group is entered before the program exists, so that no child of it escapes.
    let script = "for entrance in $0; do echo 0 > $entrance; done; exec \"$@\"";
    let entrances: Vec<String> = cgroups::entrances()
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let mut shell = Command::new("setsid");
    shell
        .args(["sh", "-euc", script, &entrances.join(" ")])
        .arg(command.get_program())
        .args(command.get_args());
    // The caller's proxies and kubeconfig are not the node's.
    shell
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root");
    shell
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    let child = shell.spawn().map_err(|source| Error::Io {
        doing: doing.to_owned(),
        source,
    })?;
    Ok(child.id().cast_signed())
}

fn child_of(parent: i32, name: &str) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let child: i32 = children.split_whitespace().next()?.parse().ok()?;
    let running = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
    (running.trim() == name).then_some(child)
}
