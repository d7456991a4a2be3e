//! What the pod's spec says of the target container's environment and volumes: second best to the process itself, for
//! agents that may not look into it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, Pod};

use super::pod;

/// The environment as the spec gives it. What the image itself sets is not in it, nor what the kubelet adds for services.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnvFromSpec {
    pub variables: BTreeMap<String, String>,
    /// What is left out, each with its reason, for a message.
    pub missing: Vec<String>,
}

/// An object of the cluster that values are taken from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Object {
    ConfigMap(String),
    Secret(String),
}

impl fmt::Display for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigMap(name) => write!(formatter, "configmap/{name}"),
            Self::Secret(name) => write!(formatter, "secret/{name}"),
        }
    }
}

/// What such objects hold: their text by key, `None` where there is no such object, or why it cannot be read.
pub(crate) type Contents = BTreeMap<Object, Result<Option<BTreeMap<String, String>>, String>>;

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

/// The objects that must be read for the environment.
pub(crate) fn objects(pod: &Pod, container: &str) -> BTreeSet<Object> {
    let Some(container) = pod::container(pod, container) else {
        return BTreeSet::new();
    };
    let whole = container.env_from.iter().flatten().filter_map(whole);
    let single = container.env.iter().flatten().filter_map(key);
    whole
        .map(|(object, _)| object)
        .chain(single.map(|key| key.object))
        .collect()
}

/// One value of an object.
struct Key<'a> {
    object: Object,
    key: &'a str,
    optional: bool,
}

fn whole(source: &EnvFromSource) -> Option<(Object, bool)> {
    if let Some(map) = &source.config_map_ref {
        return Some((Object::ConfigMap(map.name.clone()), map.optional.unwrap_or(false)));
    }
    let secret = source.secret_ref.as_ref()?;
    Some((Object::Secret(secret.name.clone()), secret.optional.unwrap_or(false)))
}

fn key(variable: &EnvVar) -> Option<Key<'_>> {
    let from = variable.value_from.as_ref()?;
    if let Some(map) = &from.config_map_key_ref {
        return Some(Key {
            object: Object::ConfigMap(map.name.clone()),
            key: &map.key,
            optional: map.optional.unwrap_or(false),
        });
    }
    let secret = from.secret_key_ref.as_ref()?;
    Some(Key {
        object: Object::Secret(secret.name.clone()),
        key: &secret.key,
        optional: secret.optional.unwrap_or(false),
    })
}

/// As the kubelet puts it together: whole objects first, then the single variables, each over those before.
pub(crate) fn env(pod: &Pod, container: &str, contents: &Contents) -> EnvFromSpec {
    let mut env = EnvFromSpec::default();
    let Some(container) = pod::container(pod, container) else {
        return env;
    };
    for source in container.env_from.iter().flatten() {
        let Some((object, optional)) = whole(source) else {
            continue;
        };
        match read(contents, &object) {
            Ok(Some(values)) => {
                let prefix = source.prefix.as_deref().unwrap_or_default();
                let named = values
                    .iter()
                    .map(|(key, value)| (format!("{prefix}{key}"), value.clone()));
                env.variables.extend(named);
            }
            Ok(None) if optional => {}
            Ok(None) => env.missing.push(format!("all of {object} (there is none)")),
            Err(why) => env.missing.push(format!("all of {object} ({why})")),
        }
    }
    // A value that refers to one that is not known would be wrong.
    let mut unknown = BTreeSet::new();
    for variable in container.env.iter().flatten() {
        match value(pod, container, variable, &env.variables, &unknown, contents) {
            Ok(Some(value)) => {
                env.variables.insert(variable.name.clone(), value);
            }
            Ok(None) => {}
            Err(why) => {
                env.variables.remove(&variable.name);
                unknown.insert(variable.name.as_str());
                env.missing.push(format!("{} ({why})", variable.name));
            }
        }
    }
    env
}

fn read<'a>(contents: &'a Contents, object: &Object) -> Result<Option<&'a BTreeMap<String, String>>, &'a str> {
    match contents.get(object) {
        Some(Ok(values)) => Ok(values.as_ref()),
        Some(Err(why)) => Err(why),
        None => Err("not read"),
    }
}

