//! Netlink messages: writing requests, reading replies. Pure.
//!
//! Layout: include/uapi/linux/netlink.h. A header of 16 bytes, then the payload; attributes are a length and a type of
//! 16 bits each, then the value; everything is padded to 4 bytes.

use crate::uapi::nlm;

/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// Writes messages one after the other into one buffer.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends one message; `body` writes what follows the header.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, sequence: u32, body: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        body(self);
        let length = u32::try_from(self.bytes.len() - start).expect("callers bound what they write");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |writer| writer.raw(value));
    }

    /// nf_tables numbers are big endian.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A string with its terminating zero.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |writer| {
            writer.raw(value.as_bytes());
            writer.raw(&[0]);
        });
    }

    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        self.attribute(kind | nlm::ATTR_NESTED, body);
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.raw(&[0, 0]);
        self.raw(&kind.to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start).expect("callers bound what they write");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// One message of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply<'a> {
    pub kind: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

impl Reply<'_> {
    /// For `NLMSG_ERROR`: the error as a positive number, 0 for an acknowledgement. For anything else `None`.
    pub(crate) fn errno(&self) -> Option<i32> {
        if self.kind != nlm::TYPE_ERROR {
            return None;
        }
        let code = self
            .payload
            .first_chunk::<4>()
            .map_or(-libc::EBADMSG, |bytes| i32::from_ne_bytes(*bytes));
        Some(code.saturating_neg())
    }
}

/// The messages of one datagram; ends at the first that is cut short.
pub(crate) fn replies(mut data: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    std::iter::from_fn(move || {
        let header = data.first_chunk::<HEADER>()?;
        let length = usize::try_from(u32::from_ne_bytes([header[0], header[1], header[2], header[3]])).ok()?;
        let message = data.get(..length).filter(|message| message.len() >= HEADER)?;
        let reply = Reply {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            payload: &message[HEADER..],
        };
        data = data.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(reply)
    })
}

/// The value of the first attribute of this type.
pub(crate) fn attribute(mut data: &[u8], kind: u16) -> Option<&[u8]> {
    while let Some(header) = data.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = data.get(4..length)?;
        if u16::from_ne_bytes([header[2], header[3]]) & nlm::ATTR_TYPE_MASK == kind {
            return Some(value);
        }
        data = data.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut writer = Writer::default();
        writer.message(7, nlm::REQUEST, 42, |body| {
            body.text(1, "inpod");
            body.nest(3, |inner| inner.u32(2, 0x0102_0304));
        });
        writer.message(nlm::TYPE_ERROR, 0, 43, |body| body.raw(&(-libc::EPERM).to_ne_bytes()));
        let read: Vec<_> = replies(writer.as_bytes()).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].sequence, read[0].errno()), (7, 42, None));
        assert_eq!(attribute(read[0].payload, 1), Some(&b"inpod\0"[..]));
        let nested = attribute(read[0].payload, 3).unwrap();
        assert_eq!(attribute(nested, 2), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attribute(nested, 9), None);
        assert_eq!((read[1].sequence, read[1].errno()), (43, Some(libc::EPERM)));
    }

    #[test]
    fn cut_and_hostile_replies_end_the_reading() {
        let mut writer = Writer::default();
        writer.message(nlm::TYPE_ERROR, 0, 1, |body| body.raw(&0i32.to_ne_bytes()));
        let whole = writer.as_bytes();
        for cut in 0..whole.len() {
            assert_eq!(replies(&whole[..cut]).count(), 0, "cut at {cut}");
        }
        let mut lying = whole.to_vec();
        lying[0..4].copy_from_slice(&3u32.to_ne_bytes());
        assert_eq!(replies(&lying).count(), 0);
        assert_eq!(attribute(&[0, 0, 1, 0, 9, 9, 9, 9], 1), None);
        assert_eq!(attribute(&[255, 255, 1, 0], 1), None);
    }
}
