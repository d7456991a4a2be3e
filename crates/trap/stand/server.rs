//! The stand-in for the session's server: speaks the guest protocol on its standard input's socket.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use guest::channel::Channel;
use guest::protocol::{Answer, Call, Errno, Fetch, FlowId, FromServer, Notice, Peer, Ready, ToServer, Transport};

use crate::options::{Fate, Options};
use crate::relay::{Relay, datagrams};

#[derive(Default)]
struct Flow {
    source: Option<SocketAddr>,
    remote: Option<TcpStream>,
}

struct State {
    channel: Channel,
    v4: Relay,
    v6: Option<Relay>,
    flows: Mutex<HashMap<FlowId, Flow>>,
    relays: Mutex<HashMap<SocketAddr, SocketAddr>>,
    peers: Mutex<HashMap<SocketAddr, Peer>>,
    clients: Mutex<HashMap<SocketAddr, Peer>>,
    fates: HashMap<SocketAddr, Fate>,
    addresses: Vec<IpAddr>,
    log: Option<Mutex<std::fs::File>>,
    delay: Duration,
}

/// Serves until the supervisor is gone.
pub(crate) fn serve(options: &Options) {
    let channel = Channel::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let v6 = std::net::TcpListener::bind("[::1]:0")
        .is_ok()
        .then(|| Relay::new("::1"));
    let state = Arc::new(State {
        channel,
        v4: Relay::new("127.77.0.1"),
        v6,
        flows: Mutex::default(),
        relays: Mutex::default(),
        peers: Mutex::default(),
        clients: Mutex::default(),
        fates: options.fates.iter().copied().collect(),
        addresses: options.addresses.clone(),
        log: options.events.as_ref().map(|path| {
            Mutex::new(
                std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .unwrap(),
            )
        }),
        delay: Duration::from_millis(options.delay_ms),
    });
    let ready = Ready {
        env: Vec::new(),
        hostname: options.hostname.clone(),
        addresses: options.addresses.clone(),
        relay_v4: state.v4.address,
        relay_v6: state.v6.as_ref().map(|relay| relay.address),
        volumes: Vec::new(),
        root: Vec::new(),
        nsswitch: Vec::new(),
        directory: Vec::new(),
        target: "stand-in".to_owned(),
    };
    state.channel.send(&FromServer::Ready(Box::new(ready)), &[]).unwrap();
    let mut kept = Vec::new();
    while let Ok((message, descriptors)) = state.channel.receive::<ToServer>() {
        kept.extend(descriptors);
        match message {
            ToServer::Call { .. } if options.server_dies => std::process::exit(0),
            ToServer::Call { id, call } => state.clone().call(id, call, options),
            ToServer::Notice(Notice::End) => return,
            ToServer::Notice(notice) => state.notice(&notice, options),
        }
    }
}

impl State {
    fn say(&self, line: &str) {
        if let Some(log) = &self.log {
            let _ = writeln!(log.lock().unwrap(), "server: {line}");
        }
    }

    fn answer(&self, id: u32, answer: Answer) {
        let _ = self.channel.send(&FromServer::Answer { id, answer }, &[]);
    }

