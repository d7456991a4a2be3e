//! The objects that a pod's spec refers to, read with the user's own rights.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::Api;

use super::client::Cluster;
use super::spec_view::{Contents, Object};
use crate::error::TargetError;

impl Cluster {
    /// All of them at once. The documented minimum of rights does not include them, so a refusal is no error.
    pub(super) async fn contents(&self, objects: BTreeSet<Object>) -> Contents {
        let reads = objects.into_iter().map(|object| async {
            let content = match &object {
                Object::ConfigMap(name) => self.config_map(name).await,
                Object::Secret(name) => self.secret(name).await,
            };
            let content = content.map_err(|error| match error {
                TargetError::Forbidden { resource, .. } => format!("no permission to get {resource}"),
                other => other.to_string(),
            });
            (object, content)
        });
        join_all(reads).await.into_iter().collect()
    }

    async fn config_map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, TargetError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let map = self.ask(self.asking("get", "configmaps"), maps.get_opt(name)).await?;
        Ok(map.map(|map| map.data.unwrap_or_default()))
    }

    /// Bytes that are no text cannot be a variable and are left out, as the kubelet has no use for them either.
    async fn secret(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, TargetError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret = self.ask(self.asking("get", "secrets"), secrets.get_opt(name)).await?;
        let text = |(key, value): (String, k8s_openapi::ByteString)| Some((key, String::from_utf8(value.0).ok()?));
        Ok(secret.map(|secret| secret.data.unwrap_or_default().into_iter().filter_map(text).collect()))
    }
}
