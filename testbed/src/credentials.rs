//! Who may do what: certificates for servers, tokens for clients, and the kubeconfig files that carry them.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{At, Result, run};
use crate::network::{API_PORT, API_SERVICE, NODE};
use crate::paths::Paths;

/// A name that the API server's certificate carries, for who reaches it by another address.
pub(crate) const TLS_SERVER_NAME: &str = "kubernetes";

/// Name in the kubeconfig's file name, user name, groups.
struct Client {
    file: &'static str,
    user: &'static str,
    groups: &'static str,
}

/// The programs' own identities; what each may do is set by Kubernetes' own roles.
const PROGRAMS: &[Client] = &[
    Client {
        file: "controller-manager",
        user: "system:kube-controller-manager",
        groups: "",
    },
    Client {
        file: "scheduler",
        user: "system:kube-scheduler",
        groups: "",
    },
    Client {
        file: "proxy",
        user: "system:kube-proxy",
        groups: "",
    },
    Client {
        file: "kubelet",
        user: "system:node:inpod-node",
        groups: "system:nodes",
    },
];
const ADMIN: Client = Client {
    file: "admin",
    user: "admin",
    groups: "system:masters",
};
/// Gets its rights from testbed/manifests/minimum-rbac.yaml.
const USER: Client = Client {
    file: "user",
    user: "developer",
    groups: "",
};

/// Makes everything anew.
pub(crate) fn create(paths: &Paths) -> Result<()> {
    private_directory(&paths.pki())?;
    certificates(&paths.pki())?;
    let mut tokens = String::new();
    for client in PROGRAMS.iter().chain([&ADMIN, &USER]) {
        let token = random_token()?;
        let Client { file, user, groups } = client;
        tokens.push_str(&format!("{token},{user},{user},\"{groups}\"\n"));
        let path = match *file {
            "admin" => paths.admin_kubeconfig(),
            "user" => paths.user_kubeconfig(),
            _ => kubeconfig_of(paths, file),
        };
        let is_user = *file == USER.file;
        if let (Some(parent), false) = (path.parent(), is_user) {
            private_directory(parent)?;
        } else if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("create", parent)?;
        }
        let server = format!("https://{NODE}:{API_PORT}");
        write(
            &path,
            &kubeconfig(&paths.pki(), &server, user, &token)?,
            if is_user { 0o644 } else { 0o600 },
        )?;
    }
    write(&paths.pki().join("tokens.csv"), &tokens, 0o600)
}

/// The kubeconfig of one of the node's programs.
pub(crate) fn kubeconfig_of(paths: &Paths, program: &str) -> PathBuf {
    paths.pki().join(format!("{program}.kubeconfig"))
}

fn certificates(pki: &Path) -> Result<()> {
    let openssl = |arguments: &str| {
        let mut openssl = Command::new("openssl");
        openssl.args(arguments.split_whitespace()).current_dir(pki);
        run("make the cluster's certificates", &mut openssl)
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.crt -days 3650 -subj /CN=inpod-testbed"
    ))?;
    let names = format!(
        "DNS:{TLS_SERVER_NAME},DNS:kubernetes.default,DNS:kubernetes.default.svc,\
         DNS:kubernetes.default.svc.cluster.local,IP:{NODE},IP:{API_SERVICE}"
    );
    for (name, subject, usage, names) in [
        ("apiserver", "/CN=kube-apiserver", "serverAuth", names.as_str()),
        (
            "kubelet-client",
            "/O=system:masters/CN=apiserver-kubelet-client",
            "clientAuth",
            "DNS:kubelet-client",
        ),
    ] {
        let extensions = format!("-addext extendedKeyUsage={usage} -addext subjectAltName={names}");
        openssl(&format!(
            "req -new {key} -keyout {name}.key -out {name}.csr -subj {subject} {extensions}"
        ))?;
        let signed =
            format!("-CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -copy_extensions copy -out {name}.crt");
        openssl(&format!("x509 -req -in {name}.csr {signed}"))?;
    }
    openssl("ecparam -genkey -name prime256v1 -noout -out service-account.key")?;
    openssl("ec -in service-account.key -pubout -out service-account.pub")?;
    Ok(())
}

fn kubeconfig(pki: &Path, server: &str, user: &str, token: &str) -> Result<String> {
    let mut base64 = Command::new("openssl");
    base64.args(["base64", "-A", "-in"]).arg(pki.join("ca.crt"));
    let authority = run("read the cluster's certificate", &mut base64)?;
    let authority = authority.trim();
    Ok(format!(
        "apiVersion: v1
kind: Config
current-context: inpod-testbed
clusters:
  - name: inpod-testbed
    cluster:
      server: {server}
      certificate-authority-data: {authority}
users:
  - name: {user}
    user:
      token: {token}
contexts:
  - name: inpod-testbed
    context:
      cluster: inpod-testbed
      user: {user}
      namespace: default
"
    ))
}

fn random_token() -> Result<String> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0u8; 16];
    fs::File::open(path)
        .and_then(|mut source| source.read_exact(&mut bytes))
        .at("read", path)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(crate) fn private_directory(path: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).at("create", path)?;
    // Of a directory that was there already, or made under a wider mask.
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).at("set the mode of", path)
}

pub(crate) fn write(path: &Path, content: &str, mode: u32) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.create(true).truncate(true).write(true), mode);
    let mut file = options.open(path).at("create", path)?;
    std::io::Write::write_all(&mut file, content.as_bytes()).at("write", path)?;
    // The mode above is masked by umask, and applies to new files only.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("set the mode of", path)
}
