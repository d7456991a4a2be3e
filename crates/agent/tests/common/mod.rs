//! A pod for tests: a process in network, mount, UTS and PID namespaces of its own, joined to a client's network namespace.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod http;

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::time::timeout;
use wire::message::{Claim, ClaimMode, ClaimState, Facts, Open, ReplyBody, RequestBody};
use wire::{Acceptor, ControlClient, FilesClient, Hello, Link};

pub const DEADLINE: Duration = Duration::from_secs(60);
pub const POD: &str = "10.77.0.2";
pub const CLIENT: &str = "10.77.0.1";

pub async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future).await.expect("it took too long")
}

/// Waits for a condition.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + DEADLINE;
    while !condition().await {
        assert!(std::time::Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A process behind `unshare`, killed when dropped.
pub struct Spawned {
    parent: Child,
    pub pid: u32,
}

impl Spawned {
    /// Runs a shell script in new namespaces; it must print one line when it is ready, and then stay.
    pub fn new(flags: &[&str], script: &str, environment: &[(&str, &str)]) -> Self {
        let mut parent = Command::new("unshare")
            .args(flags)
            .args(["--kill-child", "sh", "-ec", script])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("unshare (util-linux) and root are needed");
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line.trim(), "ready", "the test's namespaces need root: {line:?}");
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", parent.id())).unwrap();
        let pid = children
            .split_whitespace()
            .next()
            .map_or(parent.id(), |pid| pid.parse().unwrap());
        Self { parent, pid }
    }

    pub fn network(&self) -> OwnedFd {
        std::fs::File::open(format!("/proc/{}/ns/net", self.pid))
            .unwrap()
            .into()
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.pid))
    }

    /// Runs `work` on a thread in this network namespace: sockets made there belong to it.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let network = self.network();
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap()
    }

    /// A command in the network namespace, its output.
    pub fn run(&self, command: &[&str]) -> String {
        let output = Command::new("nsenter")
            .args(["-t", &self.pid.to_string(), "-n", "--"])
            .args(command)
            .output()
            .expect("nsenter (util-linux) is needed");
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Connects from this namespace.
    pub fn connect(&self, to: &str) -> std::io::Result<tokio::net::TcpStream> {
        self.connect_with(to, |_| Ok(()))
    }

    /// The same with a socket that is prepared first.
    pub fn connect_with(
        &self,
        to: &str,
        prepare: impl FnOnce(&socket2::Socket) -> std::io::Result<()> + Send + 'static,
    ) -> std::io::Result<tokio::net::TcpStream> {
        let to: SocketAddr = to.parse().expect("an address");
        let stream = self.within(move || {
            let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
            prepare(&socket)?;
            socket.connect(&to.into())?;
            std::io::Result::Ok(std::net::TcpStream::from(socket))
        })?;
        stream.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(stream)
    }

    pub fn listen(&self, at: &str) -> tokio::net::TcpListener {
        let at = at.to_owned();
        let listener = self.within(move || std::net::TcpListener::bind(at)).unwrap();
        listener.set_nonblocking(true).unwrap();
        tokio::net::TcpListener::from_std(listener).unwrap()
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // By itself: changing its user has cleared the signal that its parent's end would send.
        let pid = rustix::process::Pid::from_raw(self.pid.cast_signed()).expect("a pid");
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = self.parent.kill();
        let _ = self.parent.wait();
    }
}

/// The pod and a client outside of it, on one wire.
pub struct World {
    pub client: Spawned,
    pub pod: Spawned,
}

const POD_SCRIPT: &str = r#"
hostname shop-7d9f
ip link set lo up
mount -t tmpfs none /mnt
mkdir -p /mnt/config /mnt/etc
echo 'listen = 80' > /mnt/config/app.toml
mount -t tmpfs none /srv
echo secret > /srv/token
cd /srv
echo ready
exec sleep 1000
"#;

pub fn world() -> World {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let client = Spawned::new(&["-n"], "ip link set lo up; echo ready; exec sleep 1000", &[]);
    let environment = [("DATABASE_URL", "postgres://db/shop"), ("EMPTY", ""), ("ODD", "a=b\nc")];
    let pod = Spawned::new(
        &["-n", "-m", "-p", "-u", "-f", "--mount-proc"],
        POD_SCRIPT,
        &environment,
    );
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let (near, far) = (format!("ag{}c{number}", std::process::id() % 100_000), "eth0");
    let ip = |arguments: &[&str]| client.run(&[&["ip"], arguments].concat());
    ip(&[
        "link",
        "add",
        &near,
        "type",
        "veth",
        "peer",
        "name",
        far,
        "netns",
        &pod.pid.to_string(),
    ]);
    ip(&["addr", "add", &format!("{CLIENT}/24"), "dev", &near]);
    ip(&["link", "set", &near, "up"]);
    pod.run(&["ip", "addr", "add", &format!("{POD}/24"), "dev", far]);
    pod.run(&["ip", "link", "set", far, "up"]);
    World { client, pod }
}

