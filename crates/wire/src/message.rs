//! What passes over the link. Every type here is a wire type: enums are append-only, nothing is reordered, golden bytes in
//! the tests say so. Types of other crates never appear.

use std::net::{IpAddr, SocketAddr};

use rules::Term;
use serde::{Deserialize, Serialize};

use crate::xattr::at_most;

pub use crate::arrivals::{Datagram, Datagrams};
pub use crate::change::{Change, Changed, Create, Object, SetAttributes, SetTime};
pub use crate::check::{Check, CheckOutcome, Checked, MAX_CONNECTIONS, MAX_SERVICES, ServiceAddress};
pub use crate::sessions::{ClaimEntry, Counts, MAX_FILTER_TEXT, SessionEntry};
pub use crate::tls::{MAX_PEM, Pem, Terminated, Tls};
pub use crate::xattr::{MAX_XATTR_LIST, MAX_XATTR_NAME, MAX_XATTR_VALUE, Xattr, XattrKind, XattrKinds};

/// The longest encoded message in bytes, checked before decoding. File data is chunked below it.
pub const MAX_MESSAGE: usize = 1 << 20;
/// The longest path or name, in bytes (`PATH_MAX`).
pub const MAX_PATH: usize = 4096;
/// Most file bytes in one answer.
pub const MAX_READ: u32 = 512 << 10;
/// Most file bytes in one [`Change::Write`].
pub const MAX_WRITE: u32 = 512 << 10;

/// The first message on every stream: the service it wants. The opener may send data behind it in the same flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Open {
    /// Session to agent, once for each transport: [`Request`]s one way, [`Reply`]s and [`Event`]s the other.
    Control,
    /// Session to agent: an outgoing flow. The agent answers with one [`Dialed`]; then TCP and unix carry bytes with
    /// half-close, UDP carries length-prefixed datagrams ([`MAX_DATAGRAM`]).
    Dial(Dial),
    /// Session to agent, one or more: [`FileRequest`]s and [`FileReply`]s, answered in any order. Handles belong to the stream.
    Files,
    /// Agent to session: one connection of a claim.
    Incoming(Incoming),
    /// Agent to session, once for each claim of datagrams: [`Datagram`]s, and for a steal the app's answers back.
    Datagrams(Datagrams),
    /// As [`Self::Incoming`], of a client that speaks TLS: what was decrypted follows.
    Terminated(Terminated),
}

/// The longest datagram in bytes (UDP over IPv6 without jumbograms).
pub const MAX_DATAGRAM: usize = 65_535;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    pub destination: Destination,
    /// How long the agent tries, in milliseconds; 0 leaves it to the pod's kernel.
    pub timeout_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    Tcp(SocketAddr),
    /// A connected UDP socket in the pod.
    Udp(SocketAddr),
    /// A stream socket at this path in the target's root.
    Unix(#[serde(with = "bytes_field")] Vec<u8>),
}

/// The answer to [`Open::Dial`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialed {
    /// `local` is the pod's end (unspecified for unix sockets).
    Ok {
        local: SocketAddr,
    },
    Failed(Fault),
}

/// A failed call in the pod: its errno and what was being done, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}: {}", std::io::Error::from_raw_os_error(*errno))]
pub struct Fault {
    /// As on Linux x86-64.
    pub errno: i32,
    pub what: String,
}

/// Requests on the control stream, answered in any order by `id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub id: u32,
    pub body: RequestBody,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestBody {
    /// Who and where the target is.
    Facts,
    /// The target process' environment.
    Env,
    /// All claims of this session: declarative, replaces what was sent before; sent again after every re-attach.
    Claims(Vec<Claim>),
    /// A name looked up as the pod would.
    Resolve(Resolve),
    /// A heartbeat: answered by [`ReplyBody::Pong`].
    Ping,
    /// The session ends in order: its claims and flows may go at once.
    Goodbye,
    /// Who is at this agent, visitors left out ([`crate::hello::feature::VISITOR`]).
    Sessions,
    /// Ends another session by its [`SessionEntry::session`]; answered when it has ended.
    StopSession([u8; 16]),
    /// The TCP ports that something listens on in the pod.
    Listening,
    /// What this session holds and has held.
    Held,
    /// Whether connections through the pod's own addresses, and through Services, come to this session's claim of the port.
    Check(Check),
    /// Answered once everything that the session has said to the pod is the pod's, or nothing of it moves any more.
    Heard,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "facts are asked for once a session")]
pub enum ToSession {
    Reply(Reply),
    Event(Event),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub id: u32,
    pub body: ReplyBody,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "facts are asked for once a session")]
