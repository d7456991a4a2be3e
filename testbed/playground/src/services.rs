//! The script that the first process of the playground's namespaces runs, and becomes the service by `exec`.

use std::path::Path;

use crate::{CLIENT, HOSTNAME, NAMES, PORT, STOCK, STOCK_NAME, WEB};

/// A program of a login shell's path may lie in /sbin, which an ordinary user's path leaves out.
const PATH: &str = "PATH=$PATH:/usr/sbin:/sbin";

pub(crate) fn script(root: &Path) -> String {
    let root = quoted(&root.display().to_string());
    format!(
        "set -e\n\
         {PATH}\n\
         hostname {HOSTNAME}\n\
         ip link set lo up\n\
         for address in {WEB} {STOCK} {CLIENT} {NAMES}; do ip address add $address/32 dev lo; done\n\
         mount -t proc proc {root}/proc\n\
         touch {root}/dev/null && mount --bind /dev/null {root}/dev/null\n\
         for volume in etc/shop data/catalog; do mount --bind {root}/$volume {root}/$volume; done\n\
         chroot=$(command -v chroot)\n\
         env -i \"$chroot\" {root} /bin/shop names {NAMES}:53 &\n\
         env -i SERVICE=stock \"$chroot\" {root} /bin/shop stock {STOCK}:80 &\n\
         (\n\
         until env -i \"$chroot\" {root} /bin/shop client http://{WEB}:{PORT}/ --count 1 > {root}/tmp/first 2>&1; do sleep 0.05; done\n\
         exec env -i \"$chroot\" {root} /bin/shop client http://{WEB}:{PORT}/ --rate 20 --report 5 --close --header 'X-User: somebody'\n\
         ) &\n\
         exec env -i {environment} \"$chroot\" {root} /bin/shop web 0.0.0.0:{PORT}\n",
        environment = environment(),
    )
}

/// The service's environment: plain settings, a secret, and one variable that must not reach a local toolchain.
fn environment() -> String {
    [
        ("SERVICE", "web".to_owned()),
        ("STOCK_URL", format!("{STOCK_NAME}:80")),
        ("SHOP_CURRENCY", "EUR".to_owned()),
        ("SHOP_DB_PASSWORD", "correct horse battery staple".to_owned()),
        ("PATH", "/bin".to_owned()),
        ("NODE_OPTIONS", "--require=/not/here.js".to_owned()),
    ]
    .map(|(name, value)| quoted(&format!("{name}={value}")))
    .join(" ")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