/// `None`: an optional one that is not there.
fn value(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    known: &BTreeMap<String, String>,
    unknown: &BTreeSet<&str>,
    contents: &Contents,
) -> Result<Option<String>, String> {
    let Some(from) = &variable.value_from else {
        let text = variable.value.as_deref().unwrap_or_default();
        return match unknown.iter().find(|name| text.contains(&format!("$({name})"))) {
            Some(name) => Err(format!("it refers to {name}")),
            None => Ok(Some(expand(text, known))),
        };
    };
    if let Some(Key { object, key, optional }) = key(variable) {
        let values = read(contents, &object).map_err(|why| format!("{object} key {key}: {why}"))?;
        return match values.and_then(|values| values.get(key)) {
            None if !optional => Err(format!("{object} key {key}: there is none")),
            found => Ok(found.cloned()),
        };
    }
    if let Some(field) = &from.field_ref {
        let value = self::field(pod, &field.field_path);
        return value.map(Some).ok_or_else(|| format!("field {}", field.field_path));
    }
    Err(match &from.resource_field_ref {
        Some(resource) => format!(
            "resource {} of {}",
            resource.resource,
            resource.container_name.as_ref().unwrap_or(&container.name)
        ),
        None => "an unknown source".to_owned(),
    })
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
fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
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
        let known = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
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

    fn pod() -> Pod {
        let secret = |key: &str| json!({"secretKeyRef": {"name": "db", "key": key}});
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}},
            "status": {"podIP": "10.1.1.2"},
            "spec": {"containers": [{"name": "app",
                "env": [
                    {"name": "HOST", "value": "db"},
                    {"name": "URL", "value": "http://$(HOST)/$(C_PATH)"},
                    {"name": "PASSWORD", "valueFrom": secret("password")},
                    {"name": "LOGIN", "value": "me:$(PASSWORD)"},
                    {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "LEVEL"}}},
                    {"name": "NOT_THERE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "no", "optional": true}}},
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                ],
                "envFrom": [
                    {"prefix": "C_", "configMapRef": {"name": "settings"}},
                    {"secretRef": {"name": "db"}},
                    {"secretRef": {"name": "extra", "optional": true}},
                ],
                "volumeMounts": [{"name": "config", "mountPath": "/etc/app", "readOnly": true}],
            }]},
        }))
        .expect("a pod")
    }

    fn text(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_the_spec_says() {
        let (settings, db, extra) = (
            Object::ConfigMap("settings".to_owned()),
            Object::Secret("db".to_owned()),
            Object::Secret("extra".to_owned()),
        );
        let pod = pod();
        assert_eq!(
            objects(&pod, "app"),
            BTreeSet::from([settings.clone(), db.clone(), extra.clone()])
        );
        assert_eq!(volume_mounts(&pod, "app")[0].path, "/etc/app");
        let values = text(&[("LEVEL", "debug"), ("PATH", "shop")]);
        let all = Contents::from([
            (settings.clone(), Ok(Some(values))),
            (db.clone(), Ok(Some(text(&[("password", "hunter2")])))),
            (extra.clone(), Ok(None)),
        ]);
        let env = env(&pod, "app", &all);
        let expected = text(&[
            ("APP", "web"),
            ("C_LEVEL", "debug"),
            ("C_PATH", "shop"),
            ("HOST", "db"),
            ("LEVEL", "debug"),
            ("LOGIN", "me:hunter2"),
            ("PASSWORD", "hunter2"),
            ("POD", "web-1"),
            ("URL", "http://db/shop"),
            ("password", "hunter2"),
        ]);
        assert_eq!(env.variables, expected);
        assert_eq!(env.missing, ["CPU (resource limits.cpu of app)"]);
    }

    #[test]
    fn what_may_not_be_read_is_named_and_so_is_what_refers_to_it() {
        let refused = || Err("no permission".to_owned());
        let contents = Contents::from([
            (Object::ConfigMap("settings".to_owned()), Ok(None)),
            (Object::Secret("db".to_owned()), refused()),
            (Object::Secret("extra".to_owned()), refused()),
        ]);
        let env = env(&pod(), "app", &contents);
        let expected = text(&[
            ("APP", "web"),
            ("HOST", "db"),
            ("POD", "web-1"),
            ("URL", "http://db/$(C_PATH)"),
        ]);
        assert_eq!(env.variables, expected);
        assert_eq!(
            env.missing,
            [
                "all of configmap/settings (there is none)",
                "all of secret/db (no permission)",
                "all of secret/extra (no permission)",
                "PASSWORD (secret/db key password: no permission)",
                "LOGIN (it refers to PASSWORD)",
                "LEVEL (configmap/settings key LEVEL: there is none)",
                "CPU (resource limits.cpu of app)",
            ]
        );
    }
}
