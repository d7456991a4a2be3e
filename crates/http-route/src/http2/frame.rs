//! Frames (RFC 9113 section 4.1).

/// The beginning of every connection (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Of a frame, before its payload.
pub(crate) const HEAD: usize = 9;
/// The longest payload that is let through, in bytes: the receive buffer holds a whole frame. Settings that allow more are
/// lowered to it on their way.
pub(crate) const MAX_PAYLOAD: usize = 32 << 10;
/// The longest payload that every peer takes, in bytes.
pub(crate) const SAFE_PAYLOAD: usize = 16 << 10;
/// The longest header block, in bytes.
pub(crate) const MAX_BLOCK: usize = 64 << 10;
/// What a connection and a stream may send at first, in bytes (section 6.9.2).
pub(crate) const WINDOW: i64 = 65_535;
/// The most that they may ever be allowed (section 6.9.1).
pub(crate) const MAX_WINDOW: i64 = (1 << 31) - 1;

pub(crate) mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub(crate) mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Error codes (section 7).
pub(crate) mod code {
    pub const PROTOCOL_ERROR: u32 = 0x1;
    pub const INTERNAL_ERROR: u32 = 0x2;
    pub const FLOW_CONTROL_ERROR: u32 = 0x3;
    pub const STREAM_CLOSED: u32 = 0x5;
    pub const FRAME_SIZE_ERROR: u32 = 0x6;
    pub const REFUSED_STREAM: u32 = 0x7;
    pub const CANCEL: u32 = 0x8;
}

pub(crate) mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Head {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, d, e, f, g] = bytes.first_chunk::<HEAD>()?;
        Some(Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            // The first bit is reserved.
            stream: u32::from_be_bytes([d, e, f, g]) & (u32::MAX >> 1),
        })
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame.
pub(crate) fn write(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A whole frame as one of another stream.
pub(crate) fn renumbered(frame: &[u8], stream: u32) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if let Some(place) = frame.get_mut(5..HEAD) {
        place.copy_from_slice(&stream.to_be_bytes());
    }
    frame
}

/// Appends a header block, in as many frames as it takes. `priority` is what stood before it.
pub(crate) fn write_block(stream: u32, end: bool, priority: &[u8], block: &[u8], out: &mut Vec<u8>) {
    let (first, mut rest) = block.split_at(block.len().min(SAFE_PAYLOAD - priority.len()));
    let last = |rest: &[u8]| if rest.is_empty() { flag::END_HEADERS } else { 0 };
    let mut flags = last(rest);
    if end {
        flags |= flag::END_STREAM;
    }
    if !priority.is_empty() {
        flags |= flag::PRIORITY;
    }
    write(kind::HEADERS, flags, stream, &[priority, first].concat(), out);
    while !rest.is_empty() {
        let (now, then) = rest.split_at(rest.len().min(SAFE_PAYLOAD));
        write(kind::CONTINUATION, last(then), stream, now, out);
        rest = then;
    }
}

/// The content of a payload that may be padded; `None` when the padding is longer than it.
pub(crate) fn unpadded(head: Head, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(flag::PADDED) {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(padding))?)
}

/// Priority (five bytes, or none) and fragment of a HEADERS payload; `None` when it is shorter than it says.
pub(crate) fn block(head: Head, payload: &[u8]) -> Option<(&[u8], &[u8])> {
    unpadded(head, payload)?.split_at_checked(if head.has(flag::PRIORITY) { 5 } else { 0 })
}

/// Identifiers and values of a SETTINGS payload; what is left over of an odd one is not looked at.
pub(crate) fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload.chunks_exact(6).map(|entry| {
        let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
        (u16::from_be_bytes([entry[0], entry[1]]), value)
    })
}

/// An error code.
pub(crate) fn code_in(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// The 31 bits of a window update, a stream or an increment.
pub(crate) fn number(payload: &[u8]) -> u32 {
    code_in(payload) & (u32::MAX >> 1)
}
