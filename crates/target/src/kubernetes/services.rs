//! The Services that lead to a pod.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::client::Cluster;
use super::pod;
use crate::error::TargetError;

/// The most Services of a namespace that are looked at.
const MOST: u32 = 1000;

/// One address of a Service, at a port that leads to the one of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAddress {
    pub service: String,
    pub address: SocketAddr,
}

/// The Services of a pod's namespace, as they were when they were listed.
pub struct PodServices {
    services: Vec<Service>,
    pod: Pod,
}

impl PodServices {
    /// In one request.
    ///
    /// # Errors
    /// Above all when they may not be listed: the documented minimum of rights does not include it.
    pub(crate) async fn list(cluster: &Cluster, pod: Pod) -> Result<Self, TargetError> {
        let api: Api<Service> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let most = ListParams::default().limit(MOST);
        let services = cluster
            .ask(cluster.asking("list", "services"), api.list(&most))
            .await?
            .items;
        Ok(Self { services, pod })
    }

    /// Each address of each Service that leads to the pod's TCP port.
    #[must_use]
    pub fn leading_to(&self, port: u16) -> Vec<ServiceAddress> {
        leading_to(&self.services, &self.pod, port)
    }
}

/// Those of `services` that lead to the pod's TCP port, in their order: each cluster IP at each port that does. Without a
/// selector nobody knows where a Service leads from its definition; without an address of its own (`None`, `ExternalName`) it is
/// only a name.
fn leading_to(services: &[Service], pod: &Pod, port: u16) -> Vec<ServiceAddress> {
    let mut found = Vec::new();
    for service in services.iter().filter(|service| selects(service, pod)) {
        let Some(spec) = &service.spec else { continue };
        let ips = spec.cluster_ips.as_deref().unwrap_or_default().iter();
        let ips: Vec<IpAddr> = ips.chain(&spec.cluster_ip).filter_map(|ip| ip.parse().ok()).collect();
        let ports = spec.ports.iter().flatten();
        for own in ports
            .filter(|own| leads(own, pod, port))
            .filter_map(|own| u16::try_from(own.port).ok())
        {
            for ip in &ips {
                let one = ServiceAddress {
                    service: service.name_any(),
                    address: SocketAddr::new(*ip, own),
                };
                // `clusterIP` is the first of `clusterIPs`.
                if !found.contains(&one) {
                    found.push(one);
                }
            }
        }
    }
    found
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let spec = service.spec.as_ref();
    let selector = spec
        .and_then(|spec| spec.selector.as_ref())
        .filter(|selector| !selector.is_empty());
    let external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    let labels = pod.labels();
    !external && selector.is_some_and(|selector| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

fn leads(own: &ServicePort, pod: &Pod, port: u16) -> bool {
    let is_tcp = |protocol: Option<&str>| protocol.is_none_or(|protocol| protocol == "TCP");
    let number = match &own.target_port {
        None => u16::try_from(own.port).ok(),
        // What kubectl shows as unset.
        Some(IntOrString::Int(0)) => u16::try_from(own.port).ok(),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        // The first of this name and protocol counts (kubernetes/pkg/api/v1/pod, FindPort), native sidecars' after the others'.
        Some(IntOrString::String(name)) => containers(pod)
            .flat_map(|container| container.ports.iter().flatten())
            .find(|named| named.name.as_deref() == Some(name) && is_tcp(named.protocol.as_deref()))
            .and_then(|named| u16::try_from(named.container_port).ok()),
    };
    is_tcp(own.protocol.as_deref()) && number == Some(port)
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.as_ref();
    let initial = spec
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default();
    let sidecars = initial
        .iter()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    pod::containers(pod).iter().chain(sidecars)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod() -> Pod {
        let pod = json!({
            "metadata": {"labels": {"app": "web", "tier": "front"}},
            "spec": {
                "initContainers": [
                    {"name": "once", "ports": [{"name": "once", "containerPort": 8080}]},
                    {"name": "proxy", "restartPolicy": "Always", "ports": [{"name": "proxied", "containerPort": 8080}]},
                ],
                "containers": [
                    {"name": "app", "ports": [
                        {"name": "udp", "containerPort": 8080, "protocol": "UDP"},
                        {"name": "http", "containerPort": 8080},
                        {"name": "admin", "containerPort": 9090},
                    ]},
                    {"name": "other", "ports": [{"name": "http", "containerPort": 1}]},
                ],
            },
        });
        serde_json::from_value(pod).expect("a pod")
    }

    /// Those that lead to port 8080 of the pod.
    fn found(spec: &Value) -> Vec<String> {
        let service = json!({"metadata": {"name": "s"}, "spec": spec});
        let services = [serde_json::from_value(service).expect("a service")];
        let found = leading_to(&services, &pod(), 8080);
        found
            .iter()
            .map(|one| format!("{} {}", one.service, one.address))
            .collect()
    }

    #[test]
    fn ports_that_lead_to_the_pods() {
        for (ports, expect) in [
            (json!([{"port": 80, "targetPort": 8080}]), &["s 10.96.0.7:80"][..]),
            (json!([{"port": 80, "targetPort": "http"}]), &["s 10.96.0.7:80"]),
            (json!([{"port": 80, "targetPort": "proxied"}]), &["s 10.96.0.7:80"]),
            (json!([{"port": 8080}]), &["s 10.96.0.7:8080"]),
            (json!([{"port": 8080, "targetPort": 0}]), &["s 10.96.0.7:8080"]),
            (
                json!([{"port": 80, "targetPort": "http", "protocol": "TCP"}, {"port": 81, "targetPort": 8080}, {"port": 90}]),
                &["s 10.96.0.7:80", "s 10.96.0.7:81"],
            ),
            (json!([{"port": 80}]), &[]),
            (json!([{"port": 8080, "targetPort": "admin"}]), &[]),
            (json!([{"port": 8080, "targetPort": "unknown"}]), &[]),
            (json!([{"port": 8080, "targetPort": "once"}]), &[]),
            (json!([{"port": 8080, "targetPort": "udp"}]), &[]),
            (json!([{"port": 8080, "protocol": "UDP"}]), &[]),
            (json!([{"port": 8080, "protocol": "SCTP"}]), &[]),
        ] {
            let spec = json!({"clusterIP": "10.96.0.7", "selector": {"app": "web"}, "ports": ports});
            assert_eq!(found(&spec), expect, "{ports}");
        }
    }

    #[test]
    fn services_that_select_the_pod_and_have_an_address() {
        for (fields, expect) in [
            (
                json!({"selector": {"app": "web", "tier": "front"}, "clusterIP": "10.96.0.7"}),
                &["s 10.96.0.7:8080"][..],
            ),
            (
                json!({"selector": {"app": "web"}, "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"]}),
                &["s 10.96.0.7:8080", "s [fd00::7]:8080"],
            ),
            (
                json!({"selector": {"app": "web"}, "clusterIP": "10.96.0.7", "type": "LoadBalancer"}),
                &["s 10.96.0.7:8080"],
            ),
            (
                json!({"selector": {"app": "web", "tier": "back"}, "clusterIP": "10.96.0.7"}),
                &[],
            ),
            (json!({"selector": {"role": "x"}, "clusterIP": "10.96.0.7"}), &[]),
            (json!({"selector": {}, "clusterIP": "10.96.0.7"}), &[]),
            (json!({"clusterIP": "10.96.0.7"}), &[]),
            (
                json!({"selector": {"app": "web"}, "clusterIP": "None", "clusterIPs": ["None"]}),
                &[],
            ),
            (json!({"selector": {"app": "web"}, "clusterIP": ""}), &[]),
            (
                json!({"selector": {"app": "web"}, "type": "ExternalName", "externalName": "x.example", "clusterIP": "10.96.0.7"}),
                &[],
            ),
        ] {
            let mut spec = fields.clone();
            spec["ports"] = json!([{"port": 8080}]);
            assert_eq!(found(&spec), expect, "{fields}");
        }
    }
}
