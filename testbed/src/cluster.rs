//! What runs in the cluster: the manifests of testbed/manifests, applied and waited for.

use std::time::Duration;

use serde_json::Value;

use crate::error::Result;
use crate::kubectl::Kubectl;
use crate::network::DNS_SERVICE;
use crate::wait::wait_for;

/// Namespaces, and rights within them.
const BASICS: &[&str] = &[
    include_str!("../manifests/minimum-rbac.yaml"),
    include_str!("../manifests/namespaces.yaml"),
];

const WORKLOADS: &[&str] = &[
    include_str!("../manifests/coredns.yaml"),
    include_str!("../manifests/shop.yaml"),
    include_str!("../manifests/services.yaml"),
    include_str!("../manifests/pods.yaml"),
];

/// All texts, for seeing that they have changed.
pub(crate) fn manifests() -> String {
    join(&[BASICS, WORKLOADS].concat())
}

fn join(manifests: &[&str]) -> String {
    manifests.join("\n---\n").replace("@DNS_SERVICE@", DNS_SERVICE)
}

/// What needs no images, and the controllers' first work: the namespaces' service accounts, without which pods are refused.
pub(crate) fn apply_basics(kubectl: &Kubectl) -> Result<()> {
    kubectl.apply(&join(BASICS))?;
    for namespace in ["default", "baseline", "restricted"] {
        wait_for("have service accounts", Duration::from_secs(30), || {
            let account = kubectl.run(&["get", "serviceaccount", "default", "--namespace", namespace]);
            Ok(account.map(drop).map_err(|problem| problem.to_string()))
        })?;
    }
    Ok(())
}

pub(crate) fn apply(kubectl: &Kubectl) -> Result<()> {
    let manifests = join(WORKLOADS);
    // A pod may be refused because a service account of the same manifest is not seen everywhere yet.
    wait_for("apply the testbed's manifests", Duration::from_secs(30), || {
        Ok(kubectl.apply(&manifests).map_err(|problem| problem.to_string()))
    })
}

/// Waits until all workloads and pods in all namespaces are ready, and names them.
pub(crate) fn wait_until_ready(kubectl: &Kubectl, alive: impl Fn() -> Result<()>) -> Result<Vec<String>> {
    wait_for("have all pods ready", Duration::from_secs(120), || {
        alive()?;
        let Census { ready, missing } = census(kubectl)?;
        Ok(if missing.is_empty() {
            Ok(ready)
        } else {
            Err(format!("not ready: {}", missing.join(", ")))
        })
    })
}

/// Whether all of these are ready still; pods that tests have made beside them do not matter.
pub(crate) fn are_ready(kubectl: &Kubectl, names: &[String]) -> Result<bool> {
    let now = census(kubectl)?.ready;
    Ok(names.iter().all(|name| now.contains(name)))
}

fn census(kubectl: &Kubectl) -> Result<Census> {
    let objects = kubectl.json(&["get", "deployments,pods", "--all-namespaces", "--request-timeout=5s"])?;
    Ok(Census::of(&objects))
}

/// Names of deployments by whether they have their replicas, and of pods of their own by whether they are ready.
#[derive(Debug, Default, PartialEq, Eq)]
struct Census {
    ready: Vec<String>,
    missing: Vec<String>,
}

impl Census {
    fn of(objects: &Value) -> Self {
        let mut census = Self::default();
        for object in objects["items"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let ready = match object["kind"].as_str() {
                Some("Deployment") => object["status"]["readyReplicas"] == object["spec"]["replicas"],
                // Those of a deployment are counted by it.
                Some("Pod") if object["metadata"]["ownerReferences"].is_null() => is_ready(object),
                _ => continue,
            };
            let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
            let metadata = &object["metadata"];
            let name = format!(
                "{} {}/{}",
                text(&object["kind"]),
                text(&metadata["namespace"]),
                text(&metadata["name"])
            );
            let list = if ready { &mut census.ready } else { &mut census.missing };
            list.push(name);
        }
        census
    }
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn workloads_count_their_pods_and_the_other_pods_count_for_themselves() {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let objects = json!({"items": [
            {"kind": "Deployment", "metadata": {"name": "full"}, "spec": {"replicas": 1}, "status": {"readyReplicas": 1}},
            {"kind": "Deployment", "metadata": {"name": "new"}, "spec": {"replicas": 1}, "status": {}},
            {"kind": "Pod", "metadata": {"namespace": "a", "name": "up"}, "status": {"conditions": ready}},
            {"kind": "Pod", "metadata": {"name": "pending"}, "status": {}},
            {"kind": "Pod", "metadata": {"name": "owned", "ownerReferences": [{}]}, "status": {}},
        ]});
        let census = Census::of(&objects);
        assert_eq!(census.ready, ["Deployment /full", "Pod a/up"]);
        assert_eq!(census.missing, ["Deployment /new", "Pod /pending"]);
    }
}
