//! The playground's root directory: what its processes see as `/`.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::{HOSTNAME, STOCK, STOCK_NAME, WEB};

/// Files and their content, below the root.
const FILES: &[(&str, &str)] = &[
    (
        "etc/shop/shop.toml",
        "greeting = \"hello from inside\"\ncurrency = \"EUR\"\n",
    ),
    ("run/secrets/shop/password", "correct horse battery staple\n"),
    (
        "data/catalog/..2026_11_01/items.json",
        "[{\"sku\": 7, \"name\": \"lamp\"}, {\"sku\": 8, \"name\": \"chair\"}]\n",
    ),
    ("etc/passwd", "root:x:0:0:root:/:/bin/false\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
    (
        "etc/resolv.conf",
        "nameserver 10.77.0.53\nsearch shop.internal\noptions timeout:1 attempts:1\n",
    ),
];

/// Symlinks and where they point, as the kubelet lays ConfigMap volumes.
const LINKS: &[(&str, &str)] = &[
    ("data/catalog/..data", "..2026_11_01"),
    ("data/catalog/items.json", "..data/items.json"),
    ("var/run", "/run"),
];

pub(crate) fn prepare(shop: &Path, directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let root = directory.join("root");
    for name in ["bin", "proc", "dev", "tmp", "var"] {
        fs::create_dir_all(root.join(name))?;
    }
    for (path, content) in FILES {
        write(&root.join(path), content)?;
    }
    write(&root.join("etc/hostname"), &format!("{HOSTNAME}\n"))?;
    write(
        &root.join("etc/hosts"),
        &format!("127.0.0.1 localhost\n{WEB} {HOSTNAME} web.shop.internal\n{STOCK} {STOCK_NAME} stock\n"),
    )?;
    for (link, to) in LINKS {
        symlink(to, root.join(link))?;
    }
    fs::copy(shop, root.join("bin/shop"))?;
    fs::set_permissions(root.join("bin/shop"), fs::Permissions::from_mode(0o755))
}

fn write(path: &Path, content: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, content)
}
