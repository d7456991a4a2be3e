//! One at a time brings the testbed up or takes it down.

use std::fs::{self, File};

use rustix::fs::{FlockOperation, flock};

use crate::error::{At, Error, Result};
use crate::paths::Paths;

pub(crate) struct Lock {
    /// The lock is released with it.
    _file: File,
}

impl Lock {
    /// Waits for whoever has it.
    pub fn take(paths: &Paths) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::Unmet {
                doing: "bring the testbed up or down".to_owned(),
                why: "its node needs root".to_owned(),
                hint: "run it as root: `sudo cargo xtask testbed up`".to_owned(),
            });
        }
        fs::create_dir_all(&paths.root).at("create", &paths.root)?;
        let path = paths.lock();
        let file = File::create(&path).at("create", &path)?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(std::io::Error::from)
            .at("lock", &path)?;
        Ok(Self { _file: file })
    }
}