pub enum ReplyBody {
    Facts(Facts),
    /// Name and value pairs as in `/proc/<pid>/environ`, bytes as they are.
    Env(Vec<(Bytes, Bytes)>),
    /// One state for each claim, in the same order.
    Claims(Vec<ClaimState>),
    Resolved(Vec<Record>),
    Pong,
    Failed(Fault),
    /// In the order in which they came.
    Sessions(Vec<SessionEntry>),
    Stopped,
    /// In ascending order, each once, without the agent's own.
    Listening(Vec<u16>),
    /// Each claim that is or was in force, by port.
    Held(Vec<ClaimEntry>),
    /// One for each address of the pod, then one for each Service's, as they were named.
    Checked(Vec<Checked>),
    /// How many connections are left that have not taken all.
    Heard(u32),
}

/// Bytes that are not text: encoded as one run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Bytes(#[serde(with = "bytes_field")] pub Vec<u8>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub hostname: String,
    pub addresses: Vec<IpAddr>,
    /// Mount points of volumes in the target container (its mount table without the root, `/proc`, `/sys`, `/dev` and the
    /// runtime's own files).
    pub volumes: Vec<Bytes>,
    /// Mount points in the target container whose files may be longer than stat(2) says.
    pub sizeless: Vec<Bytes>,
    /// The names in the target's `/`, and whether each is a directory.
    pub root: Vec<(Bytes, bool)>,
    pub uid: u32,
    pub gid: u32,
    /// The target process' working directory.
    pub cwd: Bytes,
    /// The target's `/etc/resolv.conf`.
    pub resolv_conf: Bytes,
    /// The `hosts:` line of the target's `/etc/nsswitch.conf`, where it has one.
    pub nsswitch_hosts: Option<String>,
    /// Why each thing cannot be done by this agent; `None` where it can.
    pub limits: Limits,
}

/// What the agent's rights leave out, each with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    pub steal: Option<String>,
    pub mirror: Option<String>,
    pub files: Option<String>,
    pub env: Option<String>,
}

/// A wish for one port's incoming connections or datagrams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub port: u16,
    pub mode: ClaimMode,
    /// Of requests, in prefix notation; without terms every connection is wanted, whatever its protocol. Datagrams have none.
    pub filter: Vec<Term>,
    /// Requests that match one of these go to the real app in any case (the pod's own probes).
    pub probes: Vec<Probe>,
    /// Connections that were open before are closed once they are idle, so that their clients come back.
    pub reconnect: bool,
    /// Of a steal: TLS is terminated. Without, it is passed on as it is.
    pub tls: Option<Tls>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimMode {
    Mirror,
    Steal,
    /// The same for the UDP port of that number.
    MirrorDatagrams,
    StealDatagrams,
}

impl ClaimMode {
    /// The real app goes without.
    #[must_use]
    pub fn steals(self) -> bool {
        matches!(self, Self::Steal | Self::StealDatagrams)
    }

    #[must_use]
    pub fn is_datagrams(self) -> bool {
        matches!(self, Self::MirrorDatagrams | Self::StealDatagrams)
    }
}

