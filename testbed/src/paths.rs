//! Where things lie. Everything is below `<workspace>/target/testbed`: `bin` and `images` are caches that survive, `run`
//! is what one running testbed has, and is deleted with it.

use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub workspace: PathBuf,
    pub root: PathBuf,
}

impl Paths {
    /// The checkout that this library was built from.
    pub fn of_workspace() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = here.parent().unwrap_or(here).to_path_buf();
        Self {
            root: workspace.join("target/testbed"),
            workspace,
        }
    }

    pub fn source(&self, name: &str) -> PathBuf {
        self.workspace.join("testbed").join(name)
    }

    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    pub fn stamp(&self, name: &str) -> PathBuf {
        self.root.join("stamps").join(name)
    }

    pub fn image(&self, name: &str) -> PathBuf {
        self.root.join("images").join(format!("{name}.tar"))
    }

    /// Debian packages that were unpacked for an image.
    pub fn debian(&self, name: &str) -> PathBuf {
        self.root.join("debian").join(name)
    }

    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    pub fn state(&self) -> PathBuf {
        self.run().join("state.json")
    }

    pub fn logs(&self) -> PathBuf {
        self.run().join("logs")
    }

    /// Keys, certificates and tokens of the cluster: only for root.
    pub fn pki(&self) -> PathBuf {
        self.run().join("pki")
    }

    /// Configuration files of the node's programs, written anew at each start.
    pub fn config(&self) -> PathBuf {
        self.run().join("config")
    }

    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.run().join("admin/kubeconfig")
    }

    pub fn user_kubeconfig(&self) -> PathBuf {
        self.run().join("user/kubeconfig")
    }
}
