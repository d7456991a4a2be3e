//! Where the guests' world is: a playground of this machine, or a pod of the real cluster that is made to look like it.

use std::path::PathBuf;
use std::process::Command;

use playground::Playground;
use testbed::{FreshPod, Pod};

use crate::world::{CALLER, NAMES, POD};

/// The playground's stand-in for a container's processes, or the container's own.
#[derive(Debug)]
pub enum Site {
    Playground(Playground),
    Pod { pod: Pod, pid: u32 },
}

impl Site {
    /// A playground of the caller's own.
    ///
    /// # Panics
    /// When it cannot be had here.
    #[must_use]
    pub fn playground() -> Self {
        Self::Playground(tests::playground("conformance"))
    }

    /// A pod of the one cluster of this machine, which must be up: with the playground's environment, host name, resolver
    /// settings and hosts, and, added from outside, its addresses.
    ///
    /// # Panics
    /// When it cannot be had.
    #[must_use]
    pub fn pod() -> Self {
        let env: Vec<(&str, &str)> = vec![("SHOP_CURRENCY", "EUR"), ("NODE_OPTIONS", "--require=/not/here.js")];
        let spec = serde_json::json!({
            "hostname": playground::HOSTNAME,
            "dnsPolicy": "None",
            "dnsConfig": {
                "nameservers": [NAMES],
                "searches": ["shop.internal"],
                "options": [{"name": "timeout", "value": "5"}, {"name": "attempts", "value": "2"}],
            },
            "hostAliases": [{"ip": playground::STOCK, "hostnames": [playground::STOCK_NAME, "stock"]}],
        });
        let wanted = FreshPod {
            env: &env,
            spec,
            ..FreshPod::default()
        };
        let pod = tests::testbed().admin().fresh_pod(&wanted);
        let pod = pod.unwrap_or_else(|error| panic!("a pod for the guests: {error}"));
        let processes = pod.processes().expect("/proc can be read");
        let service = processes.iter().find(|process| process.name == "shop");
        let pid = service.expect("the pod's service runs").pid.unsigned_abs();
        let site = Self::Pod { pod, pid };
        for address in [POD, CALLER] {
            let address = format!("{address}/32");
            let _ = site.inside(&["ip", "address", "add", &address, "dev", "eth0"]);
        }
        site
    }

    /// The target's name for `inpod exec`.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::Playground(playground) => format!("process/{}", playground.pid()),
            Self::Pod { pod, .. } => format!("pod/{}", pod.name),
        }
    }

    /// A process whose network it is.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match self {
            Self::Playground(playground) => playground.pid(),
            Self::Pod { pid, .. } => *pid,
        }
    }

    /// The root directory of its processes, as this machine sees it.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        match self {
            Self::Playground(playground) => playground.root(),
            Self::Pod { pid, .. } => PathBuf::from(format!("/proc/{pid}/root")),
        }
    }

    /// A program of this machine's in its network, for the caller to start.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        match self {
            Self::Playground(playground) => playground.command(words),
            Self::Pod { pid, .. } => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--target={pid}")).arg("--net").args(words);
                command
            }
        }
    }

    /// Runs it to its end and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn inside(&self, words: &[&str]) -> String {
        let output = self.command(words).output().expect("nsenter can be run");
        assert!(
            output.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