/// A session with an agent that is a child process.
pub struct Session {
    pub agent: tokio::process::Child,
    pub link: Link,
    pub acceptor: Acceptor,
    pub control: ControlClient,
    pub events: tokio::sync::mpsc::Receiver<wire::message::Event>,
}

/// The session's name is made of its owner's.
pub fn hello(owner: &str) -> Hello {
    let mut session = [1; 16];
    session.iter_mut().zip(owner.bytes()).for_each(|(byte, of)| *byte = of);
    Hello::new(session, [2; 16], owner)
}

pub fn agent_command() -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_agent"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// `direct` on a target.
pub async fn direct(pid: u32) -> Session {
    let mut command = agent_command();
    command.args(["direct", "--target-pid", &pid.to_string()]);
    session(command, "ada@workshop").await
}

pub async fn session(command: tokio::process::Command, owner: &str) -> Session {
    linked(command, hello(owner)).await
}

pub async fn linked(mut command: tokio::process::Command, hello: Hello) -> Session {
    let mut agent = command.spawn().unwrap();
    let stdio = tokio::io::join(agent.stdout.take().unwrap(), agent.stdin.take().unwrap());
    let (link, acceptor, _) = in_time(wire::connect(stdio, hello)).await.unwrap();
    let (control, events) = ControlClient::new(link.open(&Open::Control, &[]).await.unwrap());
    Session {
        agent,
        link,
        acceptor,
        control,
        events,
    }
}

/// `serve` as it runs in a pod: in its network and UTS namespaces.
pub async fn serve(world: &World, socket: &Path, linger: &str) -> tokio::process::Child {
    let pid = world.pod.pid.to_string();
    let mut command = tokio::process::Command::new("nsenter");
    command
        .args([
            "-t",
            &pid,
            "-n",
            "-u",
            "--",
            env!("CARGO_BIN_EXE_agent"),
            "serve",
            "--target-pid",
            &pid,
            "--linger",
            linger,
        ])
        .arg("--socket")
        .arg(socket)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut agent = command.spawn().unwrap();
    let mut line = String::new();
    let mut stdout = tokio::io::BufReader::new(agent.stdout.take().unwrap());
    in_time(tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut line))
        .await
        .unwrap();
    assert_eq!(line.trim(), format!("inpod agent ready {}", env!("CARGO_PKG_VERSION")));
    agent
}

/// A session of that agent.
pub async fn attach(socket: &Path, owner: &str) -> Session {
    linked(attach_command(socket), hello(owner)).await
}

pub fn attach_command(socket: &Path) -> tokio::process::Command {
    let mut command = agent_command();
    command.arg("attach").arg("--socket").arg(socket);
    command
}

/// All of a port, whatever comes to it.
pub fn claim(port: u16, mode: ClaimMode) -> Claim {
    Claim {
        port,
        mode,
        filter: vec![],
        probes: vec![],
        reconnect: false,
        tls: None,
    }
}

impl Session {
    /// What is opened from now on is the caller's.
    pub async fn take_acceptor(&mut self) -> Acceptor {
        // That of a link that has ended stays.
        let (ours, theirs) = tokio::io::duplex(1 << 12);
        let (session, agent) = tokio::join!(wire::connect(ours, hello("")), wire::accept(theirs, |_| hello("")));
        drop(agent);
        std::mem::replace(&mut self.acceptor, session.unwrap().1)
    }

    pub async fn call(&self, request: RequestBody) -> ReplyBody {
        in_time(self.control.call(request)).await.unwrap()
    }

    pub async fn claims(&self, claims: Vec<Claim>) -> Vec<ClaimState> {
        match self.call(RequestBody::Claims(claims)).await {
            ReplyBody::Claims(states) => states,
            other => panic!("{other:?}"),
        }
    }

    pub async fn facts(&self) -> Facts {
        match self.call(RequestBody::Facts).await {
            ReplyBody::Facts(facts) => facts,
            other => panic!("{other:?}"),
        }
    }

    pub async fn files(&self) -> FilesClient {
        FilesClient::open(&self.link).await.unwrap()
    }
}
