//! What the pod's spec says of the target container's environment and volumes: second best to the process itself, for
//! agents that may not look into it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

use super::pod;

/// The environment as the spec gives it. What the image itself sets is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnvFallback {
    pub variables: Vec<(String, EnvValue)>,
    /// Whole objects whose keys become variables: `configmap/NAME` or `secret/NAME`, with the prefix of the names.
    pub sources: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvValue {
    Known(String),
    /// Somewhere else: what it is taken from, for a message.
    Elsewhere(String),
}

/// A mount of the target container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    pub volume: String,
    pub path: String,
    pub read_only: bool,
}

pub(crate) fn volume_mounts(pod: &Pod, container: &str) -> Vec<VolumeMount> {
    let mounts = pod::container(pod, container).and_then(|container| container.volume_mounts.as_deref());
    let one = |mount: &k8s_openapi::api::core::v1::VolumeMount| VolumeMount {
        volume: mount.name.clone(),
        path: mount.mount_path.clone(),
        read_only: mount.read_only.unwrap_or(false),
    };
    mounts.unwrap_or_default().iter().map(one).collect()
}

pub(crate) fn env(pod: &Pod, container: &str) -> EnvFallback {
    let Some(container) = pod::container(pod, container) else {
        return EnvFallback::default();
    };
    let mut known: BTreeMap<&str, String> = BTreeMap::new();
    let mut variables = Vec::new();
    for variable in container.env.iter().flatten() {
        let value = value(pod, container, variable, &known);
        if let EnvValue::Known(value) = &value {
            known.insert(&variable.name, value.clone());
        }
        variables.push((variable.name.clone(), value));
    }
    let mut sources = Vec::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.clone().unwrap_or_default();
        if let Some(map) = &source.config_map_ref {
            sources.push((format!("configmap/{}", map.name), prefix));
        } else if let Some(secret) = &source.secret_ref {
            sources.push((format!("secret/{}", secret.name), prefix));
        }
    }
    EnvFallback { variables, sources }
}

fn value(pod: &Pod, container: &Container, variable: &EnvVar, known: &BTreeMap<&str, String>) -> EnvValue {
    let Some(from) = &variable.value_from else {
        return EnvValue::Known(expand(variable.value.as_deref().unwrap_or_default(), known));
    };
    let elsewhere = if let Some(key) = &from.secret_key_ref {
        format!("secret/{} key {}", key.name, key.key)
    } else if let Some(key) = &from.config_map_key_ref {
        format!("configmap/{} key {}", key.name, key.key)
    } else if let Some(field) = &from.field_ref {
        match self::field(pod, &field.field_path) {
            Some(value) => return EnvValue::Known(value),
            None => format!("field {}", field.field_path),
        }
    } else if let Some(resource) = &from.resource_field_ref {
        format!(
            "resource {} of {}",
            resource.resource,
            resource.container_name.as_ref().unwrap_or(&container.name)
        )
    } else {
        "an unknown source".to_owned()
    };
    EnvValue::Elsewhere(elsewhere)
}

/// The downward API's fields that the pod object shows.
fn field(pod: &Pod, path: &str) -> Option<String> {
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let keyed = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']");
    match path {
        "metadata.name" => pod.metadata.name.clone(),
        "metadata.namespace" => pod.metadata.namespace.clone(),
        "metadata.uid" => pod.metadata.uid.clone(),
        "spec.nodeName" => spec?.node_name.clone(),
        "spec.serviceAccountName" => spec?.service_account_name.clone(),
        "status.podIP" => status?.pod_ip.clone(),
        "status.podIPs" => Some(
            status?
                .pod_ips
                .iter()
                .flatten()
                .map(|ip| ip.ip.as_str())
                .collect::<Vec<_>>()
                .join(","),
        ),
        "status.hostIP" => status?.host_ip.clone(),
        _ => match (keyed("metadata.labels['"), keyed("metadata.annotations['")) {
            (Some(key), _) => pod.metadata.labels.as_ref()?.get(key).cloned(),
            (_, Some(key)) => pod.metadata.annotations.as_ref()?.get(key).cloned(),
            _ => None,
        },
    }
}

/// `$(NAME)` of a variable that was defined before; `$$` is a dollar; what is not known stays as it is
/// (k8s.io/kubernetes/third_party/forked/golang/expansion).
fn expand(text: &str, known: &BTreeMap<&str, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(literal) = after.strip_prefix('$') {
            out.push('$');
            rest = literal;
            continue;
        }
        match after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            Some((name, tail)) => {
                match known.get(name) {
                    Some(value) => out.push_str(value),
                    None => {
                        out.push_str("$(");
                        out.push_str(name);
                        out.push(')');
                    }
                }
                rest = tail;
            }
            None => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expansion() {
        let known = BTreeMap::from([("A", "1".to_owned())]);
        let cases = [
            ("x$(A)y", "x1y"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$", "$"),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }

    #[test]
    fn what_the_spec_says() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}},
            "status": {"podIP": "10.1.1.2"},
            "spec": {"containers": [{"name": "app",
                "env": [
                    {"name": "HOST", "value": "db"},
                    {"name": "URL", "value": "http://$(HOST)/"},
                    {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                ],
                "envFrom": [{"prefix": "C_", "configMapRef": {"name": "settings"}}],
                "volumeMounts": [{"name": "config", "mountPath": "/etc/app", "readOnly": true}],
            }]},
        }))
        .expect("a pod");
        insta::assert_debug_snapshot!((env(&pod, "app"), volume_mounts(&pod, "app")));
    }
}
