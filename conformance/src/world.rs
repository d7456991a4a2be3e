//! What the guests find: a playground, or a pod that looks like it, with more in it.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tests::network::Network;

use crate::site::Site;

/// The service's address, which the guests have in its site.
pub const POD: &str = playground::WEB;
/// Echoes TCP and UDP at [`ECHO_PORT`]; nothing else listens there.
pub const ECHO: &str = "10.77.0.40";
pub const ECHO_SIX: &str = "fd00:77::40";
pub const ECHO_PORT: u16 = 7000;
/// Where a connection waits, once [`World::full`] says so.
pub const FULL_PORT: u16 = 7100;
/// Where nobody answers: the first of `dual.shop.internal`'s addresses by every rule (RFC 6724), and refused.
const REFUSING: &str = "10.77.0.41";
const REFUSING_SIX: &str = "fd00:77::41";
/// The name server of this world; the playground's own knows no name.
pub(crate) const NAMES: &str = "10.77.0.54";
/// The name server's place among the services.
const NAMES_SERVICE: usize = 3;
/// Whoever calls the guests calls from here.
pub const CALLER: &str = playground::CLIENT;

/// Names that only the name server inside knows.
const RECORDS: &[&str] = &[
    "echo.shop.internal=10.77.0.40",
    "six.shop.internal=fd00:77::40",
    "dual.shop.internal=fd00:77::41",
    "dual.shop.internal=10.77.0.41",
    "dual.shop.internal=10.77.0.40",
];

/// Below the pod's root. `/data` is none of the machine's.
const FILES: &[(&str, &str)] = &[
    ("data/conformance/text", "hello from the pod\n"),
    ("data/conformance/directory/one", "first\n"),
    ("data/conformance/directory/two", "second\n"),
    ("data/conformance/directory/three", "third\n"),
    ("data/conformance/script", "#!/bin/sh\necho \"script says $1\"\n"),
    (
        "etc/resolv.conf",
        "nameserver 10.77.0.54\nsearch shop.internal\noptions timeout:5 attempts:2\n",
    ),
];

/// Size of `/data/conformance/blob`, whose bytes count up.
const BLOB: usize = 1 << 20;

/// A listener that accepts nobody, and its connections: who connects after these waits.
#[derive(Debug)]
pub struct Full {
    _listener: OwnedFd,
    _waiting: Vec<OwnedFd>,
}

/// Ended, with all that runs in it, when dropped.
#[derive(Debug)]
pub struct World {
    pub site: Site,
    pub network: Network,
    /// A directory of this machine's, for what guests write.
    pub scratch: tempfile::TempDir,
    services: Vec<Child>,
}

impl World {
    /// To be called by the thread that stays: with it end the services.
    ///
    /// # Panics
    /// When it cannot be had here.
    #[must_use]
    pub fn new(site: Site) -> Self {
        fill(&site.root()).unwrap_or_else(|error| panic!("the pod's files: {error}"));
        for address in [ECHO, REFUSING, NAMES] {
            let address = format!("{address}/32");
            let _ = site.inside(&["ip", "address", "add", &address, "dev", "lo"]);
        }
        for address in [ECHO_SIX, REFUSING_SIX] {
            let address = format!("{address}/128");
            let _ = site.inside(&["ip", "address", "add", &address, "dev", "lo", "nodad"]);
        }
        let mut world = Self {
            network: Network::of_process(site.pid()),
            site,
            scratch: tempfile::tempdir().expect("a temporary directory"),
            services: Vec::new(),
        };
        let (four, six) = (format!("{ECHO}:{ECHO_PORT}"), format!("[{ECHO_SIX}]:{ECHO_PORT}"));
        world.shop(&["tcp-echo", &four]);
        world.shop(&["tcp-echo", &six]);
        world.shop(&["udp-echo", &four]);
        let mut names = vec!["names".to_owned(), format!("{NAMES}:53")];
        names.extend(RECORDS.iter().map(|record| (*record).to_owned()));
        world.shop(&names.iter().map(String::as_str).collect::<Vec<_>>());
        world
    }

    /// The name server's process.
    #[must_use]
    pub fn names(&self) -> u32 {
        self.services[NAMES_SERVICE].id()
    }

    /// Makes connections to [`FULL_PORT`] wait, until this is dropped.
    ///
    /// # Panics
    /// When there is no socket to be had.
    #[must_use]
    pub fn full(&self) -> Full {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket, socket_with};
        let address = SocketAddr::new(ECHO.parse().expect("an address"), FULL_PORT);
        self.network.enter(|| {
            let listener = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
            bind(&listener, &address).expect("the port is free");
            listen(&listener, 0).expect("it is bound");
            let waits = || {
                let flags = SocketFlags::NONBLOCK;
                let waiting = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("a socket");
                let _ = connect(&waiting, &address);
                waiting
            };
            Full {
                _waiting: (0..4).map(|_| waits()).collect(),
                _listener: listener,
            }
        })
    }

    /// The target's name for `inpod exec`.
    #[must_use]
    pub fn target(&self) -> String {
        self.site.target()
    }

    /// Runs a service inside until this is dropped; it listens when this returns.
    fn shop(&mut self, arguments: &[&str]) {
        let shop = tests::shop();
        let words = [&[shop.to_str().expect("a path in text")], arguments].concat();
        self.service(&words, "listens on");
    }

    /// Runs a program of this machine's inside until this is dropped.
    ///
    /// # Panics
    /// When it does not print that it is `ready`.
    pub fn service(&mut self, words: &[&str], ready: &str) {
        let log = self.scratch.path().join(format!("service-{}.log", self.services.len()));
        let file = std::fs::File::create(&log).expect("the scratch directory can be written");
        let inside = self.site.command(words);
        // A killed test run leaves no service behind.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(inside.get_program())
            .args(inside.get_args())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file);
        self.services.push(command.spawn().expect("package util-linux"));
        tests::wait_until(&format!("{words:?}"), || {
            std::fs::read_to_string(&log).is_ok_and(|log| log.contains(ready))
        });
    }

    /// `text` with what is only known now put in for its placeholders.
    #[must_use]
    pub fn filled_in(&self, text: &str) -> String {
        text.replace("{cwd}", &tests::workspace().display().to_string())
            .replace("{scratch}", &self.scratch.path().display().to_string())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for service in &mut self.services {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

/// The pod's own address with a port.
///
/// # Panics
/// Never: it is an address.
#[must_use]
pub fn pod(port: u16) -> SocketAddr {
    SocketAddr::new(POD.parse::<IpAddr>().expect("an address"), port)
}

fn fill(root: &Path) -> std::io::Result<()> {
    for (path, content) in FILES {
        let path: PathBuf = root.join(path);
        std::fs::create_dir_all(path.parent().expect("it lies somewhere"))?;
        std::fs::write(path, content)?;
    }
    let ours = root.join("data/conformance");
    std::fs::set_permissions(ours.join("script"), std::fs::Permissions::from_mode(0o755))?;
    symlink("directory", ours.join("link"))?;
    std::fs::write(ours.join("blob"), (0..BLOB).map(|at| at as u8).collect::<Vec<u8>>())
}