/// One probe of the pod's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    Http {
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    },
    Tcp {
        port: u16,
        /// The pod's node, as the cluster knows it.
        nodes: Vec<IpAddr>,
    },
    Grpc {
        port: u16,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimState {
    /// In force. `older` connections were open before and stay with the real app until they close.
    Active { older: u32 },
    /// Not in force, and why.
    Refused(String),
    /// Another session holds it: its [`crate::Hello::session`], and who that is.
    Taken { session: [u8; 16], why: String },
}

impl ClaimState {
    /// Not in force after all; what was refused before keeps its reason.
    #[must_use]
    pub fn undone(self, why: &str) -> Self {
        match self {
            Self::Active { .. } => Self::Refused(why.to_owned()),
            refused => refused,
        }
    }
}

/// What the agent says unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Whole connections that were dropped from the mirror, since the session began.
    MirrorDropped { port: u16, connections: u64 },
    /// Something a person should know.
    Warning(String),
    /// Another session has ended this one: its claims are gone, the link follows. `by` is what that one's client calls
    /// itself.
    Stopped { by: String },
    /// Of the connections that were open before a claim with [`Claim::reconnect`]: so many were closed since, so many are
    /// open still.
    Reconnected { port: u16, closed: u32, left: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolve {
    pub name: String,
    /// DNS record type (RFC 1035 TYPE); 1 is A, 28 is AAAA.
    pub kind: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    Address(IpAddr),
    /// Any other type: its presentation form.
    Other {
        kind: u16,
        text: String,
    },
}

/// The header of an [`Open::Incoming`] stream; bytes of the client follow, and for a steal the app's answer goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    pub mode: ClaimMode,
    /// The pod port the client connected to.
    pub port: u16,
    pub client: SocketAddr,
    pub server: SocketAddr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRequest {
    pub id: u32,
    pub body: FileOperation,
}

/// Paths are absolute in the target's root; the agent resolves them inside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileOperation {
    /// Attributes; symlinks in the last component are not followed. A batch: every component of a deep path at once.
    Stat(Vec<Bytes>),
    /// A directory with the attributes of its entries; `cookie` 0 begins.
    List {
        path: Bytes,
        cookie: u64,
    },
    ReadLink(Bytes),
    /// Opens for reading and brings the first bytes along. A file that fits is closed at once by the agent: no handle.
    Open {
        path: Bytes,
        first: u32,
    },
    Read {
        handle: u64,
        offset: u64,
        length: u32,
    },
    Close(u64),
    /// File system figures of `/`.
    StatFs,
    /// The value of an extended attribute. What [`XattrKind`] does not name is not there.
    Xattr {
        path: Bytes,
        #[serde(deserialize_with = "at_most::<MAX_XATTR_NAME, _>")]
        name: Bytes,
    },
    /// What a cold open asks, in one answer: attributes along a path, links followed, and what the file at its end holds if
    /// that is a regular one of at most `first` bytes. Nothing is told of the first `known` components.
    Walk {
        path: Bytes,
        known: u32,
        first: u32,
    },
    /// Whole directories, to about so many bytes of answer; with `below` also those below them on the same file system, the
    /// nearest first.
    Tree {
        paths: Vec<Bytes>,
        below: bool,
        bytes: u32,
    },
    /// Regular files of at most [`MAX_SMALL`] bytes, each whole. Nothing else is opened, a link least of all.
    Contents(Vec<Bytes>),
    Change(Change),
    /// The extended attributes that [`XattrKind`] names of each, links not followed.
    Xattrs(Vec<Bytes>),
}

impl FileOperation {
    /// Whether whole directories or files are asked for. None of these names a handle.
    #[must_use]
    pub fn is_long(&self) -> bool {
        matches!(self, Self::List { .. } | Self::Tree { .. } | Self::Contents(_))
    }
}

/// The largest file that is brought along unasked, in bytes.
pub const MAX_SMALL: u32 = 256 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReply {
    pub id: u32,
    pub body: FileAnswer,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileAnswer {
    /// One for each path asked, an errno where it failed.
    Stat(Vec<Result<Attributes, i32>>),
    /// `next` 0 ends; the entries include neither `.` nor `..`.
    List {
        entries: Vec<Entry>,
        next: u64,
    },
    ReadLink(Bytes),
    Open {
        attributes: Attributes,
        handle: Option<u64>,
        data: Bytes,
    },
    /// Shorter than asked only at the end of the file.
    Read(Bytes),
    Closed,
    StatFs {
        blocks: u64,
        free: u64,
        available: u64,
        files: u64,
        free_files: u64,
        block_size: u32,
        name_max: u32,
    },
    Xattr(#[serde(deserialize_with = "at_most::<MAX_XATTR_VALUE, _>")] Bytes),
    Failed(i32),
    /// Each component in its order, up to the first that failed.
    Walk {
        steps: Vec<Step>,
        content: Option<Bytes>,
    },
    /// Directories that did not fit, or may not be read, are left out.
    Tree(Vec<Branch>),
    /// One for each path asked; `E2BIG` for what did not fit into the answer.
    Contents(Vec<Result<Whole, i32>>),
    Changed(Changed),
    /// One for each path asked; `E2BIG` for what did not fit into the answer.
    Xattrs(Vec<Result<Vec<Xattr>, i32>>),
}

/// One component of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub path: Bytes,
    /// With the target of a symlink, which the walk has followed.
    pub found: Result<(Attributes, Option<Bytes>), i32>,
}

/// A whole directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    pub path: Bytes,
    pub attributes: Attributes,
    pub entries: Vec<Entry>,
}

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    pub attributes: Attributes,
    pub data: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: Bytes,
    pub attributes: Attributes,
    /// Where a symlink points, so that a cold walk need not ask again.
    pub link: Option<Bytes>,
}

/// As `statx(2)` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    pub inode: u64,
    pub device: u64,
    /// Type and permission bits.
    pub mode: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub special_device: u64,
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
    /// Those that are there.
    pub xattrs: XattrKinds,
    /// A file that the target's user may not read.
    pub unreadable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// A `Vec<u8>` as one run of bytes instead of a sequence.
mod bytes_field {
    use serde::{Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Vec<u8>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}