    fn call(self: Arc<Self>, id: u32, call: Call, options: &Options) {
        match call {
            Call::Dial { flow, destination } => {
                std::thread::spawn(move || self.dial(id, flow, destination));
            }
            Call::DialUnix { path, .. } => {
                let path = Path::new(std::ffi::OsStr::from_bytes(&path));
                let known = options.unix.iter().find(|(remote, _)| remote == path);
                let answer = known
                    .map(|(_, local)| local.as_os_str().as_bytes().to_vec())
                    .ok_or(Errno(111));
                self.answer(id, Answer::UnixRelay(answer));
            }
            Call::UdpRelay { destination } => {
                self.say(&format!("udp relay {destination}"));
                let to = match self.fates.get(&destination) {
                    Some(Fate::To(to)) => *to,
                    Some(Fate::Fails(errno, _)) => return self.answer(id, Answer::Relay(Err(Errno(*errno)))),
                    None => destination,
                };
                let relay = *self
                    .relays
                    .lock()
                    .unwrap()
                    .entry(destination)
                    .or_insert_with(|| datagrams(to));
                self.answer(id, Answer::Relay(Ok(relay)));
            }
            Call::Peer { address } => {
                let peer = self.peers.lock().unwrap().get(&address).copied();
                self.answer(id, Answer::Peer(peer));
            }
            Call::DatagramPeer { address } => {
                self.say(&format!("datagram peer {}", address.ip()));
                let peer = self.clients.lock().unwrap().get(&address).copied();
                self.answer(id, Answer::Peer(peer));
            }
            Call::Names { address } => {
                let names = options.names.iter().filter(|(ip, _)| *ip == address);
                self.answer(id, Answer::Names(names.map(|(_, name)| name.clone()).collect()));
            }
            Call::Resolve { name, families } => {
                let known = options
                    .names
                    .iter()
                    .filter(|(ip, known)| *known == name && families.contains(&ip.is_ipv4()));
                let found: Vec<_> = known.map(|(ip, _)| *ip).collect();
                self.answer(
                    id,
                    Answer::Resolved(if found.is_empty() {
                        Err(Errno(2))
                    } else {
                        Ok(Some(found))
                    }),
                );
            }
            Call::Fetch { path, what } => {
                let answer = fetch(Path::new(std::ffi::OsStr::from_bytes(&path)), what, options);
                let answer = answer.map(|local| local.as_os_str().as_bytes().to_vec());
                self.answer(
                    id,
                    Answer::Fetched(answer.map_err(|error| Errno(error.raw_os_error().unwrap_or(5)))),
                );
            }
        }
    }

    fn dial(&self, id: u32, flow: FlowId, destination: SocketAddr) {
        self.say(&format!("dial {destination}"));
        std::thread::sleep(self.delay);
        let remote = match self.fates.get(&destination) {
            Some(Fate::To(to)) => TcpStream::connect(to).map_err(|error| error.raw_os_error().unwrap_or(5)),
            Some(Fate::Fails(errno, after)) => {
                std::thread::sleep(Duration::from_millis(*after));
                Err(*errno)
            }
            None => Err(111),
        };
        match remote {
            Ok(remote) => {
                let ip = self.addresses.iter().find(|ip| ip.is_ipv4() == destination.is_ipv4());
                let mut local = remote.local_addr().unwrap();
                if let Some(ip) = ip {
                    local.set_ip(*ip);
                }
                self.answer(id, Answer::Dialed(Ok(local)));
                self.flows.lock().unwrap().entry(flow).or_default().remote = Some(remote);
                self.join(flow);
            }
            Err(errno) => self.answer(id, Answer::Dialed(Err(Errno(errno)))),
        }
    }

    fn join(&self, flow: FlowId) {
        let mut flows = self.flows.lock().unwrap();
        let Some(Flow {
            source: Some(_),
            remote: Some(_),
        }) = flows.get(&flow)
        else {
            return;
        };
        let Some(Flow {
            source: Some(source),
            remote: Some(remote),
        }) = flows.remove(&flow)
        else {
            return;
        };
        drop(flows);
        let relay = if source.is_ipv4() {
            &self.v4
        } else {
            self.v6.as_ref().unwrap()
        };
        relay.join(source, remote);
    }

    fn notice(self: &Arc<Self>, notice: &Notice, options: &Options) {
        match *notice {
            Notice::Attach { flow, source } => {
                self.flows.lock().unwrap().entry(flow).or_default().source = Some(source);
                self.join(flow);
            }
            Notice::Listen {
                transport,
                asked,
                actual,
                ..
            } => {
                self.say(&format!("listen {asked}{transport} {actual}"));
                for client in 0..options.clients {
                    let state = self.clone();
                    std::thread::spawn(move || match transport {
                        Transport::Tcp => state.client(client, asked, actual),
                        Transport::Udp => state.datagram_client(client, asked, actual),
                    });
                }
            }
            Notice::Unlisten { .. } => self.say("unlisten"),
            Notice::Abandon { .. } => self.say("abandon"),
            Notice::Process { .. } | Notice::Launched { .. } | Notice::Fuse | Notice::End => {}
        }
    }

