//! From a name to one pod.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::client::{Ask, Cluster};
use super::pod;
use crate::error::TargetError;
use crate::spec::WorkloadKind;

/// Which revision a ReplicaSet and its Deployment are at.
const REVISION: &str = "deployment.kubernetes.io/revision";

impl Cluster {
    pub(crate) fn pods(&self) -> Api<Pod> {
        self.api()
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn asking(&self, verb: &'static str, resource: &'static str) -> Ask<'_> {
        Ask {
            verb,
            resource,
            namespace: &self.namespace,
        }
    }

    /// # Errors
    /// When there is no such pod, or it may not be read.
    pub(crate) async fn pod(&self, name: &str) -> Result<Pod, TargetError> {
        self.get("pods", "pod", name).await
    }

    /// One object, or why not: with near names where it does not exist.
    async fn get<K>(&self, resource: &'static str, kind: &'static str, name: &str) -> Result<K, TargetError>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = self.api();
        match self.ask(self.asking("get", resource), api.get_opt(name)).await? {
            Some(object) => Ok(object),
            None => Err(self.missing::<K>(kind, name).await),
        }
    }

    async fn missing<K>(&self, kind: &'static str, name: &str) -> TargetError
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let here: Api<K> = self.api();
        let everywhere: Api<K> = Api::all(self.client.clone());
        let same_name = ListParams::default().fields(&format!("metadata.name={name}"));
        let all = ListParams::default().limit(500);
        // Both only help: where they are not permitted, the message is shorter.
        let (known, elsewhere) = tokio::join!(here.list_metadata(&all), everywhere.list_metadata(&same_name));
        let known: Vec<String> = known
            .map(|list| list.iter().map(|object| object.name_any()).collect())
            .unwrap_or_default();
        let elsewhere = elsewhere
            .map(|list| list.iter().filter_map(ResourceExt::namespace).collect())
            .unwrap_or_default();
        TargetError::NotFound {
            kind,
            name: name.to_owned(),
            namespace: self.namespace.clone(),
            near: crate::near::nearest(name, known.iter().map(String::as_str)),
            elsewhere,
        }
    }

    /// One ready pod of a workload: always the same one while the pods stay the same.
    ///
    /// # Errors
    /// When the workload does not exist or none of its pods is ready, with the reason.
    pub(crate) async fn pod_of(&self, kind: WorkloadKind, name: &str) -> Result<Pod, TargetError> {
        let (selector, wanted) = match kind {
            WorkloadKind::Deployment => {
                let it: Deployment = self.get("deployments", "deployment", name).await?;
                let replicas = it.spec.as_ref().and_then(|spec| spec.replicas);
                let revision = it.annotations().get(REVISION).cloned();
                let selector = it.spec.map(|spec| spec.selector).unwrap_or_default();
                return self
                    .pod_of_deployment(name, &selector, replicas, revision.as_deref())
                    .await;
            }
            WorkloadKind::StatefulSet => {
                let it: StatefulSet = self.get("statefulsets", "statefulset", name).await?;
                let spec = it.spec.unwrap_or_default();
                (spec.selector, spec.replicas)
            }
            WorkloadKind::DaemonSet => {
                let it: DaemonSet = self.get("daemonsets", "daemonset", name).await?;
                (it.spec.map(|spec| spec.selector).unwrap_or_default(), None)
            }
            WorkloadKind::ReplicaSet => {
                let it: ReplicaSet = self.get("replicasets", "replicaset", name).await?;
                let spec = it.spec.unwrap_or_default();
                (spec.selector, spec.replicas)
            }
        };
        let pods = self.select(&selector).await?;
        self.choose(&format!("{}/{name}", kind.as_str()), wanted, pods)
    }

    async fn pod_of_deployment(
        &self,
        name: &str,
        selector: &LabelSelector,
        replicas: Option<i32>,
        revision: Option<&str>,
    ) -> Result<Pod, TargetError> {
        let sets: Api<ReplicaSet> = self.api();
        let by = ListParams::default().labels(&labels(selector));
        let (sets, pods) = tokio::join!(sets.list(&by), self.select(selector));
        let pods = pods?;
        // Without the right to read ReplicaSets, all of the Deployment's pods count.
        let current = sets.ok().and_then(|sets| {
            let current = |set: &&ReplicaSet| {
                set.owner_references()
                    .iter()
                    .any(|owner| owner.kind == "Deployment" && owner.name == name)
                    && set.annotations().get(REVISION).map(String::as_str) == revision
            };
            sets.iter().find(current).map(ResourceExt::name_any)
        });
        let of_current = |pod: &Pod| match &current {
            Some(set) => pod
                .owner_references()
                .iter()
                .any(|owner| owner.kind == "ReplicaSet" && owner.name == *set),
            None => true,
        };
        let pods = pods.into_iter().filter(of_current).collect();
        self.choose(&format!("deploy/{name}"), replicas, pods)
    }

    async fn select(&self, selector: &LabelSelector) -> Result<Vec<Pod>, TargetError> {
        let by = ListParams::default().labels(&labels(selector));
        let pods = self.pods();
        Ok(self.ask(self.asking("list", "pods"), pods.list(&by)).await?.items)
    }

    fn choose(&self, workload: &str, wanted: Option<i32>, mut pods: Vec<Pod>) -> Result<Pod, TargetError> {
        pods.sort_by_key(ResourceExt::name_any);
        if let Some(ready) = pods.iter().position(pod::is_ready) {
            return Ok(pods.swap_remove(ready));
        }
        let reason = match pods.first() {
            None if wanted == Some(0) => "it is scaled to 0 replicas".to_owned(),
            None => "it has no pods (quota, admission and the scheduler can be why)".to_owned(),
            Some(pod) => format!("{}: {}", pod.name_any(), not_ready(pod)),
        };
        Err(TargetError::NoReadyPod {
            namespace: self.namespace.clone(),
            workload: workload.to_owned(),
            reason,
        })
    }
}

fn not_ready(pod: &Pod) -> String {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    let message = ready.and_then(|ready| ready.message.as_deref()).unwrap_or_default();
    let running = pod::why_not_running(pod);
    if message.is_empty() {
        running
    } else {
        format!("{running}; {message}")
    }
}

/// A selector in the form of a query (labels.Parse in k8s.io/apimachinery).
fn labels(selector: &LabelSelector) -> String {
    let none = BTreeMap::new();
    let equal = selector.match_labels.as_ref().unwrap_or(&none);
    let mut terms: Vec<String> = equal.iter().map(|(key, value)| format!("{key}={value}")).collect();
    for term in selector.match_expressions.iter().flatten() {
        let values = term.values.as_deref().unwrap_or_default().join(",");
        terms.push(match term.operator.as_str() {
            "In" => format!("{} in ({values})", term.key),
            "NotIn" => format!("{} notin ({values})", term.key),
            "DoesNotExist" => format!("!{}", term.key),
            _ => term.key.clone(),
        });
    }
    terms.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_as_queries() {
        let selector: LabelSelector = serde_json::from_value(json!({
            "matchLabels": {"app": "web", "tier": "front"},
            "matchExpressions": [
                {"key": "zone", "operator": "In", "values": ["a", "b"]},
                {"key": "old", "operator": "DoesNotExist"},
                {"key": "new", "operator": "Exists"},
                {"key": "env", "operator": "NotIn", "values": ["dev"]},
            ],
        }))
        .expect("a selector");
        assert_eq!(
            labels(&selector),
            "app=web,tier=front,zone in (a,b),!old,new,env notin (dev)"
        );
    }
}
