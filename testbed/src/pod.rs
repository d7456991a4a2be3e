//! A pod from the side that tests look from: its address, its processes, its network.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::{At, Error, Result, run};
use crate::kubectl::Kubectl;

#[derive(Debug)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub ip: String,
    pub(crate) uid: String,
    pub(crate) kubectl: Kubectl,
    /// Made for one test, and deleted with this value.
    pub(crate) temporary: bool,
}

/// A process in one of a pod's containers, as the machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodProcess {
    pub pid: i32,
    pub name: String,
    /// As in proc_pid_stat(5): `Z` is a zombie.
    pub state: char,
    /// Which container it is in: the runtime's id.
    pub container_id: String,
}

impl Pod {
    pub(crate) fn find(kubectl: &Kubectl, namespace: &str, name: &str) -> Result<Self> {
        let pod = kubectl.json(&["get", "pod", name, "--namespace", namespace])?;
        let text = |path: &str| {
            pod.pointer(path)
                .and_then(|value| value.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ip: text("/status/podIP"),
            uid: text("/metadata/uid"),
            kubectl: kubectl.clone(),
            temporary: false,
        })
    }

    /// Runs a command in the pod (its first container) and gives its standard output.
    pub fn exec(&self, command: &[&str]) -> Result<String> {
        self.exec_command(None, command)
            .and_then(|mut exec| run(&format!("run {command:?} in {}", self.name), &mut exec))
    }

    /// The same, for who names the container or wants the streams; not started yet.
    pub fn exec_command(&self, container: Option<&str>, command: &[&str]) -> Result<Command> {
        let mut arguments = vec!["exec", "--namespace", &self.namespace, &self.name];
        if let Some(container) = container {
            arguments.extend(["--container", container]);
        }
        arguments.push("--");
        arguments.extend(command);
        Ok(self.kubectl.command(&arguments))
    }

    /// A process of this name that has not ended.
    pub fn running(&self, name: &str) -> Result<Option<PodProcess>> {
        let mut processes = self.processes()?.into_iter();
        Ok(processes.find(|process| process.name == name && process.state != 'Z'))
    }

    /// All processes of the pod's containers, the sandbox's `pause` and ephemeral containers included.
    pub fn processes(&self) -> Result<Vec<PodProcess>> {
        let proc = Path::new("/proc");
        let group = format!("/pod{}/", self.uid);
        let mut found = Vec::new();
        for entry in fs::read_dir(proc).at("list", proc)?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // It may end at any moment, and is none of the pod's then.
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let groups = read("cgroup");
            let Some((_, container_id)) = groups.lines().find_map(|line| line.split_once(&group)) else {
                continue;
            };
            let stat = read("stat");
            let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else {
                continue;
            };
            let state = stat[close + 1..].trim_start().chars().next().unwrap_or('?');
            let name = stat[open + 1..close].to_owned();
            let container_id = container_id.split('/').next().unwrap_or_default().to_owned();
            found.push(PodProcess {
                pid,
                name,
                state,
                container_id,
            });
        }
        found.sort_by_key(|process| process.pid);
        Ok(found)
    }

    /// A command on the machine, in the pod's network: `nft`, `ss`, a test's own socket program. Not started yet.
    pub fn in_network(&self, program: &str) -> Result<Command> {
        let any = self.processes()?.into_iter().find(|process| process.state != 'Z');
        let any = any.ok_or_else(|| Error::unexpected(format!("enter {}", self.name), "it has no process"))?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", any.pid))
            .arg("--")
            .arg(program);
        Ok(command)
    }

    /// All that nftables holds in the pod's network, as text that is the same for the same rules (handles, no counters).
    pub fn nft_ruleset(&self) -> Result<String> {
        run(
            "list the pod's nft rules",
            self.in_network("nft")?.args(["--stateless", "list", "ruleset"]),
        )
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if self.temporary {
            let delete = [
                "delete",
                "pod",
                &self.name,
                "--namespace",
                &self.namespace,
                "--grace-period=0",
                "--force",
            ];
            // A test that has failed is more interesting than this.
            drop(
                self.kubectl
                    .command(&[&delete[..], &["--wait=false"]].concat())
                    .output(),
            );
        }
    }
}