    /// One remote client: says its number and logs what the app answers.
    fn client(&self, number: usize, asked: u16, actual: SocketAddr) {
        let ip = if actual.ip().is_unspecified() {
            "127.0.0.1".parse().unwrap()
        } else {
            actual.ip()
        };
        let family = if actual.is_ipv4() || actual.ip().is_unspecified() {
            rustix::net::AddressFamily::INET
        } else {
            rustix::net::AddressFamily::INET6
        };
        let kind = rustix::net::SocketType::STREAM;
        let socket = rustix::net::socket_with(family, kind, rustix::net::SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::new(ip, 0)).unwrap();
        let from = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
        let pod = self.addresses.first().copied().unwrap_or(ip);
        let peer = Peer {
            client: SocketAddr::new("203.0.113.9".parse().unwrap(), 20_000 + number as u16),
            server: SocketAddr::new(pod, asked),
        };
        self.peers.lock().unwrap().insert(from, peer);
        rustix::net::connect(&socket, &SocketAddr::new(ip, actual.port())).unwrap();
        let mut stream = TcpStream::from(socket);
        let _ = writeln!(stream, "{number}");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut reply = String::new();
        let _ = stream.read_to_string(&mut reply);
        self.say(&format!("client {number} got {}", reply.trim()));
    }
}

impl State {
    /// One remote client: says its number by datagrams until the app answers.
    fn datagram_client(&self, number: usize, asked: u16, actual: SocketAddr) {
        let (own, to) = match actual.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() || ip.is_loopback() => ("127.77.0.2", IpAddr::from([127, 0, 0, 1])),
            IpAddr::V6(ip) if ip.is_unspecified() => ("::1", ip_of("::1")),
            other => ("::1", other),
        };
        let socket = UdpSocket::bind((own, 0)).unwrap();
        socket.connect((to, actual.port())).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let remote = if own == "::1" && number % 2 == 1 {
            "fd00::9"
        } else {
            "203.0.113.9"
        };
        let peer = Peer {
            client: SocketAddr::new(ip_of(remote), 20_000 + number as u16),
            server: SocketAddr::new(self.addresses.first().copied().unwrap_or(to), asked),
        };
        self.clients.lock().unwrap().insert(socket.local_addr().unwrap(), peer);
        let mut buffer = [0; 99];
        for _ in 0..20 {
            let _ = socket.send(number.to_string().as_bytes());
            if let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                return self.say(&format!("client {number} got {text}"));
            }
        }
    }
}

fn ip_of(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Fills the cache from the tree that stands for the pod's.
fn fetch(path: &Path, what: Fetch, options: &Options) -> std::io::Result<std::path::PathBuf> {
    let below = path.strip_prefix("/").unwrap_or(path);
    let (from, to) = (options.copy_from.join(below), options.cache.join(below));
    let metadata = std::fs::symlink_metadata(&from)?;
    std::fs::create_dir_all(to.parent().unwrap())?;
    if metadata.is_symlink() {
        if std::fs::symlink_metadata(&to).is_err() {
            std::os::unix::fs::symlink(std::fs::read_link(&from)?, &to)?;
        }
    } else if metadata.is_dir() {
        std::fs::create_dir_all(&to)?;
        if what == Fetch::Content {
            for entry in std::fs::read_dir(&from)? {
                fetch(&path.join(entry?.file_name()), Fetch::Attributes, options)?;
            }
        }
    } else {
        std::fs::copy(&from, &to)?;
    }
    Ok(to)
}
