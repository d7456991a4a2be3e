//! How the layer hands a call to the supervisor where no filter does it: one connection on a `SOCK_SEQPACKET` socket for
//! each call. The layer says which call it is, with its arguments and its descriptor; the supervisor answers, and before
//! that may ask for the caller's memory and write to it. Closing the connection gives the call up.
//!
//! Plain numbers in this machine's byte order, without allocation: the layer speaks it inside of the app's calls.

/// First bytes of a request: a stranger's connection is not one.
const MAGIC: u32 = 0x1d0d_ca11;
/// Bytes of a [`Request`] on the wire.
pub const REQUEST: usize = 64;
/// Bytes of a [`Reply`] on the wire.
pub const REPLY: usize = 24;
/// Most bytes that one reply may move from or to the caller's memory.
pub const MAX_MOVE: usize = 96 << 10;

/// Not a system call: which file on this machine stands for a path of the pod. Arguments: path, room for the answer (of
/// [`MAX_PATH`] bytes), what is wanted ([`CONTENT`], [`READ_ONLY`], [`AS_POD`],
/// [`WALK`], [`TEMPLATE`]). The answer is the length, 0 for "as it is".
pub const TRANSLATE: i64 = -2;
/// Not a system call: addresses of a name. Arguments: name, family, room for the answer, its size. The answer is its length:
/// records of [`ADDRESS`] bytes.
pub const RESOLVE: i64 = -3;
/// Wants a file's content, not only its attributes.
pub const CONTENT: u64 = 1;
/// The caller changes nothing: without it a path of the pod is refused, since under the layer alone those are only read.
pub const READ_ONLY: u64 = 2;
/// Wants the path as the pod calls it, its last link followed, not where it lies here.
pub const AS_POD: u64 = 4;
/// The caller goes on into what lies below, by inner calls that nobody sees: refused for a directory of the pod.
pub const WALK: u64 = 8;
/// The path is a template that the call changes where it lies.
pub const TEMPLATE: u64 = 16;
/// `PATH_MAX`.
pub const MAX_PATH: usize = 4096;
/// A record of [`RESOLVE`]: a family (4 or 6) and 16 bytes of address.
pub const ADDRESS: usize = 17;
/// In the fourth argument of a `getsockopt(-1, SOL_SOCKET, SO_ERROR)`: the layer works in this process.
pub const HELLO: u64 = 0x1d0d_e110;
/// The answer to it in a program that is to run untouched; else 0.
pub const SKIPPED: i64 = 1;

/// One call of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub number: i64,
    pub tid: u32,
    pub arguments: [u64; 6],
}

/// What the supervisor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The call's result: a value, or an errno as a negative number.
    Done(i64),
    /// The kernel runs the call as it is.
    Proceed,
    /// The descriptor that comes along is the call's result.
    Descriptor { close_on_exec: bool },
    /// Wants bytes of the caller's memory: one packet, a status byte and the bytes.
    Peek { address: u64, length: u64 },
    /// The next packet goes to the caller's memory; wants a status byte.
    Poke { address: u64, length: u64 },
}

impl Request {
    #[must_use]
    pub fn encode(&self) -> [u8; REQUEST] {
        let mut bytes = [0; REQUEST];
        bytes[..4].copy_from_slice(&MAGIC.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.tid.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_ne_bytes());
        for (index, argument) in self.arguments.iter().enumerate() {
            let at = 16 + 8 * index;
            bytes[at..at + 8].copy_from_slice(&argument.to_ne_bytes());
        }
        bytes
    }

    /// `None` for anything but a whole request.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; REQUEST] = bytes.try_into().ok()?;
        let words = [word(bytes, 0), word(bytes, 8)];
        (words[0] as u32 == MAGIC).then_some(Self {
            tid: (words[0] >> 32) as u32,
            number: words[1] as i64,
            arguments: core::array::from_fn(|index| word(bytes, 16 + 8 * index)),
        })
    }
}

impl Reply {
    #[must_use]
    pub fn encode(&self) -> [u8; REPLY] {
        let (tag, first, second) = match *self {
            Self::Done(value) => (1, value as u64, 0),
            Self::Proceed => (2, 0, 0),
            Self::Descriptor { close_on_exec } => (3, u64::from(close_on_exec), 0),
            Self::Peek { address, length } => (4_u64, address, length),
            Self::Poke { address, length } => (5, address, length),
        };
        let mut bytes = [0; REPLY];
        for (index, word) in [tag, first, second].into_iter().enumerate() {
            bytes[8 * index..8 * index + 8].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// `None` for anything but a whole reply.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; REPLY] = bytes.try_into().ok()?;
        let (address, length) = (word(bytes, 8), word(bytes, 16));
        Some(match word(bytes, 0) {
            1 => Self::Done(address as i64),
            2 => Self::Proceed,
            3 => Self::Descriptor {
                close_on_exec: address != 0,
            },
            4 => Self::Peek { address, length },
            5 => Self::Poke { address, length },
            _ => return None,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(bytes) = bytes.get(at..at + 8) {
        word.copy_from_slice(bytes);
    }
    u64::from_ne_bytes(word)
}

/// Entry for fuzzing: any bytes as a message of either direction must not panic.
#[cfg(feature = "std")]
pub fn fuzz(data: &[u8]) {
    let _ = (Request::decode(data), Reply::decode(data));
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_round_trip() {
        let request = Request {
            number: -2,
            tid: 77,
            arguments: [1, u64::MAX, 3, 4, 5, 6],
        };
        assert_eq!(Request::decode(&request.encode()), Some(request));
        for reply in [
            Reply::Done(-2),
            Reply::Proceed,
            Reply::Descriptor { close_on_exec: true },
            Reply::Peek { address: 9, length: 8 },
            Reply::Poke { address: 7, length: 6 },
        ] {
            assert_eq!(Reply::decode(&reply.encode()), Some(reply));
        }
        assert_eq!(Request::decode(&[0; REQUEST]), None);
        assert_eq!(Reply::decode(&[0; 3]), None);
    }
}
