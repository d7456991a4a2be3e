//! The server process from its first line to its last.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use guest::channel::Channel;
use guest::event::Event;
use guest::protocol::{Answer, Call, Errno, Fetch, FromServer, Notice, Ready, ToServer};
use rules::Plan;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use view::Members;
use wire::message::{Bytes, ReplyBody, RequestBody};
use wire::{ControlClient, Underway};

use crate::check::Checker;
use crate::claims::Claims;
use crate::directory::Directory;
use crate::error::SessionError;
use crate::flows::Flows;
use crate::guests::{self, Guests, Received};
use crate::incoming::{self, Peers};
use crate::lookup::lookup;
use crate::names::Names;
use crate::reap::Tree;
use crate::relay::Relay;
use crate::router::Router;
use crate::start::{self, Started};
use crate::udp::Datagrams;
use crate::unix;

/// All that a server must know, decided before the fork.
pub struct Settings {
    pub target: target::TargetSpec,
    pub kube: target::KubeOptions,
    pub agent: target::AgentSettings,
    pub plan: Plan,
    pub directory: Directory,
    /// The session's name on the link and the proof that a re-attach is it; random.
    pub session: [u8; 16],
    pub token: [u8; 16],
    /// What the person calls themselves.
    pub owner: String,
    /// See [`view::Identity::owner`].
    pub owner_shown: Option<(u32, u32)>,
    /// Text of this machine's /etc/resolv.conf and /etc/nsswitch.conf.
    pub resolv_conf: String,
    pub nsswitch: String,
    /// Whether the pod's traffic comes through a claim is tried once it is in force.
    pub check: bool,
}

/// Runs to the end of the session; the exit status of the server process.
pub(crate) fn run(mut settings: Settings, members: Members, channel: Channel, supervisor: OwnedFd) -> i32 {
    settings.directory.adopt();
    // Ctrl-C is for the app and its supervisor; the server goes when they are gone.
    let _ = rustix::process::setpgid(None, None);
    detach_standard_streams();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = SessionError::Machine {
                what: "start the session's server",
                source: error,
            }
            .failure();
            let _ = channel.send(&FromServer::Fatal(failure), &[]);
            return 1;
        }
    };
    let ended = runtime.block_on(async {
        let (guests, received) = match guests::split(channel) {
            Ok(split) => split,
            Err(_) => return 1,
        };
        match serve(&mut settings, members, &guests, received, supervisor).await {
            Ok(()) => 0,
            Err(error) => {
                guests.send(&FromServer::Fatal(error.failure()));
                1
            }
        }
    });
    runtime.shutdown_background();
    ended
}

/// The app's pipes must not be kept open by us.
fn detach_standard_streams() {
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

/// Sound: the descriptor is owned and stays what it is.
#[expect(deprecated, reason = "the other constructor is unsafe")]
fn watch(pidfd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, tokio::io::Interest::READABLE)
}

async fn serve(
    settings: &mut Settings,
    members: Members,
    guests: &Guests,
    mut received: mpsc::UnboundedReceiver<Received>,
    supervisor: OwnedFd,
) -> Result<(), SessionError> {
    let supervisor = watch(supervisor).map_err(|source| SessionError::Machine {
        what: "watch the supervisor",
        source,
    })?;
    let started = tokio::select! {
        started = start::start(settings, guests) => started?,
        _ = supervisor.readable() => return Ok(()),
    };
    let relay = Arc::new(Relay::open().map_err(|source| SessionError::Machine {
        what: "listen on loopback",
        source,
    })?);
    let link = started.router.primary().link.clone();
    let (stop, stopped) = oneshot::channel();
    let mut server = Server::new(settings, started, Arc::clone(&relay), guests.clone(), stop);
    if let Some(at) = settings.directory.mount() {
        let (at, writable) = (at.to_owned(), settings.plan.files.may_write());
        let mounted = tokio::task::spawn_blocking(move || view::mount(&at, writable).map_err(io::Error::from)).await;
        let fuse = mounted
            .map_err(io::Error::other)
            .and_then(|mounted| mounted)
            .map_err(|source| SessionError::Machine {
                what: "mount the pod's files",
                source,
            })?;
        // It is served before anybody hears of it.
        server.serve_files(fuse, Some(members));
    }
    guests.send(&FromServer::Ready(Box::new(server.ready.clone())));
    let ended = tokio::select! {
        () = server.guests_loop(&mut received) => Ok(()),
        Ok(by) = stopped => Err(SessionError::Stopped { by }),
        reason = link.closed() => Err(SessionError::Lost(reason)),
        _ = supervisor.readable() => Ok(()),
    };
    if let Err(error) = &ended {
        guests.event(match error {
            SessionError::Stopped { by } => Event::Stopped { by: by.clone() },
            _ => Event::Lost {
                reason: error.failure().causes.join(": "),
            },
        });
        guests.send(&FromServer::Fatal(error.failure()));
        // The supervisor ends the app, which it can do better than we, and says when that is done; we only make sure of it.
        let gone = async {
            tokio::select! {
                () = server.guests_loop(&mut received) => {}
                _ = supervisor.readable() => {}
            }
        };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(10), gone).await;
    }
    server.end().await;
    ended
}

