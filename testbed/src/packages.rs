//! Debian packages that the node's programs come from.

use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result, run};

/// What a node runs besides Kubernetes, what builds and sets it up, and what guests are made of.
const NEEDED: &[&str] = &[
    "acl",
    "attr",
    "busybox-static",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "curl",
    "delve",
    "etcd-server",
    "fuse3",
    "gcc",
    "gdb",
    "git",
    "gunicorn",
    "iproute2",
    "iptables",
    "less",
    "libc6-dev",
    "musl-tools",
    "nftables",
    "nginx-light",
    "nodejs",
    NPM,
    "openjdk-17-jdk-headless",
    "openssl",
    "php8.2-fpm",
    "python3",
    "python3-debugpy",
    "python3-pytest-xdist",
    "python3-uvicorn",
    "redis-server",
    "redis-tools",
    "runc",
    "strace",
    "util-linux",
    "vim",
    "wget",
];

/// Comes with the nodejs of other sources than Debian's, which do not stand its package.
const NPM: &str = "npm";

/// Another apt may be at work, for instance a machine's first boot.
const PATIENCE: &str = "DPkg::Lock::Timeout=600";

/// Runs a command during which packages that are installed start no service (policy-rc.d, Debian policy 9.3.3). A shell,
/// because an interrupt must not leave the policy behind.
const WITHOUT_SERVICES: &str = r#"
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod 755 $policy
fi
"$@"
"#;

/// Installs what is missing of what a node needs.
pub fn install_missing() -> Result<()> {
    install(NEEDED)
}

/// Installs those of the packages that are missing, without starting any of the services that come with them.
pub fn install(packages: &[&'static str]) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let doing = format!("install the packages {}", missing.join(" "));
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err(Error::Unmet {
            doing,
            why: "this machine has no apt-get".to_owned(),
            hint: "the testbed is made for Debian 12: run it there".to_owned(),
        });
    }
    let install = || {
        let apt = apt_get(&["install", "-y", "--no-install-recommends"]);
        let mut shell = Command::new("sh");
        shell
            .args(["-euc", WITHOUT_SERVICES, "sh"])
            .arg(apt.get_program())
            .args(apt.get_args())
            .args(&missing);
        run(&doing, shell.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    with_update(install).map(drop)
}

/// Tries again after `apt-get update`: the lists may be missing, or name versions that are no longer served.
pub(crate) fn with_update<T>(attempt: impl Fn() -> Result<T>) -> Result<T> {
    attempt().or_else(|_| {
        run("update the lists of packages", &mut apt_get(&["update"]))?;
        attempt()
    })
}

pub(crate) fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-q", "-o", PATIENCE])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn missing(packages: &[&'static str]) -> Vec<&'static str> {
    let mut query = Command::new("dpkg-query");
    query
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(packages);
    // Fails when one is unknown; the others are listed all the same.
    let listed = query.output().map(|output| output.stdout).unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed);
    let installed = |name: &&str| {
        listed.lines().any(|line| line == format!("{name} installed"))
            || (*name == NPM && Path::new("/usr/bin/npm").exists())
    };
    packages.iter().copied().filter(|name| !installed(name)).collect()
}
