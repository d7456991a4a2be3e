//! What is known of the running testbed: written while it starts, so that an interrupted start can be taken down too.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::credentials::write;
use crate::error::{At, Error, Result};
use crate::process::{self, Process};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    boot: String,
    /// Of all that it was started from.
    pub inputs: String,
    /// The first process of the node's pid namespace: ending it ends the others.
    pub node: Option<Process>,
    pub programs: Vec<Process>,
    /// The workloads and pods that were ready then: a test may have deleted some since.
    pub ready: Vec<String>,
    /// All phases of the start were passed.
    pub complete: bool,
}

impl State {
    pub fn new(inputs: String) -> Self {
        Self {
            boot: process::boot_id(),
            inputs,
            ..Self::default()
        }
    }

    /// `None`: there is none, or the machine has been started anew since.
    pub fn load(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        // One that another version wrote is as good as none: the control groups tell what there is to end.
        let state: Self = serde_json::from_str(&text).ok()?;
        (state.boot == process::boot_id()).then_some(state)
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|problem| Error::unexpected(format!("write {}", path.display()), problem.to_string()))?;
        let new = path.with_extension("new");
        write(&new, &text, 0o644)?;
        fs::rename(&new, path).at("replace", path)
    }

    /// Programs that should run and do not.
    pub fn dead(&self) -> Vec<&Process> {
        self.node
            .iter()
            .chain(&self.programs)
            .filter(|process| !process.is_alive())
            .collect()
    }
}