/// How long a session's end takes at most, but for what the app wrote last: after this a person is told what is waited for, and
/// may leave.
pub const GOODBYE: std::time::Duration = std::time::Duration::from_secs(5);

/// A running session.
struct Server {
    ready: Ready,
    router: Router,
    flows: Arc<Flows>,
    datagrams: Arc<Datagrams>,
    claims: Arc<Claims>,
    peers: Arc<Peers>,
    clients: Arc<Peers>,
    names: Arc<Names>,
    files: Arc<view::Files>,
    guests: Guests,
    tree: Tree,
    directory: PathBuf,
    underway: Underway,
}

impl Server {
    /// `stop` hears who ends the session.
    fn new(
        settings: &Settings,
        started: Started,
        relay: Arc<Relay>,
        guests: Guests,
        stop: oneshot::Sender<String>,
    ) -> Self {
        let Started {
            router,
            acceptor,
            mut events,
            facts,
            env,
            probes,
            incoming,
            terminated,
            target,
            connector,
        } = started;
        let names = Arc::new(Names::new(settings.plan.dns.clone(), &settings.resolv_conf));
        let warn = {
            let guests = guests.clone();
            Arc::new(move |message| guests.event(Event::Warning { message }))
        };
        let claims = Claims::new(incoming, probes)
            .with_terminated(terminated)
            .with_warnings(warn);
        let claims = Arc::new(if settings.check {
            claims.with_check(Checker::new(connector))
        } else {
            claims
        });
        let underway = Underway::default();
        let (peers, clients) = (Arc::new(Peers::default()), Arc::new(Peers::default()));
        tokio::spawn(incoming::serve(
            acceptor,
            Arc::clone(&claims),
            Arc::clone(&peers),
            Arc::clone(&clients),
            underway.clone(),
        ));
        tokio::spawn({
            let (claims, router, guests) = (Arc::clone(&claims), router.clone(), guests.clone());
            async move { claims.keep(&router, &guests).await }
        });
        tokio::spawn({
            let guests = guests.clone();
            async move {
                while let Some(event) = events.recv().await {
                    match agent_event(event) {
                        Told::Event(event) => guests.event(event),
                        Told::Stopped(by) => {
                            let _ = stop.send(by);
                            return;
                        }
                    }
                }
            }
        });
        let directory = settings.directory.path().to_owned();
        let mut rules = settings.plan.files.clone();
        rules.volumes = paths(&facts.volumes);
        rules.sizeless = paths(&facts.sizeless);
        let files = Arc::new(view::Files::new(
            Arc::new(router.primary().files.clone()),
            rules,
            view::Identity {
                uid: facts.uid,
                owner: settings.owner_shown,
            },
            view::ns::PodRoot {
                names: facts
                    .root
                    .iter()
                    .map(|(name, directory)| (name.0.clone(), *directory))
                    .collect(),
            },
            crate::directory::files(&directory),
            {
                let guests = guests.clone();
                Arc::new(move |message| guests.event(Event::Warning { message }))
            },
        ));
        let ready = Ready {
            env,
            hostname: facts.hostname.clone(),
            addresses: facts.addresses.clone(),
            relay_v4: relay.v4(),
            relay_v6: relay.v6(),
            volumes: facts.volumes.iter().map(|volume| volume.0.clone()).collect(),
            root: facts
                .root
                .iter()
                .map(|(name, directory)| (name.0.clone(), *directory))
                .collect(),
            nsswitch: nsswitch(&settings.nsswitch, facts.nsswitch_hosts.as_deref()).into_bytes(),
            directory: directory.as_os_str().as_bytes().to_vec(),
            target,
        };
        Self {
            ready,
            flows: Arc::new(Flows::new(router.clone(), relay, underway.clone())),
            datagrams: Arc::new(Datagrams::new(router.clone(), Arc::clone(&names), underway.clone())),
            router,
            claims,
            peers,
            clients,
            names,
            files,
            guests,
            tree: Tree::default(),
            directory,
            underway,
        }
    }

