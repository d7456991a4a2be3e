//! The way to the API server: kubeconfig, proxy, TLS, and errors in the server's own words.

use std::path::Path;
use std::time::Duration;

use http::HeaderValue;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::ServiceBuilder;

use crate::error::TargetError;
use crate::options::KubeOptions;

/// The longest that one request may take, streams not included.
const REQUEST: Duration = Duration::from_secs(20);
/// The longest that TCP may take to connect.
const CONNECT: Duration = Duration::from_secs(8);

/// A cluster and the place in it.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) context: Option<String>,
    pub(crate) server: String,
}

/// What a request is about, for its error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) verb: &'static str,
    /// As RBAC names it, `pods/exec`.
    pub(crate) resource: &'static str,
    pub(crate) namespace: &'a str,
}

impl Cluster {
    /// # Errors
    /// When there is no kubeconfig, no such context, or its credentials cannot be had. Nothing is connected yet.
    pub(crate) async fn open(options: &KubeOptions) -> Result<Self, TargetError> {
        let (config, context) = configuration(options).await?;
        let namespace = options
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let namespace = crate::spec::object_name(&namespace)?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        // Credentials may come from an exec plugin, which kube runs in place.
        let made = tokio::task::spawn_blocking(move || client(&config)).await;
        let client = made.map_err(|error| kubeconfig(&error))??;
        Ok(Self {
            client,
            namespace,
            context,
            server,
        })
    }

    /// Waits for one request, at most [`REQUEST`], and turns its failure into what a person can use.
    pub(crate) async fn ask<T>(
        &self,
        ask: Ask<'_>,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, TargetError> {
        match tokio::time::timeout(REQUEST, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.explain(ask, error)),
            Err(_) => Err(self.unreachable(format!("no answer within {} s", REQUEST.as_secs()))),
        }
    }

    pub(crate) fn unreachable(&self, reason: String) -> TargetError {
        TargetError::Unreachable {
            server: self.server.clone(),
            reason,
        }
    }

    pub(crate) fn explain(&self, ask: Ask<'_>, error: kube::Error) -> TargetError {
        match error {
            kube::Error::Api(status) if status.code == 401 => TargetError::Unauthorized { message: said(&status) },
            kube::Error::Api(status) if status.code == 403 && rbac(&status.message) => TargetError::Forbidden {
                verb: ask.verb,
                resource: ask.resource,
                namespace: ask.namespace.to_owned(),
                message: said(&status),
            },
            kube::Error::Api(status) => TargetError::Api {
                what: format!("{} {}", ask.verb, ask.resource),
                message: said(&status),
            },
            kube::Error::Auth(error) => TargetError::Unauthorized { message: chain(&error) },
            kube::Error::Service(error) => match error.downcast::<kube::Error>() {
                Ok(error) => self.explain(ask, *error),
                Err(error) => match error.downcast_ref::<kube::client::AuthError>() {
                    Some(auth) => TargetError::Unauthorized { message: chain(auth) },
                    None => self.unreachable(chain(error.as_ref())),
                },
            },
            kube::Error::HyperError(error) => self.unreachable(chain(&error)),
            kube::Error::UpgradeConnection(error) => TargetError::Api {
                what: format!("{} {} over WebSocket", ask.verb, ask.resource),
                message: chain(&error),
            },
            other => TargetError::Api {
                what: format!("{} {}", ask.verb, ask.resource),
                message: chain(&other),
            },
        }
    }
}

/// RBAC's refusals look like this (apiserver/pkg/endpoints/handlers/responsewriters); admission's do not.
pub(crate) fn rbac(message: &str) -> bool {
    message.contains(" cannot ") && message.contains(" resource ")
}

pub(crate) fn said(status: &kube::core::Status) -> String {
    if status.message.is_empty() {
        format!("{} ({})", status.reason, status.code)
    } else {
        status.message.clone()
    }
}

/// An error and its causes, without those that repeat what was said.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

