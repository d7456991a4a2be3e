//! kubectl, built from the testbed's own module, as one of its users.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::error::{Error, Result, run};
use crate::paths::Paths;

#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(paths: &Paths, kubeconfig: PathBuf) -> Self {
        let cache = kubeconfig.with_file_name("cache");
        Self {
            program: paths.program("kubernetes"),
            kubeconfig,
            cache,
        }
    }

    /// A kubectl command that is not started yet, for who wants its streams.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("kubectl").args(arguments);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", &self.cache)
            .stdin(Stdio::null());
        command
    }

    /// Runs to the end and gives what it printed to standard output.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        run(
            &format!("kubectl {}", arguments.join(" ")),
            &mut self.command(arguments),
        )
    }

    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.run(&[arguments, &["-o", "json"]].concat())?;
        let doing = || format!("understand kubectl {}", arguments.join(" "));
        serde_json::from_str(&text).map_err(|problem| Error::unexpected(doing(), problem.to_string()))
    }

    /// Creates or changes what the YAML (or JSON) text describes.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let doing = "apply a manifest";
        let failed = |source| Error::Io {
            doing: doing.to_owned(),
            source,
        };
        let mut command = self.command(&["apply", "--server-side", "--force-conflicts", "-f", "-"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            // When it stops reading, its exit status and message say why.
            drop(input.write_all(manifest.as_bytes()));
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::unexpected(
            doing,
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }
}
