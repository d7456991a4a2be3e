//! The pod's own probes, so that a session leaves them to the real app.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pod;

/// One probe of one container, its port resolved to a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodProbe {
    pub container: String,
    pub port: u16,
    pub kind: ProbeKind,
    pub period: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    Http {
        /// With its query, as the kubelet sends it.
        path: String,
        /// TLS: the request is seen only where that is terminated.
        https: bool,
        headers: Vec<(String, String)>,
    },
    Tcp {
        /// The addresses of the pod's node, one of which the kubelet may ask from.
        nodes: Vec<IpAddr>,
    },
    Grpc {
        service: String,
    },
}

/// All HTTP, TCP and gRPC probes of a pod: readiness, liveness and startup, of containers and native sidecars. Exec probes
/// are not seen on the network.
pub(crate) fn of(pod: &Pod) -> Vec<PodProbe> {
    let initial = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default();
    let nodes = nodes(pod);
    let mut found: Vec<PodProbe> = Vec::new();
    let mut add = |container: &Container, probe: &Probe| {
        if let Some(probe) = one(container, probe, &nodes)
            && !found.contains(&probe)
        {
            found.push(probe);
        }
    };
    for container in pod::containers(pod).iter().chain(initial) {
        let own = [
            &container.readiness_probe,
            &container.liveness_probe,
            &container.startup_probe,
        ];
        for probe in own.into_iter().flatten() {
            add(container, probe);
        }
        for (name, probe) in rewritten(container) {
            let of = pod::container(pod, &name).unwrap_or(container);
            add(of, &probe);
        }
    }
    found
}

/// Probes that Istio's injector has taken over: the kubelet asks the sidecar, and the sidecar the app. It keeps the original
/// ones in a variable, as `{"/app-health/CONTAINER/readyz": PROBE, ...}` (istio.io, "Health Checking of Istio Services").
fn rewritten(sidecar: &Container) -> Vec<(String, Probe)> {
    let variables = sidecar.env.iter().flatten();
    let kept = variables.filter(|variable| variable.name == "ISTIO_KUBE_APP_PROBERS");
    let kept = kept.filter_map(|variable| serde_json::from_str(variable.value.as_deref()?).ok());
    let probes = kept.flat_map(|probes: BTreeMap<String, Probe>| probes);
    probes
        .map(|(path, probe)| (path.split('/').nth(2).unwrap_or_default().to_owned(), probe))
        .collect()
}

fn nodes(pod: &Pod) -> Vec<IpAddr> {
    let status = pod.status.as_ref();
    let all = status.and_then(|status| status.host_ips.as_ref()).into_iter().flatten();
    let first = status.and_then(|status| status.host_ip.as_ref());
    let mut nodes: Vec<IpAddr> = all
        .map(|host| &host.ip)
        .chain(first)
        .filter_map(|ip| ip.parse().ok())
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

fn one(container: &Container, probe: &Probe, nodes: &[IpAddr]) -> Option<PodProbe> {
    let (port, kind) = if let Some(http) = &probe.http_get {
        let path = http
            .path
            .clone()
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| "/".to_owned());
        let path = if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        };
        let headers = http.http_headers.iter().flatten();
        let headers = headers
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect();
        let https = http.scheme.as_deref() == Some("HTTPS");
        (number(container, &http.port)?, ProbeKind::Http { path, https, headers })
    } else if let Some(tcp) = &probe.tcp_socket {
        let nodes = nodes.to_vec();
        (number(container, &tcp.port)?, ProbeKind::Tcp { nodes })
    } else if let Some(grpc) = &probe.grpc {
        (
            u16::try_from(grpc.port).ok()?,
            ProbeKind::Grpc {
                service: grpc.service.clone().unwrap_or_default(),
            },
        )
    } else {
        return None;
    };
    let period = probe
        .period_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .unwrap_or(10);
    Some(PodProbe {
        container: container.name.clone(),
        port,
        kind,
        period: Duration::from_secs(period),
    })
}

/// A port by number or by the container's own name for it.
fn number(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(port) => u16::try_from(*port).ok(),
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_deref() == Some(name));
            named.map_or_else(|| name.parse().ok(), |port| u16::try_from(port.container_port).ok())
        }
    }
    .filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_probes_of_all_containers() {
        let pod: Pod = serde_json::from_value(json!({"status": {"hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
        "spec": {
        "initContainers": [{"name": "proxy", "readinessProbe": {"tcpSocket": {"port": 15021}}}],
        "containers": [
            {"name": "app", "ports": [{"name": "web", "containerPort": 8080}],
             "readinessProbe": {"periodSeconds": 2, "httpGet": {"path": "ready?full=1", "port": "web",
                "httpHeaders": [{"name": "X-Probe", "value": "yes"}]}},
             "livenessProbe": {"exec": {"command": ["true"]}},
             "startupProbe": {"httpGet": {"port": 8443, "scheme": "HTTPS"}}},
            {"name": "istio-proxy", "env": [{"name": "ISTIO_KUBE_APP_PROBERS", "value":
                "{\"/app-health/app/livez\":{\"httpGet\":{\"path\":\"/alive\",\"port\":\"web\"}},\"/app-health/app/readyz\":{\"grpc\":{\"port\":9001}}}"}]},
            {"name": "side", "livenessProbe": {"grpc": {"port": 9000}},
             "readinessProbe": {"tcpSocket": {"port": "nowhere"}}},
        ]}}))
        .expect("a pod");
        insta::assert_debug_snapshot!(of(&pod));
    }
}