fn kubeconfig(error: &(dyn std::error::Error + 'static)) -> TargetError {
    TargetError::Kubeconfig { reason: chain(error) }
}

async fn configuration(options: &KubeOptions) -> Result<(Config, Option<String>), TargetError> {
    let read = match &options.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let file = match read {
        Ok(file) => file,
        Err(error) => {
            // Without a kubeconfig this may be a pod with a service account.
            if options.kubeconfig.is_none()
                && options.context.is_none()
                && Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token").exists()
                && let Ok(config) = Config::incluster()
            {
                return Ok((config, None));
            }
            return Err(kubeconfig(&error));
        }
    };
    let context = options.context.clone().or_else(|| file.current_context.clone());
    let known: Vec<String> = file.contexts.iter().map(|context| context.name.clone()).collect();
    if let Some(name) = &context
        && !known.contains(name)
    {
        let near = crate::near::nearest(name, known.iter().map(String::as_str));
        return Err(TargetError::NoContext {
            name: name.clone(),
            known,
            near,
        });
    }
    let own_proxy = context.as_deref().and_then(|context| cluster_proxy(&file, context));
    let chosen = KubeConfigOptions {
        context: context.clone(),
        cluster: None,
        user: None,
    };
    let mut config = match Config::from_custom_kubeconfig(file, &chosen).await {
        Ok(config) => config,
        Err(KubeconfigError::CurrentContextNotSet) => {
            let reason = format!(
                "it has no current context; choose one with --context: {}",
                known.join(", ")
            );
            return Err(TargetError::Kubeconfig { reason });
        }
        Err(error) => return Err(kubeconfig(&error)),
    };
    config.proxy_url = own_proxy
        .map(|url| url.parse().map_err(|error| kubeconfig(&error)))
        .transpose()?;
    Ok((config, context))
}

/// The `proxy-url` of the context's cluster.
fn cluster_proxy(file: &Kubeconfig, context: &str) -> Option<String> {
    let context = file
        .contexts
        .iter()
        .find(|named| named.name == context)?
        .context
        .as_ref()?;
    let cluster = file
        .clusters
        .iter()
        .find(|named| named.name == context.cluster)?
        .cluster
        .as_ref()?;
    cluster.proxy_url.clone().filter(|url| !url.is_empty())
}

/// TLS, the server's address and the credentials around a connector. A macro, because the connectors' bounds are those of
/// four crates.
macro_rules! stack {
    ($config:expr, $connector:expr) => {{
        let config: &Config = $config;
        (|| {
            let tls = config.rustls_https_connector_with_connector($connector)?;
            let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(tls);
            let service = ServiceBuilder::new()
                .layer(config.base_uri_layer())
                .option_layer(config.auth_layer()?)
                .layer(config.extra_headers_layer()?)
                .map_err(tower::BoxError::from)
                .service(http);
            Ok::<_, kube::Error>(Client::new(service, config.default_namespace.clone()))
        })()
    }};
}

/// kube's own stack leaves Nagle's algorithm on, which delays the link's small frames, and retries in the background.
fn client(config: &Config) -> Result<Client, TargetError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(Duration::from_secs(30)));

    let (proxy, auth) = match config.proxy_url.clone() {
        Some(url) => {
            let through = Matcher::builder()
                .all(url.to_string())
                .build()
                .intercept(&config.cluster_url);
            (Some(url), through.and_then(|through| through.basic_auth().cloned()))
        }
        None if loopback(config.cluster_url.host()) => (None, None),
        None => match Matcher::from_env().intercept(&config.cluster_url) {
            Some(through) => (Some(through.uri().clone()), through.basic_auth().cloned()),
            None => (None, None),
        },
    };
    let made = match proxy.as_ref().map(|proxy| (proxy.scheme_str(), proxy.clone())) {
        None => stack!(config, tcp),
        Some((Some("http"), proxy)) => stack!(config, authorized(Tunnel::new(proxy, tcp), auth)),
        Some((Some("https"), proxy)) => {
            let tls = config
                .rustls_https_connector_with_connector(tcp)
                .map_err(|error| kubeconfig(&error))?;
            stack!(config, authorized(Tunnel::new(proxy, tls), auth))
        }
        Some((Some("socks5" | "socks5h"), proxy)) => stack!(config, SocksV5::new(proxy, tcp)),
        Some((_, proxy)) => {
            return Err(TargetError::Kubeconfig {
                reason: format!("a proxy of this kind is not supported: {proxy}"),
            });
        }
    };
    made.map_err(|error| match error {
        kube::Error::Auth(error) => TargetError::Unauthorized { message: chain(&error) },
        other => kubeconfig(&other),
    })
}

fn authorized<C>(tunnel: Tunnel<C>, auth: Option<HeaderValue>) -> Tunnel<C> {
    match auth {
        Some(auth) => tunnel.with_auth(auth),
        None => tunnel,
    }
}

/// As Go's clients do, whatever the environment says.
fn loopback(host: Option<&str>) -> bool {
    let host = host.unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_refusal_it_is() {
        let rules = r#"pods "web" is forbidden: User "dev" cannot patch resource "pods/ephemeralcontainers" in API group "" in the namespace "shop""#;
        let admission = r#"pods "web" is forbidden: violates PodSecurity "baseline:latest": non-default capabilities (container "inpod" must not include "NET_ADMIN" in securityContext.capabilities.add)"#;
        assert!(rbac(rules));
        assert!(!rbac(admission));
    }

    #[test]
    fn loopback_needs_no_proxy() {
        for (host, expected) in [
            ("127.0.0.1", true),
            ("[::1]", true),
            ("localhost", true),
            ("10.0.0.1", false),
            ("api.example", false),
        ] {
            assert_eq!(loopback(Some(host)), expected, "{host}");
        }
    }
}
