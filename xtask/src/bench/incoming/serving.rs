//! Sessions that take from the app's ports.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;
use testbed::Pod;

use super::super::Bench;
use super::super::run::Running;

pub(super) struct Serving {
    inpod: Running,
    /// What it says from its claims on.
    said: std::thread::JoinHandle<Vec<String>>,
}

impl Serving {
    /// A session of the app, once it has claimed that many ports.
    pub(super) fn begin(mut command: Command, ports: usize) -> Result<Self, String> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut inpod = Running(child.map_err(|error| format!("cannot run inpod: {error}"))?);
        let mut said = BufReader::new(inpod.0.stderr.take().ok_or("inpod has no stderr")?).lines();
        let mut claimed = 0;
        let mut words = Vec::new();
        while claimed < ports {
            let Some(Ok(line)) = said.next() else {
                return Err(format!(
                    "the session ended before it had its ports:\n{}",
                    words.join("\n")
                ));
            };
            claimed += usize::from(line.contains(r#""event":"claimed""#));
            words.push(line);
        }
        // Nobody may wait for a reader.
        let said = std::thread::spawn(move || said.map_while(Result::ok).collect());
        Ok(Self { inpod, said })
    }

    /// Ends it; how many connections were not mirrored to their ends.
    pub(super) fn dropped(self) -> Result<f64, String> {
        drop(self.inpod);
        let said = self.said.join().map_err(|_| "nobody has read what inpod said")?;
        let counted = said.iter().find(|line| line.contains(r#""event":"counted""#));
        let counted: Option<Value> = counted.and_then(|line| serde_json::from_str(line).ok());
        let dropped = counted.and_then(|counted| counted["dropped"].as_f64());
        dropped.ok_or_else(|| format!("inpod has not counted:\n{}", said.join("\n")))
    }
}

/// A session of that pod's app, with a shell's words as the local one.
pub(super) fn session(bench: &Bench, pod: &Pod, flags: &[&str], script: &str) -> Command {
    bench.server(&format!("pod/{}/container/main", pod.name), flags, script)
}
