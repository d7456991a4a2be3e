//! What an API server may answer, from one on loopback that answers so: no cluster is needed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use target::{AgentBinary, AgentSettings, Connector, KubeOptions, Rung, TargetError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Answers by the request's method and path; everything else is not found.
type Answers = BTreeMap<&'static str, (u16, Value)>;

struct Server {
    port: u16,
    /// Request lines and `Authorization` headers, as they came.
    seen: Arc<Mutex<Vec<String>>>,
    directory: tempfile::TempDir,
}

impl Server {
    async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answers, log) = (Arc::new(answers), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answers), Arc::clone(&log)));
            }
        });
        Self {
            port,
            seen,
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// A kubeconfig for `server` and, of the user and the cluster, the fields given.
    fn options(&self, server: &str, cluster: Value, user: &Value) -> KubeOptions {
        let mut cluster = cluster;
        cluster["server"] = json!(server);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
        });
        let path: PathBuf = self.directory.path().join("kubeconfig");
        std::fs::write(&path, config.to_string()).expect("written");
        KubeOptions {
            kubeconfig: Some(path),
            ..KubeOptions::default()
        }
    }

    fn own(&self) -> KubeOptions {
        self.options(
            &format!("http://127.0.0.1:{}", self.port),
            json!({}),
            &json!({"token": "t"}),
        )
    }
}

async fn serve(stream: TcpStream, answers: Arc<Answers>, log: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if stream.read_line(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        let mut length = 0;
        let mut noted = vec![request.trim().to_owned()];
        loop {
            let mut field = String::new();
            if stream.read_line(&mut field).await.unwrap_or(0) == 0 {
                return;
            }
            let field = field.trim().to_ascii_lowercase();
            if let Some(value) = field.strip_prefix("content-length: ") {
                length = value.parse().expect("a number");
            }
            if field.contains("authorization: ") {
                noted.push(field.clone());
            }
            if field.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.expect("the body");
        let key = request.split(['?', ' ']).take(2).collect::<Vec<_>>().join(" ");
        log.lock().expect("not poisoned").extend(noted);
        let missing = (404, status(404, "NotFound", "not found"));
        let (code, answer) = answers.get(key.as_str()).unwrap_or(&missing);
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        if stream.write_all(format!("{head}{answer}").as_bytes()).await.is_err() {
            return;
        }
    }
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"nodeName": "n", "containers": [{"name": "app", "image": "shop:1"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "app", "image": "shop:1", "imageID": "", "ready": true,
            "restartCount": 0, "containerID": "containerd://0123456789abcdef", "state": {"running": {}}}]}})
}

const POD: &str = "GET /api/v1/namespaces/shop/pods/web";
const PATCH: &str = "PATCH /api/v1/namespaces/shop/pods/web/ephemeralcontainers";

async fn resolve(options: &KubeOptions) -> Result<Connector, TargetError> {
    let settings = AgentSettings::new(AgentBinary::Embedded {
        program: b"an agent",
        packed: b"",
    });
    Connector::resolve(&"pod/web".parse().expect("a target"), options, settings).await
}

async fn refusal(options: &KubeOptions) -> TargetError {
    match resolve(options).await {
        Err(error) => error,
        Ok(connector) => connector.connect(|_| ()).await.err().expect("it is refused"),
    }
}

#[tokio::test]
async fn credentials_that_are_not_accepted() {
    let server = Server::start([(POD, (401, status(401, "Unauthorized", "Unauthorized")))].into()).await;
    let error = refusal(&server.own()).await;
    assert!(matches!(error, TargetError::Unauthorized { .. }), "{error}");
    assert!(error.hints()[0].starts_with("log in again"));
}