    /// Takes the supervisor's messages until it says that the app has ended.
    async fn guests_loop(&mut self, received: &mut mpsc::UnboundedReceiver<Received>) {
        while let Some((message, descriptors)) = received.recv().await {
            match message {
                ToServer::Call { id, call } => self.call(id, call),
                ToServer::Notice(Notice::End) => return,
                ToServer::Notice(notice) => self.notice(notice, descriptors),
            }
        }
        // The channel's end alone says nothing: the supervisor's pidfd does.
        std::future::pending::<()>().await;
    }

    fn call(&self, id: u32, call: Call) {
        let guests = self.guests.clone();
        match call {
            Call::Dial { flow, destination } => {
                tokio::spawn(Arc::clone(&self.flows).dial(flow, destination, move |answer| guests.answer(id, answer)));
            }
            Call::DialUnix { flow, path } => {
                let dial = unix::dial(
                    self.router.clone(),
                    self.directory.clone(),
                    flow,
                    path,
                    self.underway.clone(),
                );
                tokio::spawn(async move { guests.answer(id, dial.await) });
            }
            Call::UdpRelay { destination } => guests.answer(id, self.datagrams.relay(destination)),
            Call::Peer { address } => guests.answer(id, Answer::Peer(self.peers.of(address))),
            Call::DatagramPeer { address } => guests.answer(id, Answer::Peer(self.clients.of(address))),
            Call::Names { address } => guests.answer(id, Answer::Names(self.names.of(address))),
            Call::Resolve { name, families } => {
                let (router, names) = (self.router.clone(), Arc::clone(&self.names));
                tokio::spawn(async move { guests.answer(id, lookup(&router, &names, &name, &families).await) });
            }
            Call::Fetch { path, what } => {
                let files = Arc::clone(&self.files);
                tokio::spawn(async move {
                    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
                    let what = match what {
                        Fetch::Attributes => view::Fetch::Attributes,
                        Fetch::Content => view::Fetch::Content,
                    };
                    let fetched = files.fetch(&path, what).await;
                    let fetched = fetched
                        .map(|path| path.into_os_string().into_vec())
                        .map_err(|errno| Errno(errno.0));
                    guests.answer(id, Answer::Fetched(fetched));
                });
            }
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "a message is consumed by who handles it")]
    fn notice(&mut self, notice: Notice, mut descriptors: Vec<OwnedFd>) {
        match notice {
            Notice::Attach { flow, source } => Arc::clone(&self.flows).attach(flow, source),
            Notice::Abandon { flow } => self.flows.abandon(flow),
            Notice::Listen {
                socket,
                transport,
                asked,
                actual,
            } => self.claims.listen(socket, transport, asked, actual),
            Notice::Unlisten { socket } => self.claims.unlisten(socket),
            Notice::Process { pid } => self.tree.add(pid),
            Notice::Launched { pid } => self.tree.launched(pid, descriptors.pop()),
            Notice::Fuse => {
                if let Some(fuse) = descriptors.pop() {
                    self.serve_files(fuse, None);
                }
            }
            Notice::End => {}
        }
    }

