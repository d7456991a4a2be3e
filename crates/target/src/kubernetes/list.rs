//! What could be a target, for `inpod ls`.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::ResourceExt;
use kube::api::{Api, ListParams, ObjectList};

use super::client::Cluster;
use super::pod;
use crate::error::TargetError;
use crate::options::KubeOptions;
use crate::spec::WorkloadKind;

/// The most objects of a kind that are listed.
const MOST: u32 = 1000;

/// The targets of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub context: Option<String>,
    pub namespace: String,
    pub targets: Vec<Listed>,
    /// What could not be listed, with the reason.
    pub missing: Vec<(&'static str, String)>,
}

/// Something that can be a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// As it is written after `-t`.
    pub target: String,
    /// Pods that are ready, and those that are wanted; 0 or 1 of 1 for a pod.
    pub ready: (u32, u32),
    /// The container that is taken when none is named comes first.
    pub containers: Vec<ListedContainer>,
    /// The phase of a pod, or what stands in the way of one that is not ready.
    pub state: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedContainer {
    pub name: String,
    pub image: String,
}

/// All deployments, statefulsets, daemonsets and pods of a namespace, workloads first, each kind by name.
///
/// # Errors
/// When the cluster cannot be reached or pods may not be listed; a workload kind that may not is left out and named.
pub async fn list(options: &KubeOptions) -> Result<Listing, TargetError> {
    let cluster = Cluster::open(options).await?;
    let all = ListParams::default().limit(MOST);
    let namespace = cluster.namespace.clone();
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), &namespace);
    let stateful: Api<StatefulSet> = Api::namespaced(cluster.client.clone(), &namespace);
    let daemons: Api<DaemonSet> = Api::namespaced(cluster.client.clone(), &namespace);
    let pods = cluster.pods();
    let (deployments, stateful, daemons, pods) = tokio::join!(
        cluster.ask(cluster.asking("list", "deployments"), deployments.list(&all)),
        cluster.ask(cluster.asking("list", "statefulsets"), stateful.list(&all)),
        cluster.ask(cluster.asking("list", "daemonsets"), daemons.list(&all)),
        cluster.ask(cluster.asking("list", "pods"), pods.list(&all)),
    );
    let pods = pods?;
    let mut missing = Vec::new();
    let mut targets = Vec::new();
    let mut take = |kind: WorkloadKind, listed: Result<Vec<Listed>, TargetError>| match listed {
        Ok(listed) => targets.extend(listed),
        Err(error) => missing.push((kind.resource(), error.to_string())),
    };
    take(
        WorkloadKind::Deployment,
        deployments.map(|list| each(&list, deployment)),
    );
    take(
        WorkloadKind::StatefulSet,
        stateful.map(|list| each(&list, stateful_set)),
    );
    take(WorkloadKind::DaemonSet, daemons.map(|list| each(&list, daemon_set)));
    targets.extend(each(&pods, one_pod));
    Ok(Listing {
        context: cluster.context.clone(),
        namespace,
        targets,
        missing,
    })
}

fn each<K: Clone>(list: &ObjectList<K>, one: impl Fn(&K) -> Listed) -> Vec<Listed> {
    list.iter().map(one).collect()
}

fn deployment(it: &Deployment) -> Listed {
    let ready = it.status.as_ref().and_then(|status| status.ready_replicas);
    let spec = it.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas);
    workload(
        WorkloadKind::Deployment,
        &it.name_any(),
        ready,
        wanted,
        spec.map(|spec| &spec.template),
    )
}

fn stateful_set(it: &StatefulSet) -> Listed {
    let ready = it.status.as_ref().and_then(|status| status.ready_replicas);
    let spec = it.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas);
    workload(
        WorkloadKind::StatefulSet,
        &it.name_any(),
        ready,
        wanted,
        spec.map(|spec| &spec.template),
    )
}

fn daemon_set(it: &DaemonSet) -> Listed {
    let status = it.status.as_ref();
    let ready = status.map(|status| status.number_ready);
    let wanted = status.map(|status| status.desired_number_scheduled);
    let template = it.spec.as_ref().map(|spec| &spec.template);
    workload(
        WorkloadKind::DaemonSet,
        &it.name_any(),
        ready,
        wanted.or(Some(0)),
        template,
    )
}

fn workload(
    kind: WorkloadKind,
    name: &str,
    ready: Option<i32>,
    wanted: Option<i32>,
    template: Option<&PodTemplateSpec>,
) -> Listed {
    let count = |number: Option<i32>, absent| number.map_or(absent, |number| u32::try_from(number).unwrap_or(0));
    let (ready, wanted) = (count(ready, 0), count(wanted, 1));
    let pod = template.map(|template| Pod {
        metadata: template.metadata.clone().unwrap_or_default(),
        spec: template.spec.clone(),
        status: None,
    });
    let state = match (ready, wanted) {
        (_, 0) => "scaled to 0",
        (0, _) => "not ready",
        (ready, wanted) if ready < wanted => "partly ready",
        _ => "ready",
    };
    Listed {
        target: format!("{}/{name}", kind.as_str()),
        ready: (ready, wanted),
        containers: pod.map(|pod| containers(&pod)).unwrap_or_default(),
        state: state.to_owned(),
    }
}

fn one_pod(it: &Pod) -> Listed {
    let ready = pod::is_ready(it);
    let state = match pod::check_supported(it) {
        Err(error) => error.to_string(),
        Ok(()) if ready => "Running".to_owned(),
        Ok(()) => pod::why_not_running(it),
    };
    Listed {
        target: format!("pod/{}", it.name_any()),
        ready: (u32::from(ready), 1),
        containers: containers(it),
        state,
    }
}

/// The default container first, then the others as they stand in the spec.
fn containers(pod: &Pod) -> Vec<ListedContainer> {
    let default = pod::choose(pod, None)
        .map(|container| container.name.clone())
        .unwrap_or_default();
    let mut all: Vec<ListedContainer> = pod::containers(pod)
        .iter()
        .map(|container| ListedContainer {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
        })
        .collect();
    all.sort_by_key(|container| container.name != default);
    all
}
