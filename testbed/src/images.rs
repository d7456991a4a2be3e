//! The images that pods of the testbed use. No registry: each is an archive made here, and imported into the node.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{At, Error, Result, run};
use crate::oci;
use crate::paths::Paths;
use crate::stamp::{self, Fingerprint};
use crate::{debian, programs};

struct Image {
    /// Pods name it `inpod.test/<name>:1`.
    name: &'static str,
    parts: &'static [Part],
    entrypoint: &'static [&'static str],
    /// `uid:gid`, empty: root.
    user: &'static str,
}

#[derive(Hash)]
enum Part {
    /// A shell and the usual commands in one static program; those that are there already stay.
    Busybox,
    /// One of the programs built here, and where it goes.
    Program(&'static str, &'static str),
    /// Debian packages with all that they depend on.
    Debian(&'static [&'static str]),
    /// A path and its content.
    File(&'static str, &'static str),
    Directory(&'static str),
    /// A path and where the link points to.
    Link(&'static str, &'static str),
}

const USERS: Part = Part::File(
    "etc/passwd",
    "root:x:0:0:root:/root:/bin/sh\nshop:x:1000:1000:shop:/home/shop:/bin/sh\n\
     nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
);
const GROUPS: Part = Part::File("etc/group", "root:x:0:\nshop:x:1000:\nnogroup:x:65534:\n");

const IMAGES: &[Image] = &[
    Image {
        name: "pause",
        parts: &[Part::Program("pause", "pause")],
        entrypoint: &["/pause"],
        user: "65534:65534",
    },
    Image {
        name: "coredns",
        parts: &[Part::Program("coredns", "coredns")],
        entrypoint: &["/coredns"],
        user: "65534:65534",
    },
    Image {
        name: "busybox",
        parts: &[Part::Busybox, USERS, GROUPS],
        entrypoint: &["/bin/sleep", "2147483647"],
        user: "",
    },
    Image {
        name: "shop",
        parts: &[Part::Busybox, USERS, GROUPS, Part::Program("shop", "usr/bin/shop")],
        entrypoint: &["/usr/bin/shop"],
        user: "",
    },
    // No shell, no other file: what a distroless image comes down to.
    Image {
        name: "shop-bare",
        parts: &[Part::Program("shop", "shop")],
        entrypoint: &["/shop"],
        user: "65534:65534",
    },
    Image {
        name: "nginx",
        parts: &[
            Part::Debian(&["nginx"]),
            Part::File("etc/nginx/nginx.conf", include_str!("../images/nginx.conf")),
            Part::File("usr/share/nginx/html/index.html", "nginx in a pod\n"),
            Part::Directory("var/lib/nginx"),
            Part::Directory("var/log/nginx"),
        ],
        entrypoint: &["/usr/sbin/nginx", "-g", "daemon off;"],
        user: "",
    },
    Image {
        name: "redis",
        parts: &[Part::Debian(&["redis-server", "redis-tools"])],
        entrypoint: &[
            "/usr/bin/redis-server",
            "--bind",
            "*",
            "--protected-mode",
            "no",
            "--save",
            "",
        ],
        user: "65534:65534",
    },
    // A service mesh's proxy and the packet rules that lead to it.
    Image {
        name: "mesh",
        parts: &[
            Part::Debian(&["haproxy", "iproute2", "iptables", "openssl"]),
            Part::File("mesh/init.sh", include_str!("../images/mesh-init.sh")),
            Part::File("mesh/haproxy.cfg", include_str!("../images/mesh-haproxy.cfg")),
            Part::File("mesh/ambient.cfg", include_str!("../images/mesh-ambient.cfg")),
        ],
        entrypoint: &["/usr/sbin/haproxy", "-db", "-f", "/mesh/haproxy.cfg"],
        user: "1337:1337",
    },
    Image {
        name: "tools",
        parts: &[
            Part::Debian(&["curl", "iproute2", "netcat-openbsd", "procps", "redis-tools"]),
            Part::Link("bin/nc", "nc.openbsd"),
            Part::Busybox,
            Part::Program("shop", "usr/bin/shop"),
        ],
        entrypoint: &["/bin/sleep", "infinity"],
        user: "",
    },
];