    fn serve_files(&self, fuse: OwnedFd, members: Option<Members>) {
        let (files, guests) = (Arc::clone(&self.files), self.guests.clone());
        tokio::spawn(async move {
            if let Err(error) = files.serve(fuse, members).await {
                guests.event(Event::Warning {
                    message: format!("the pod's files are gone: {error}"),
                });
            }
        });
    }

    /// Says goodbye to the agent, so that claims end at once, ends what is left of the app, and waits until the pod has what
    /// that said last.
    async fn end(self) {
        let Self {
            router,
            claims,
            guests,
            underway,
            mut tree,
            ..
        } = self;
        let control = &router.primary().control;
        if let Some(ports) = claims.terminated() {
            ports.tell_unused();
        }
        let farewell = async { tokio::join!(claims.tell_counts(control, &guests), goodbye(control)) };
        let last = async {
            let _ = tokio::task::spawn_blocking(move || tree.end()).await;
            last_words(control, &underway).await
        };
        let ended = async { tokio::join!(farewell, last).1 };
        tokio::pin!(ended);
        let left = match tokio::time::timeout(GOODBYE, &mut ended).await {
            Ok(left) => left,
            Err(_) => {
                guests.event(Event::Warning {
                    message: "what the program wrote last is still on its way to the pod: Ctrl-C leaves it to get there by itself".to_owned(),
                });
                ended.await
            }
        };
        if left > 0 {
            guests.event(Event::Warning {
                message: format!(
                    "{left} connections did not take what the program wrote last: nothing of it has moved for {} s, and they are reset",
                    wire::underway::PATIENCE.as_secs()
                ),
            });
        }
    }
}

/// Waits until the pod has all that the app has said, or does not take it: how many connections.
async fn last_words(control: &ControlClient, underway: &Underway) -> usize {
    underway.no_more();
    let left = underway.arrived().await;
    if !underway.was_used() {
        return left;
    }
    match control.call(RequestBody::Heard).await {
        Ok(ReplyBody::Heard(count)) => left.max(usize::try_from(count).unwrap_or(usize::MAX)),
        // What was on a link that is lost has been told as such.
        _ => left,
    }
}

/// Nobody waits for an agent that does not answer.
pub(crate) async fn goodbye(control: &ControlClient) {
    let goodbye = control.call(RequestBody::Goodbye);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), goodbye).await;
}

fn paths(told: &[Bytes]) -> Vec<PathBuf> {
    let path = |path: &Bytes| PathBuf::from(std::ffi::OsString::from_vec(path.0.clone()));
    told.iter().map(path).collect()
}

/// The machine's nsswitch.conf with the pod's `hosts:` line; without one in the pod, what glibc does without the file.
fn nsswitch(machine: &str, pod_hosts: Option<&str>) -> String {
    let hosts = pod_hosts.map_or("files dns", |line| line.trim_start_matches("hosts:").trim());
    let mut text: String = machine
        .lines()
        .filter(|line| !line.trim_start().starts_with("hosts:"))
        .map(|line| format!("{line}\n"))
        .collect();
    text.push_str(&format!("hosts: {hosts}\n"));
    text
}

/// What an event of the agent's is here.
pub(crate) enum Told {
    Event(Event),
    /// By whom.
    Stopped(String),
}

pub(crate) fn agent_event(event: wire::message::Event) -> Told {
    let warning = |message| Told::Event(Event::Warning { message });
    match event {
        wire::message::Event::MirrorDropped { port, connections } => warning(format!(
            "port {port}: {connections} connections were left out of the mirror, because it could not keep up"
        )),
        wire::message::Event::Warning(text) => warning(text),
        wire::message::Event::Stopped { by } => Told::Stopped(by),
        wire::message::Event::Reconnected { port, closed, left } => {
            Told::Event(Event::Reconnected { port, closed, left })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::nsswitch;

    #[test]
    fn the_pods_hosts_line_replaces_the_machines() {
        let machine = "passwd: files systemd\nhosts: files mdns4_minimal [NOTFOUND=return] resolve dns\n";
        assert_eq!(
            nsswitch(machine, Some("hosts: dns files")),
            "passwd: files systemd\nhosts: dns files\n"
        );
        assert_eq!(nsswitch(machine, None), "passwd: files systemd\nhosts: files dns\n");
    }
}
