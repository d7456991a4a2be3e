//! For tests: the running testbed, the plain user's side of it, and, apart from that, the administrator's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::is_ready;
use crate::error::{Error, Result};
use crate::kubectl::Kubectl;
use crate::node::Node;
use crate::paths::Paths;
use crate::pod::Pod;
use crate::state::State;
use crate::up::{Options, up};
use crate::wait::wait_for;

/// A testbed that is up.
#[derive(Debug)]
pub struct Testbed {
    paths: Paths,
}

impl Testbed {
    /// Brings it up first where it is not.
    pub fn require() -> Result<Self> {
        up(&Options::QUIET)?;
        Ok(Self {
            paths: Paths::of_workspace(),
        })
    }

    /// Of the user who has the rights of testbed/manifests/minimum-rbac.yaml, readable by everyone: what is tested runs
    /// with this one.
    pub fn user_kubeconfig(&self) -> PathBuf {
        self.paths.user_kubeconfig()
    }

    /// kubectl as that user.
    pub fn user(&self) -> Kubectl {
        Kubectl::new(&self.paths, self.paths.user_kubeconfig())
    }

    /// For making what a test needs, and for looking at what it did. Never for what is tested.
    pub fn admin(&self) -> Admin {
        Admin {
            kubectl: Kubectl::new(&self.paths, self.paths.admin_kubeconfig()),
        }
    }

    /// A command on the node, in its namespaces. Not started yet.
    pub fn on_node(&self, program: &str) -> Result<Command> {
        let node = State::load(&self.paths.state()).and_then(|state| state.node);
        let init = node.ok_or_else(|| Error::unexpected("enter the node", "its state is not known"))?;
        Ok(Node { init }.command(Path::new(program)))
    }
}

#[derive(Debug)]
pub struct Admin {
    pub kubectl: Kubectl,
}

/// A pod of one container for one test.
#[derive(Debug, Clone)]
pub struct FreshPod<'a> {
    pub namespace: &'a str,
    /// One of the testbed's images by its short name: `shop`, `shop-bare`, `busybox`, `nginx`, `redis`, `mesh`,
    /// `tools`.
    pub image: &'a str,
    pub args: &'a [&'a str],
    pub env: &'a [(&'a str, &'a str)],
    /// Declared as the container's port `http`.
    pub port: Option<u16>,
    /// `None`: what the image says.
    pub user: Option<u32>,
    /// Fields of the pod's spec to add or replace, as a JSON object.
    pub spec: Value,
}

impl Default for FreshPod<'_> {
    /// The shop's web service on port 8080, as root.
    fn default() -> Self {
        Self {
            namespace: "default",
            image: "shop",
            args: &["web"],
            env: &[],
            port: Some(8080),
            user: None,
            spec: json!({}),
        }
    }
}

impl Admin {
    /// Creates a pod under a name of its own and waits until it is ready. It is deleted when the value is dropped.
    pub fn fresh_pod(&self, wanted: &FreshPod<'_>) -> Result<Pod> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "fresh-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        self.kubectl.apply(&wanted.manifest(&name).to_string())?;
        let mut pod = Pod::find(&self.kubectl, wanted.namespace, &name)?;
        pod.temporary = true;
        pod.ip = self.wait_until_ready(&pod)?;
        Ok(pod)
    }

    /// A pod that exists.
    pub fn pod(&self, namespace: &str, name: &str) -> Result<Pod> {
        Pod::find(&self.kubectl, namespace, name)
    }

    /// The first running pod of a deployment of the testbed's manifests, whose pods are labelled `app=<its name>`.
    pub fn pod_of_deployment(&self, namespace: &str, deployment: &str) -> Result<Pod> {
        let label = format!("app={deployment}");
        let pods = self
            .kubectl
            .json(&["get", "pods", "--namespace", namespace, "--selector", &label])?;
        let pods = pods["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ready = pods
            .iter()
            .find(|pod| pod["metadata"]["deletionTimestamp"].is_null() && is_ready(pod));
        let name = ready.and_then(|pod| pod["metadata"]["name"].as_str());
        let name = name.ok_or_else(|| Error::unexpected(format!("find a pod of {deployment}"), "none is ready"))?;
        self.pod(namespace, name)
    }

    /// A namespace in which the plain user has the documented rights, with labels such as PodSecurity's.
    pub fn namespace(&self, name: &str, labels: &[(&str, &str)]) -> Result<()> {
        let labels: serde_json::Map<String, Value> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        let group = "rbac.authorization.k8s.io";
        let objects = [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
            json!({
                "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
                "metadata": {"name": "inpod", "namespace": name},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "inpod"},
                "subjects": [{"apiGroup": group, "kind": "User", "name": "developer"}],
            }),
        ];
        self.kubectl
            .apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())
    }

    fn wait_until_ready(&self, pod: &Pod) -> Result<String> {
        wait_for(&format!("have pod {} ready", pod.name), Duration::from_secs(60), || {
            let now = self
                .kubectl
                .json(&["get", "pod", &pod.name, "--namespace", &pod.namespace])?;
            let ip = now["status"]["podIP"].as_str().unwrap_or_default();
            Ok(if is_ready(&now) {
                Ok(ip.to_owned())
            } else {
                Err(now["status"].to_string())
            })
        })
    }
}

impl FreshPod<'_> {
    fn manifest(&self, name: &str) -> Value {
        let env: Vec<Value> = self
            .env
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let mut container = json!({
            "name": "main",
            "image": format!("inpod.test/{}:1", self.image),
            "imagePullPolicy": "Never",
            "args": self.args,
            "env": env,
        });
        if let Some(port) = self.port {
            container["ports"] = json!([{"name": "http", "containerPort": port}]);
            container["readinessProbe"] = json!({"tcpSocket": {"port": port}, "periodSeconds": 1});
        }
        if let Some(user) = self.user {
            container["securityContext"] = json!({"runAsUser": user, "runAsGroup": user});
        }
        let mut spec = json!({"terminationGracePeriodSeconds": 0, "containers": [container]});
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), self.spec.as_object()) {
            spec.extend(more.clone());
        }
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": {"app": name}},
            "spec": spec,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_pod_is_what_was_asked_for() {
        let wanted = FreshPod {
            user: Some(7),
            spec: json!({"shareProcessNamespace": true}),
            ..FreshPod::default()
        };
        let spec = &wanted.manifest("p")["spec"];
        assert_eq!(spec["shareProcessNamespace"], true);
        assert_eq!(spec["containers"][0]["securityContext"]["runAsUser"], 7);
        assert_eq!(spec["containers"][0]["image"], "inpod.test/shop:1");
    }
}