#[tokio::test]
async fn a_right_that_is_missing() {
    let message = r#"pods "web" is forbidden: User "dev" cannot patch resource "pods/ephemeralcontainers" in API group "" in the namespace "shop""#;
    let answers = [(POD, (200, pod())), (PATCH, (403, status(403, "Forbidden", message)))];
    let server = Server::start(answers.into()).await;
    let error = refusal(&server.own()).await;
    assert_eq!(
        error.to_string(),
        format!("no permission to patch pods/ephemeralcontainers in namespace `shop`: {message}")
    );
    assert!(error.hints()[0].contains("kubectl auth can-i patch pods --subresource=ephemeralcontainers -n shop"));
    let patches = server.seen().iter().filter(|line| line.starts_with("PATCH")).count();
    assert_eq!(patches, 1, "no other rung helps against that");
}

#[tokio::test]
async fn a_webhook_that_refuses_everything() {
    let message = r#"admission webhook "policy.example" denied the request: ephemeral containers are not allowed here"#;
    let answers = [(POD, (200, pod())), (PATCH, (400, status(400, "BadRequest", message)))];
    let server = Server::start(answers.into()).await;
    let error = refusal(&server.own()).await;
    let TargetError::Admission { denials, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        denials.iter().map(|denial| denial.rung).collect::<Vec<_>>(),
        Rung::LADDER
    );
    assert!(denials.iter().all(|denial| denial.message == message), "word for word");
}

#[tokio::test]
async fn a_cluster_without_ephemeral_containers() {
    let missing = status(404, "NotFound", "the server could not find the requested resource");
    let server = Server::start([(POD, (200, pod())), (PATCH, (404, missing))].into()).await;
    let error = refusal(&server.own()).await;
    assert!(matches!(error, TargetError::NoEphemeralContainers { .. }), "{error}");
}

#[tokio::test]
async fn a_node_of_another_architecture() {
    let node = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}, "status": {"nodeInfo": {
        "architecture": "arm64", "operatingSystem": "linux", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
        "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "osImage": "", "systemUUID": ""}}});
    let server = Server::start([(POD, (200, pod())), ("GET /api/v1/nodes/n", (200, node))].into()).await;
    let error = refusal(&server.own()).await;
    assert_eq!(
        error.to_string(),
        "pod `web` cannot be a target: its node is arm64; the agent is built for amd64 only"
    );
    assert!(
        !server.seen().iter().any(|line| line.starts_with("PATCH")),
        "nothing was tried"
    );
}

/// The environment from the spec: what this user may read is read, once, and the rest is named.
#[tokio::test]
async fn what_the_spec_refers_to_is_read_as_far_as_allowed() {
    let mut pod = pod();
    let from = |kind: &str, key: &str| json!({kind: {"name": "shop", "key": key}});
    pod["spec"]["containers"][0]["env"] = json!([
        {"name": "LEVEL", "valueFrom": from("configMapKeyRef", "level")},
        {"name": "COLOR", "valueFrom": from("configMapKeyRef", "color")},
        {"name": "PASSWORD", "valueFrom": from("secretKeyRef", "password")},
    ]);
    let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "shop"}, "data": {"level": "debug", "color": "red"}});
    let message = r#"secrets "shop" is forbidden: User "dev" cannot get resource "secrets" in API group "" in the namespace "shop""#;
    let answers = [
        (POD, (200, pod)),
        ("GET /api/v1/namespaces/shop/configmaps/shop", (200, map)),
        (
            "GET /api/v1/namespaces/shop/secrets/shop",
            (403, status(403, "Forbidden", message)),
        ),
    ];
    let server = Server::start(answers.into()).await;
    let connector = resolve(&server.own()).await.expect("found");
    let env = connector.pod_env().await.expect("a pod");
    let variables: Vec<_> = env
        .variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(variables, [("COLOR", "red"), ("LEVEL", "debug")]);
    assert_eq!(
        env.missing,
        ["PASSWORD (secret/shop key password: no permission to get secrets)"]
    );
    let reads = server
        .seen()
        .iter()
        .filter(|line| line.contains("/configmaps/"))
        .count();
    assert_eq!(reads, 1);
}

