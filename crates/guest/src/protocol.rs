//! Messages between the supervisor and the server of one session, over [`crate::channel::Channel`].
//!
//! The app's sockets stay the app's. An outgoing TCP connection takes three steps, in either order of the first two:
//! [`Call::Dial`] asks for the remote end, [`Notice::Attach`] says that the app's socket sits in SYN_SENT towards the
//! relay address from `source`; when both are there, the server binds the relay address and connects back (simultaneous
//! open), and the app's socket is connected. When the dial fails, the supervisor fails the app's socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::event::Event;

/// Names one outgoing flow; chosen by the supervisor, never reused in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowId(pub u64);

/// A socket for as long as any descriptor of it is open (`SO_COOKIE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SocketCookie(pub u64);

/// An errno of Linux x86-64, always positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Errno(pub i32);

/// What a port is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    Tcp,
    Udp,
}

/// What is said behind a port's number: nothing for TCP.
impl fmt::Display for Transport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => Ok(()),
            Self::Udp => out.write_str("/udp"),
        }
    }
}

/// From the supervisor (before the app starts: from the launching process) to the server.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToServer {
    Call { id: u32, call: Call },
    Notice(Notice),
}

/// Wants an [`Answer`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Call {
    /// Opens the remote end of a TCP flow: [`Answer::Dialed`].
    Dial { flow: FlowId, destination: SocketAddr },
    /// Opens the remote end of a unix stream flow: [`Answer::UnixRelay`], a path where the app's socket can connect once.
    DialUnix { flow: FlowId, path: Vec<u8> },
    /// Where datagrams for `destination` go on this machine: [`Answer::Relay`]. The same answer for the same destination
    /// for the life of the session, so callers cache it.
    UdpRelay { destination: SocketAddr },
    /// Whose connection arrived from `address` (the peer address of an accepted socket): [`Answer::Peer`].
    Peer { address: SocketAddr },
    /// The same for a datagram that arrived from `address`.
    DatagramPeer { address: SocketAddr },
    /// Names under which the app resolved `address`, newest first: [`Answer::Names`].
    Names { address: IpAddr },
    /// Looks a name up in the pod, for IPv4 (`true`) and IPv6 addresses as `families` has them: [`Answer::Resolved`].
    Resolve { name: String, families: Vec<bool> },
    /// Brings a path of the pod into the cache of the copy view: [`Answer::Fetched`].
    Fetch { path: Vec<u8>, what: Fetch },
}

/// How much of a path the copy view must have before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fetch {
    /// Attributes: a placeholder of the right type, size, mode and times; a symlink as itself.
    Attributes,
    /// Everything: a file's content, a directory's entries as placeholders.
    Content,
}

/// Wants no answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Notice {
    /// The app's socket for `flow` is in SYN_SENT from `source` towards the relay of its family.
    Attach { flow: FlowId, source: SocketAddr },
    /// The app gave the flow up.
    Abandon { flow: FlowId },
    /// The app listens, or has bound a socket for datagrams: `asked` is the port it bound, `actual` where it really listens
    /// on this machine.
    Listen {
        socket: SocketCookie,
        transport: Transport,
        asked: u16,
        actual: SocketAddr,
    },
    /// The listening socket is gone, or takes no more from clients.
    Unlisten { socket: SocketCookie },
    /// A process of the app's tree (thread group id); the server ends it when the supervisor is gone.
    Process { pid: u32 },
    /// The app's main process is launched; carries the listener's duplicate as a descriptor.
    Launched { pid: u32 },
    /// A mounted FUSE connection to serve; carries /dev/fuse as a descriptor.
    Fuse,
    /// The app has ended; the server says goodbye to the agent, unmounts, and exits.
    End,
}

/// From the server.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromServer {
    Answer {
        id: u32,
        answer: Answer,
    },
    Event(Event),
    /// Start-up is done: the app can be launched.
    Ready(Box<Ready>),
    /// The session cannot start or go on; nothing follows.
    Fatal(Failure),
}

/// Why a session ended, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// What happened, one sentence.
    pub message: String,
    /// The causes, outermost first, the cluster's own words verbatim.
    pub causes: Vec<String>,
    /// What to do.
    pub hints: Vec<String>,
}

impl Failure {
    /// The sources of an error, outermost first. Many messages repeat their source; it need not be read twice.
    #[must_use]
    pub fn causes(error: &dyn std::error::Error) -> Vec<String> {
        let mut said = vec![error.to_string()];
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !said.iter().any(|said| said.contains(&text)) {
                said.push(text);
            }
            source = cause.source();
        }
        said.split_off(1)
    }
}

/// Decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The target cannot be found or reached.
    Target,
    /// What was asked for is refused (steal without rights, a claim that overlaps).
    Refused,
    /// The link or the agent was lost while the app ran.
    Lost,
    /// Ours.
    Internal,
    /// This machine does not allow something that is needed.
    Machine,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// `local` is the pod's end of the connection.
    Dialed(Result<SocketAddr, Errno>),
    UnixRelay(Result<Vec<u8>, Errno>),
    Relay(Result<SocketAddr, Errno>),
    /// `None`: a connection, or a datagram, of this machine.
    Peer(Option<Peer>),
    Names(Vec<String>),
    /// `None`: the name is this machine's to answer.
    Resolved(Result<Option<Vec<IpAddr>>, Errno>),
    /// Where the path lies on this machine now.
    Fetched(Result<Vec<u8>, Errno>),
}

/// The two ends of a remote client's connection, as the pod sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub client: SocketAddr,
    pub server: SocketAddr,
}

/// What the launcher and the supervisor need to know of the target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    /// The target process' environment.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    pub hostname: String,
    pub addresses: Vec<IpAddr>,
    /// Where an app's IPv4 and IPv6 TCP sockets are connected while their remote end is opened; the listeners there have
    /// a full accept queue.
    pub relay_v4: SocketAddr,
    pub relay_v6: Option<SocketAddr>,
    /// Mount points of the pod's volumes.
    pub volumes: Vec<Vec<u8>>,
    /// The names in the pod's `/`, and whether each is a directory.
    pub root: Vec<(Vec<u8>, bool)>,
    /// Text for the app's /etc/nsswitch.conf: the machine's with the pod's `hosts:` line.
    pub nsswitch: Vec<u8>,
    /// The session's private directory on this machine (0700).
    pub directory: Vec<u8>,
    /// Words for the summary: "pod/web-abc, container web (node n1)".
    pub target: String,
}

/// Entry for fuzzing: any bytes as a message of either direction must not panic.
pub fn fuzz(data: &[u8]) {
    let _ = postcard::from_bytes::<ToServer>(data);
    let _ = postcard::from_bytes::<FromServer>(data);
}
