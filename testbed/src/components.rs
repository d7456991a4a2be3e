//! The programs of the node and their command lines: what runs where, in one place. Their configuration files are in
//! testbed/config, with `@NAME@` where a value of here is put in.

use std::fs;
use std::path::Path;

use crate::cgroups;
use crate::credentials::{self, write};
use crate::error::{At, Result};
use crate::network::{API_PORT, DNS_SERVICE, MACHINE, NODE, PODS, SERVICES};
use crate::node::{self, Program};
use crate::paths::Paths;

const CONFIG: &[(&str, &str)] = &[
    ("node-setup.sh", include_str!("../config/node-setup.sh")),
    ("node.nft", include_str!("../config/node.nft")),
    ("containerd.toml", include_str!("../config/containerd.toml")),
    ("cni/10-pods.conflist", include_str!("../config/cni.conflist")),
    ("kubelet.yaml", include_str!("../config/kubelet.yaml")),
    ("proxy.yaml", include_str!("../config/proxy.yaml")),
    ("resolv.conf", include_str!("../config/resolv.conf")),
];

/// Each file's path below the config directory, and its content.
pub(crate) fn config(paths: &Paths) -> Vec<(&'static str, String)> {
    let (config, pki) = (paths.config(), paths.pki());
    let api_port = API_PORT.to_string();
    let cgroup_root = format!("/{}", cgroups::ROOT);
    let values = [
        ("@CONFIG@", config.to_string_lossy()),
        ("@PKI@", pki.to_string_lossy()),
        ("@NODE_NAME@", node::NAME.into()),
        ("@NODE@", NODE.into()),
        ("@MACHINE@", MACHINE.into()),
        ("@API_PORT@", api_port.as_str().into()),
        ("@PODS@", PODS.into()),
        ("@SERVICES@", SERVICES.into()),
        ("@DNS_SERVICE@", DNS_SERVICE.into()),
        ("@CGROUP_ROOT@", cgroup_root.as_str().into()),
    ];
    let fill = |text: &str| {
        values
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    };
    CONFIG.iter().map(|(name, text)| (*name, fill(text))).collect()
}

pub(crate) fn write_config(paths: &Paths) -> Result<()> {
    for (name, text) in config(paths) {
        let path = paths.config().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("create", parent)?;
        }
        write(&path, &text, 0o600)?;
    }
    Ok(())
}

/// What the API server needs, and what takes its time to start: these are started together.
pub(crate) fn first(paths: &Paths) -> Vec<Program> {
    vec![etcd(), containerd(paths), apiserver(paths)]
}

/// What gives up when there is no API server yet.
pub(crate) fn second(paths: &Paths) -> Vec<Program> {
    vec![
        controller_manager(paths),
        scheduler(paths),
        kubelet(paths),
        proxy(paths),
    ]
}

fn etcd() -> Program {
    // Nothing in it outlives the testbed.
    let arguments = [
        "--data-dir=/var/lib/etcd",
        "--unsafe-no-fsync",
        "--logger=zap",
        "--log-level=warn",
    ];
    Program {
        name: "etcd",
        path: "/usr/bin/etcd".into(),
        arguments: arguments.map(str::to_owned).to_vec(),
    }
}

fn containerd(paths: &Paths) -> Program {
    let config = format!("--config={}", paths.config().join("containerd.toml").display());
    Program {
        name: "containerd",
        path: "/usr/bin/containerd".into(),
        arguments: vec![config],
    }
}

fn apiserver(paths: &Paths) -> Program {
    let pki = paths.pki();
    let file = |name: &str| pki.join(name).display().to_string();
    kubernetes(
        paths,
        "apiserver",
        [
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--bind-address={NODE}"),
            format!("--advertise-address={NODE}"),
            format!("--secure-port={API_PORT}"),
            format!("--service-cluster-ip-range={SERVICES}"),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-account-key-file={}", file("service-account.pub")),
            format!("--service-account-signing-key-file={}", file("service-account.key")),
            format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
            format!("--kubelet-client-key={}", file("kubelet-client.key")),
            // Else it asks DNS for the node's name.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--endpoint-reconciler-type=lease".to_owned(),
        ],
    )
}

fn controller_manager(paths: &Paths) -> Program {
    let pki = paths.pki();
    kubernetes(
        paths,
        "controller-manager",
        [
            kubeconfig(paths, "controller-manager"),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials".to_owned(),
            // At the default of 20 requests a second its controllers take four seconds to start.
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
            format!(
                "--service-account-private-key-file={}",
                pki.join("service-account.key").display()
            ),
            format!("--root-ca-file={}", pki.join("ca.crt").display()),
        ],
    )
}

fn scheduler(paths: &Paths) -> Program {
    kubernetes(
        paths,
        "scheduler",
        [
            kubeconfig(paths, "scheduler"),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
        ],
    )
}

fn kubelet(paths: &Paths) -> Program {
    kubernetes(
        paths,
        "kubelet",
        [
            kubeconfig(paths, "kubelet"),
            format!("--config={}", paths.config().join("kubelet.yaml").display()),
            format!("--hostname-override={}", node::NAME),
            format!("--node-ip={NODE}"),
            "--root-dir=/var/lib/kubelet".to_owned(),
            "--cert-dir=/var/lib/kubelet/pki".to_owned(),
        ],
    )
}

fn proxy(paths: &Paths) -> Program {
    kubernetes(
        paths,
        "proxy",
        [format!("--config={}", paths.config().join("proxy.yaml").display())],
    )
}

fn kubeconfig(paths: &Paths, program: &str) -> String {
    format!("--kubeconfig={}", credentials::kubeconfig_of(paths, program).display())
}

fn kubernetes<const N: usize>(paths: &Paths, name: &'static str, arguments: [String; N]) -> Program {
    let mut all = vec![name.to_owned()];
    all.extend(arguments);
    Program {
        name,
        path: paths.program("kubernetes"),
        arguments: all,
    }
}

/// Where the CLI of containerd finds it, inside the node.
pub(crate) const CTR: &str = "/usr/bin/ctr";

pub(crate) fn import_arguments(archive: &Path) -> Vec<String> {
    let mut arguments: Vec<String> = ["-n", "k8s.io", "images", "import"].map(str::to_owned).to_vec();
    arguments.push(archive.display().to_string());
    arguments
}