/// Nobody has asked for them before.
#[tokio::test]
async fn services_are_listed_once_and_only_when_asked_for() {
    const SERVICES: &str = "GET /api/v1/namespaces/shop/services";
    let mut pod = pod();
    pod["metadata"]["labels"] = json!({"app": "web"});
    let service = json!({"metadata": {"name": "web"}, "spec": {
        "selector": {"app": "web"}, "clusterIP": "10.96.0.7", "ports": [{"port": 80, "targetPort": 8080}]}});
    let list = json!({"kind": "ServiceList", "apiVersion": "v1", "metadata": {}, "items": [service]});
    let message =
        r#"services is forbidden: User "dev" cannot list resource "services" in API group "" in the namespace "shop""#;
    for (answer, expect) in [
        ((200, list), Some("10.96.0.7:80")),
        ((403, status(403, "Forbidden", message)), None),
    ] {
        let server = Server::start([(POD, (200, pod.clone())), (SERVICES, answer)].into()).await;
        let connector = resolve(&server.own()).await.expect("found");
        let asked = || server.seen().iter().filter(|line| line.starts_with(SERVICES)).count();
        assert_eq!(asked(), 0);
        let found = connector.services().await;
        assert_eq!(asked(), 1);
        match expect {
            Some(address) => {
                let services = found.expect("they are listed").expect("a pod's");
                let found = services.leading_to(8080);
                let found: Vec<_> = found
                    .iter()
                    .map(|one| (one.service.as_str(), one.address.to_string()))
                    .collect();
                assert_eq!(found, [("web", address.to_owned())]);
                assert_eq!(services.leading_to(80), []);
            }
            None => {
                let error = found.err().expect("it is refused");
                let TargetError::Forbidden {
                    verb,
                    resource,
                    namespace,
                    ..
                } = &error
                else {
                    panic!("{error}")
                };
                assert_eq!((*verb, *resource, namespace.as_str()), ("list", "services", "shop"));
            }
        }
    }
}

#[tokio::test]
async fn nobody_listens_there() {
    let server = Server::start(Answers::new()).await;
    let unused = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound")
        .local_addr()
        .expect("bound");
    let error = refusal(&server.options(&format!("http://{unused}"), json!({}), &json!({}))).await;
    assert!(
        matches!(&error, TargetError::Unreachable { server, .. } if *server == format!("http://{unused}")),
        "{error}"
    );
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn the_clusters_proxy_is_used() {
    let server = Server::start(Answers::new()).await;
    let proxy = json!({"proxy-url": format!("http://me:secret@127.0.0.1:{}", server.port)});
    // An address of documentation (RFC 5737): it would answer to nobody.
    let error = refusal(&server.options("https://192.0.2.1:6443", proxy, &json!({}))).await;
    assert!(matches!(error, TargetError::Unreachable { .. }), "{error}");
    assert_eq!(
        server.seen(),
        [
            "CONNECT 192.0.2.1:6443 HTTP/1.1",
            "proxy-authorization: basic bwu6c2vjcmv0"
        ],
        "and its refusal was the answer"
    );
}

#[tokio::test]
async fn credentials_come_from_a_plugin() {
    let server = Server::start([(POD, (200, pod()))].into()).await;
    let credential =
        r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"from-plugin"}}"#;
    let plugin = |command: &str, arguments: Value| {
        json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command, "args": arguments,
            "interactiveMode": "Never"}})
    };
    let url = format!("http://127.0.0.1:{}", server.port);
    resolve(&server.options(&url, json!({}), &plugin("echo", json!([credential]))))
        .await
        .expect("found");
    assert!(
        server.seen().contains(&"authorization: bearer from-plugin".to_owned()),
        "{:?}",
        server.seen()
    );

    let error = refusal(&server.options(&url, json!({}), &plugin("/nowhere/aws", json!([])))).await;
    assert!(
        matches!(&error, TargetError::Unauthorized { message } if message.contains("No such file")),
        "{error}"
    );
}
