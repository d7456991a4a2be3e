//! Taking the testbed down, until the machine is as it was before. The caches of what was built stay.

use std::fs;
use std::time::Duration;

use crate::error::{At, Result};
use crate::lock::Lock;
use crate::paths::Paths;
use crate::process::Process;
use crate::state::State;
use crate::wait::wait_for;
use crate::{cgroups, network};

/// Ends everything that belongs to the testbed; fine when there is nothing.
pub fn down() -> Result<()> {
    let paths = Paths::of_workspace();
    let _lock = Lock::take(&paths)?;
    take_down(&paths)
}

pub(crate) fn take_down(paths: &Paths) -> Result<()> {
    if let Some(state) = State::load(&paths.state()) {
        // The kernel ends the whole pid namespace before its first process is gone.
        end(state.node.as_slice())?;
    }
    // Where the state was lost, for instance to `cargo clean`, these are all that is known.
    end(&cgroups::processes())?;
    network::part();
    cgroups::remove()?;
    let run = paths.run();
    if run.exists() {
        // For who wonders afterwards why it did not come up.
        let last_logs = paths.root.join("last-logs");
        drop(fs::remove_dir_all(&last_logs));
        drop(fs::rename(paths.logs(), last_logs));
        fs::remove_dir_all(&run).at("remove", &run)?;
    }
    Ok(())
}

fn end(processes: &[Process]) -> Result<()> {
    processes.iter().for_each(Process::kill);
    wait_for("end the node's processes", Duration::from_secs(30), || {
        let left: Vec<&Process> = processes.iter().filter(|process| process.is_alive()).collect();
        Ok(if left.is_empty() {
            Ok(())
        } else {
            Err(format!("still there: {left:?}"))
        })
    })
}
