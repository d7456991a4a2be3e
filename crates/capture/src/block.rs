//! A block of the ring to its frames. Pure. Layout: include/uapi/linux/if_packet.h, `tpacket_block_desc`,
//! `tpacket3_hdr`, `sockaddr_ll`; Documentation/networking/packet_mmap.rst.

/// Where `block_status` is in a block.
pub(crate) const STATUS: usize = 8;
/// `struct tpacket3_hdr`; `struct sockaddr_ll` follows.
const HEADER: usize = 48;
/// `sll_ifindex` and `sll_pkttype` in `sockaddr_ll`.
const INTERFACE: usize = 4;
const PACKET_TYPE: usize = 10;
/// Every network namespace's loopback has this index (LOOPBACK_IFINDEX in include/net/flow.h).
const LOOPBACK: u32 = 1;

/// One captured packet, from its IP header on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub bytes: &'a [u8],
    /// Bytes that the packet had; more than `bytes` when it was cut.
    pub length: usize,
    pub direction: Direction,
    pub loopback: bool,
}

/// `sll_pkttype`. On loopback every packet is seen twice, once in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// PACKET_HOST: received, for us.
    Incoming,
    /// Anything else: sent by us, or not for us.
    Other,
}

/// The frames of a block; ends early where the block makes no sense.
pub(crate) fn frames(block: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let count = word(block, STATUS + 4).unwrap_or(0);
    let mut at = word(block, STATUS + 8).and_then(|first| usize::try_from(first).ok());
    (0..count).map_while(move |_| {
        let header = block.get(at?..)?;
        let next = usize::try_from(word(header, 0)?).ok()?;
        let captured = usize::try_from(word(header, 12)?).ok()?;
        let length = usize::try_from(word(header, 16)?).ok()?;
        let network = usize::from(u16::from_ne_bytes(*header.get(26..28)?.first_chunk()?));
        let bytes = header.get(network..)?.get(..captured)?;
        let direction = match header.get(HEADER + PACKET_TYPE)? {
            0 => Direction::Incoming,
            _ => Direction::Other,
        };
        let loopback = word(header, HEADER + INTERFACE)? == LOOPBACK;
        // The last one has no next; without one no later frame could be found.
        at = if next == 0 { None } else { at?.checked_add(next) };
        Some(Frame {
            bytes,
            length,
            direction,
            loopback,
        })
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(packets: &[(&[u8], usize, u8, u32)]) -> Vec<u8> {
        let mut block = vec![0u8; 48];
        block[12..16].copy_from_slice(&u32::try_from(packets.len()).unwrap().to_ne_bytes());
        block[16..20].copy_from_slice(&48u32.to_ne_bytes());
        for (index, (bytes, length, kind, interface)) in packets.iter().enumerate() {
            let mut frame = vec![0u8; 80];
            let size = (80 + bytes.len()).next_multiple_of(16);
            let next = if index + 1 == packets.len() {
                0
            } else {
                u32::try_from(size).unwrap()
            };
            frame[0..4].copy_from_slice(&next.to_ne_bytes());
            frame[12..16].copy_from_slice(&u32::try_from(bytes.len()).unwrap().to_ne_bytes());
            frame[16..20].copy_from_slice(&u32::try_from(*length).unwrap().to_ne_bytes());
            frame[26..28].copy_from_slice(&80u16.to_ne_bytes());
            frame[HEADER + INTERFACE..][..4].copy_from_slice(&interface.to_ne_bytes());
            frame[HEADER + PACKET_TYPE] = *kind;
            frame.extend(*bytes);
            frame.resize(size, 0);
            block.extend(frame);
        }
        block
    }

    #[test]
    fn frames_come_in_order_with_their_direction_and_place() {
        let block = block(&[(b"one", 3, 0, 2), (b"two!", 9, 4, 1), (b"", 0, 3, 257)]);
        let read: Vec<_> = frames(&block)
            .map(|frame| (frame.bytes, frame.length, frame.direction, frame.loopback))
            .collect();
        assert_eq!(
            read,
            [
                (&b"one"[..], 3, Direction::Incoming, false),
                (b"two!", 9, Direction::Other, true),
                (b"", 0, Direction::Other, false)
            ]
        );
    }

    #[test]
    fn a_block_that_makes_no_sense_ends_the_reading() {
        let whole = block(&[(b"one", 3, 0, 2), (b"two", 3, 0, 2)]);
        for cut in 0..whole.len() {
            assert!(frames(&whole[..cut]).count() <= 2);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 127, 255] {
                let mut wrong = whole.clone();
                wrong[at] = value;
                let _ = frames(&wrong).take(1000).count();
            }
        }
    }
}