/// Makes the archives that are missing or older than what they are made from.
pub(crate) fn build(paths: &Paths) -> Result<Fingerprint> {
    let pause = programs::pause(paths)?;
    let shop = programs::shop(paths)?;
    let coredns = programs::coredns(paths)?;
    let mut all = Fingerprint::of(());
    for image in IMAGES {
        let mut inputs = Fingerprint::of((image.name, image.parts, image.entrypoint, image.user));
        for part in image.parts {
            inputs = match part {
                Part::Program("pause", _) => inputs.and(pause),
                Part::Program("shop", _) => inputs.and(shop),
                Part::Program("coredns", _) => inputs.and(coredns),
                Part::Debian(packages) => inputs.and(debian::inputs(packages)),
                _ => inputs,
            };
        }
        let archive = paths.image(image.name);
        stamp::make(&paths.stamp(&format!("image-{}", image.name)), &archive, inputs, || {
            build_one(paths, image, &archive)
        })?;
        all = all.and(inputs);
    }
    Ok(all)
}

pub(crate) fn archives(paths: &Paths) -> Vec<PathBuf> {
    IMAGES.iter().map(|image| paths.image(image.name)).collect()
}

fn build_one(paths: &Paths, image: &Image, archive: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(&paths.root).at("create a directory in", &paths.root)?;
    let root = work.path().join("root");
    for directory in ["dev", "proc", "sys", "etc", "run", "var", "root", "home/shop", "tmp"] {
        let path = root.join(directory);
        fs::create_dir_all(&path).at("create", &path)?;
    }
    set_mode(&root, 0o755)?;
    set_mode(&root.join("tmp"), 0o1777)?;
    for part in image.parts {
        add(paths, image, part, &root)?;
    }
    let reference = format!("inpod.test/{}:1", image.name);
    let settings = oci::Settings {
        reference: &reference,
        entrypoint: image.entrypoint,
        user: image.user,
    };
    oci::write(&root, &settings, archive)
}

fn add(paths: &Paths, image: &Image, part: &Part, root: &Path) -> Result<()> {
    match part {
        Part::Busybox => busybox(root),
        Part::Program(name, path) => install(&paths.program(name), &root.join(path)),
        Part::Debian(packages) => {
            let tree = debian::root(paths, image.name, packages)?;
            run(
                "copy packages' files",
                Command::new("cp").arg("-a").arg(tree.join(".")).arg(root),
            )
            .map(drop)
        }
        Part::File(path, content) => {
            let path = root.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).at("create", parent)?;
            }
            fs::write(&path, content).at("write", &path)?;
            set_mode(&path, 0o644)
        }
        Part::Directory(path) => fs::create_dir_all(root.join(path)).at("create", &root.join(path)),
        Part::Link(path, target) => symlink(target, root.join(path)).at("link", &root.join(path)),
    }
}

fn busybox(root: &Path) -> Result<()> {
    let program = Path::new("/bin/busybox");
    install(program, &root.join("bin/busybox"))?;
    let doing = "list the commands of busybox";
    let applets = run(doing, Command::new(program).arg("--list"))?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        let there = |directory: &str| root.join(directory).join(applet).symlink_metadata().is_ok();
        if !["bin", "sbin", "usr/bin", "usr/sbin"].into_iter().any(there) {
            let link = root.join("bin").join(applet);
            symlink("busybox", &link).at("link", &link)?;
        }
    }
    if root.join("bin/sh").symlink_metadata().is_err() {
        return Err(Error::unexpected(doing, "this busybox has no sh"));
    }
    Ok(())
}

fn install(from: &Path, to: &Path) -> Result<()> {
    run(
        "put a program into an image",
        Command::new("install").args(["-D", "-m", "0755"]).arg(from).arg(to),
    )
    .map(drop)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("set the mode of", path)
}
