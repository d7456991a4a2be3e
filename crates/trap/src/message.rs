//! `struct msghdr` and `struct mmsghdr` of a guest: what they point to is only ever copied.

use rustix::io::Errno;

use crate::memory::{Memory, Pointer};
use crate::notification::Pending;
use crate::sockaddr::MAX_ADDRESS;
use crate::sys::message::Datagram;

/// `UIO_MAXIOV`: most messages and most parts the kernel takes in one call.
pub(crate) const MAX_BATCH: usize = 1024;
/// Most control bytes that are copied.
const MAX_CONTROL: usize = 4096;
/// `sizeof(struct msghdr)` and, with the length behind it, of `struct mmsghdr`.
const SIZE: usize = 56;
const BATCH_SIZE: usize = 64;

/// One message header, and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    at: Pointer,
    name: Pointer,
    name_length: u32,
    parts: Pointer,
    part_count: u64,
    control: Pointer,
    control_length: u64,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|word| word.try_into().ok())
        .map_or(0, u64::from_ne_bytes)
}

impl Header {
    /// The header bytes of any origin.
    pub(crate) fn parse(at: Pointer, bytes: &[u8]) -> Self {
        Self {
            at,
            name: Pointer(word(bytes, 0)),
            name_length: word(bytes, 8) as u32,
            parts: Pointer(word(bytes, 16)),
            part_count: word(bytes, 24),
            control: Pointer(word(bytes, 32)),
            control_length: word(bytes, 40),
        }
    }

    /// Reads `count` headers from the pointer in `argument`.
    pub(crate) fn read(pending: &Pending, argument: usize, count: usize, batch: bool) -> Result<Vec<Self>, Errno> {
        let (at, size) = (pending.pointer(argument), if batch { BATCH_SIZE } else { SIZE });
        let bytes = pending.memory().read_vec(at, count * size)?;
        let one = |(index, bytes): (usize, &[u8])| Self::parse(at.plus((index * size) as u64), bytes);
        Ok(bytes.chunks_exact(size).enumerate().map(one).collect())
    }

    /// Writes `msg_len` of each header of a batch.
    pub(crate) fn write_lengths(pending: &Pending, argument: usize, lengths: &[usize]) -> Result<(), Errno> {
        for (index, length) in lengths.iter().enumerate() {
            let at = pending.pointer(argument).plus((index * BATCH_SIZE + SIZE) as u64);
            pending.memory().write(at, &(*length as u32).to_ne_bytes())?;
        }
        Ok(())
    }

    pub(crate) fn wants_name(&self) -> bool {
        !self.name.is_null()
    }

    /// The address bytes it carries; empty without.
    pub(crate) fn name(&self, memory: Memory<'_>) -> Result<Vec<u8>, Errno> {
        if self.name.is_null() {
            return Ok(Vec::new());
        }
        memory.read_vec(self.name, (self.name_length as usize).min(MAX_ADDRESS))
    }

    fn parts(&self, memory: Memory<'_>) -> Result<Vec<(Pointer, usize)>, Errno> {
        if self.part_count > MAX_BATCH as u64 {
            return Err(Errno::MSGSIZE);
        }
        let bytes = memory.read_vec(self.parts, self.part_count as usize * 16)?;
        Ok(bytes
            .chunks_exact(16)
            .map(|part| (Pointer(word(part, 0)), word(part, 8) as usize))
            .collect())
    }

    /// Data and control of a message to send, of at most `most` bytes.
    pub(crate) fn gather(&self, memory: Memory<'_>, most: usize) -> Result<(Vec<u8>, Vec<u8>), Errno> {
        let mut data = Vec::new();
        for (at, length) in self.parts(memory)? {
            if length > most - data.len() {
                return Err(Errno::MSGSIZE);
            }
            data.extend(memory.read_vec(at, length)?);
        }
        let length = if self.control.is_null() {
            0
        } else {
            self.control_length.min(MAX_CONTROL as u64) as usize
        };
        let control = memory.read_vec(self.control, length)?;
        // A source address of the pod's (IP_PKTINFO) would not exist here.
        Ok((data, if names_source(&control) { Vec::new() } else { control }))
    }

    /// How much data (at most `most`) and control it has room for.
    pub(crate) fn room(&self, memory: Memory<'_>, most: usize) -> Result<(usize, usize), Errno> {
        let room = self
            .parts(memory)?
            .iter()
            .fold(0_usize, |sum, (_, length)| sum.saturating_add(*length));
        let control = if self.control.is_null() {
            0
        } else {
            self.control_length.min(MAX_CONTROL as u64) as usize
        };
        Ok((room.min(most), control))
    }

    /// Writes a received datagram where the header says, and the header's own results.
    pub(crate) fn scatter(&self, memory: Memory<'_>, datagram: &Datagram, shown: &[u8]) -> Result<(), Errno> {
        let mut rest = &datagram.data[..];
        for (at, length) in self.parts(memory)? {
            let (now, later) = rest.split_at(length.min(rest.len()));
            memory.write(at, now)?;
            rest = later;
        }
        if self.wants_name() {
            memory.write(self.name, &shown[..shown.len().min(self.name_length as usize)])?;
            memory.write(self.at.plus(8), &(shown.len() as u32).to_ne_bytes())?;
        }
        memory.write(self.control, &datagram.control)?;
        memory.write(self.at.plus(40), &(datagram.control.len() as u64).to_ne_bytes())?;
        memory.write(
            self.at.plus(48),
            &(datagram.flags & !libc::MSG_CMSG_CLOEXEC).to_ne_bytes(),
        )
    }
}

/// Whether a control buffer of any origin chooses the source address.
pub(crate) fn names_source(control: &[u8]) -> bool {
    /// `sizeof(struct cmsghdr)`.
    const CMSG: usize = 16;
    let mut rest = control;
    while rest.len() >= CMSG {
        let length = word(rest, 0);
        let kind = word(rest, 8);
        let (level, kind) = (kind as u32 as i32, (kind >> 32) as i32);
        if matches!(
            (level, kind),
            (libc::IPPROTO_IP, libc::IP_PKTINFO) | (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
        ) {
            return true;
        }
        if length < CMSG as u64 || length > rest.len() as u64 {
            return false;
        }
        rest = rest.get((length as usize).next_multiple_of(8)..).unwrap_or(&[]);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_choice_is_found_among_others() {
        let mut control = Vec::new();
        for (level, kind) in [(17_i32, 103_i32), (libc::IPPROTO_IP, libc::IP_PKTINFO)] {
            control.extend(28_u64.to_ne_bytes());
            control.extend(level.to_ne_bytes());
            control.extend(kind.to_ne_bytes());
            control.extend([0; 16]);
        }
        assert!(names_source(&control));
        assert!(!names_source(&control[..32]));
        assert!(!names_source(&[0; 64]));
        assert!(!names_source(&[255; 64]));
    }
}
