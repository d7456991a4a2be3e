//! An IP packet to its transport header, and to a TCP segment. Pure.
//!
//! Frames come as the kernel has them: merged by GRO up to 64 KiB and beyond, with checksums not yet filled in.
//! Checksums are not looked at: what reaches the tap from a virtual interface has none, and a network card's receive
//! path has checked it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const TCP: u8 = 6;
/// IPv6's fragment header (RFC 8200 4.5).
const FRAGMENT: u8 = 44;
/// IPv6 extension headers in one packet.
const EXTENSIONS: usize = 8;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// One TCP segment, or several that GRO merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub sequence: u32,
    /// Meaningless without ACK.
    pub acknowledged: u32,
    pub flags: u8,
    /// The option of SYN that says how large a segment may be.
    pub mss: Option<u16>,
    pub payload: &'a [u8],
    /// The packet was longer than what was captured of it.
    pub cut: bool,
}

impl Segment<'_> {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What the IP header says of a packet: where its transport header and its end are, and between whom it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    pub at: usize,
    pub end: usize,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// The first of several; later ones have no transport header and are not read.
    pub fragment: bool,
}

/// Reads a packet that begins with the IP header. `length` is its length on the wire, of which `frame` may be the
/// beginning.
pub(crate) fn parse(frame: &[u8], length: usize) -> Option<Segment<'_>> {
    let network = network(frame, length, TCP)?;
    if network.fragment {
        None
    } else {
        segment(frame, &network)
    }
}

/// The same for any transport protocol, up to where its header begins.
pub(crate) fn network(frame: &[u8], length: usize, protocol: u8) -> Option<Network> {
    match frame.first()? >> 4 {
        4 => network_v4(frame, length, protocol),
        6 => network_v6(frame, length, protocol),
        _ => None,
    }
}

fn network_v4(frame: &[u8], length: usize, protocol: u8) -> Option<Network> {
    let fixed: &[u8; 20] = frame.first_chunk()?;
    let header = usize::from(fixed[0] & 0xf) * 4;
    let fragment = u16::from_be_bytes([fixed[6], fixed[7]]);
    if header < 20 || fixed[9] != protocol || fragment & 0x1fff != 0 {
        return None;
    }
    // Zero in packets over 64 KiB (BIG TCP): then the frame's length counts.
    let end = match usize::from(u16::from_be_bytes([fixed[2], fixed[3]])) {
        0 => length,
        total => total,
    };
    let address = |at: usize| {
        fixed[at..]
            .first_chunk::<4>()
            .map(|bytes| IpAddr::from(Ipv4Addr::from(*bytes)))
    };
    Some(Network {
        at: header,
        end,
        source: address(12)?,
        destination: address(16)?,
        fragment: fragment & 0x2000 != 0,
    })
}

fn network_v6(frame: &[u8], length: usize, protocol: u8) -> Option<Network> {
    let fixed: &[u8; 40] = frame.first_chunk()?;
    let end = match usize::from(u16::from_be_bytes([fixed[4], fixed[5]])) {
        0 => length, // a jumbogram
        payload => 40 + payload,
    };
    let (mut next, mut at, mut fragment) = (fixed[6], 40, false);
    for _ in 0..EXTENSIONS {
        if next == protocol {
            let address = |at: usize| {
                fixed[at..]
                    .first_chunk::<16>()
                    .map(|b| IpAddr::from(Ipv6Addr::from(*b)))
            };
            return Some(Network {
                at,
                end,
                source: address(8)?,
                destination: address(24)?,
                fragment,
            });
        }
        let extension: &[u8; 4] = frame.get(at..)?.first_chunk()?;
        at += match next {
            // Hop-by-hop, routing, destination options.
            0 | 43 | 60 => (usize::from(extension[1]) + 1) * 8,
            FRAGMENT if u16::from_be_bytes([extension[2], extension[3]]) & 0xfff8 == 0 => {
                fragment = true;
                8
            }
            _ => return None,
        };
        next = extension[0];
    }
    None
}

fn segment<'a>(frame: &'a [u8], network: &Network) -> Option<Segment<'a>> {
    let Network { at, end, .. } = *network;
    let tcp: &[u8; 20] = frame.get(at..)?.first_chunk()?;
    let data = at + usize::from(tcp[12] >> 4) * 4;
    if data < at + 20 || data > end {
        return None;
    }
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    Some(Segment {
        source: SocketAddr::new(network.source, port(0)),
        destination: SocketAddr::new(network.destination, port(2)),
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        acknowledged: u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]),
        flags: tcp[13],
        mss: frame.get(at + 20..data).filter(|_| tcp[13] & SYN != 0).and_then(mss),
        // A link may pad short frames: what is behind the IP packet is not payload.
        payload: frame.get(data..end.min(frame.len())).unwrap_or_default(),
        cut: end > frame.len(),
    })
}

/// The maximum segment size among TCP's options (RFC 9293 3.1): a kind, and for most kinds a length and what it holds.
fn mss(mut options: &[u8]) -> Option<u16> {
    loop {
        options = match *options {
            [1, ref rest @ ..] => rest,
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([high, low])),
            // The end of the list, or what cannot be read.
            [] | [_] | [0, ..] | [_, 0 | 1, ..] => return None,
            [_, length, ..] => options.get(length.into()..)?,
        };
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn tcp(ports: (u16, u16), sequence: u32, flags: u8, options: usize, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(ports.0.to_be_bytes());
        bytes.extend(ports.1.to_be_bytes());
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(99u32.to_be_bytes());
        bytes.extend([u8::try_from((20 + options) / 4).unwrap() << 4, flags, 0, 0, 0, 0, 0, 0]);
        bytes.extend(vec![1; options]);
        bytes.extend(payload);
        bytes
    }

    pub(crate) fn ipv4(options: usize, fragment: u16, tcp: &[u8]) -> Vec<u8> {
        ipv4_of(TCP, options, fragment, tcp)
    }

    pub(crate) fn ipv4_of(protocol: u8, options: usize, fragment: u16, tcp: &[u8]) -> Vec<u8> {
        let total = u16::try_from(20 + options + tcp.len()).unwrap_or(0);
        let mut bytes = vec![0x40 | u8::try_from((20 + options) / 4).unwrap(), 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, protocol, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
        bytes.extend(vec![1; options]);
        bytes.extend(tcp);
        bytes
    }

    /// `extensions`: type and length of each.
    pub(crate) fn ipv6(extensions: &[(u8, usize)], tcp: &[u8]) -> Vec<u8> {
        ipv6_of(TCP, extensions, tcp)
    }

    pub(crate) fn ipv6_of(protocol: u8, extensions: &[(u8, usize)], tcp: &[u8]) -> Vec<u8> {
        let length = extensions.iter().map(|(_, length)| length).sum::<usize>() + tcp.len();
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(u16::try_from(length).unwrap_or(0).to_be_bytes());
        let mut types: Vec<u8> = extensions.iter().map(|(kind, _)| *kind).collect();
        types.push(protocol);
        bytes.extend([types[0], 64]);
        bytes.extend("fd00::2".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend("fd00::1".parse::<Ipv6Addr>().unwrap().octets());
        for ((_, length), next) in extensions.iter().zip(&types[1..]) {
            let mut extension = vec![0; *length];
            extension[0] = *next;
            extension[1] = u8::try_from(length / 8 - 1).unwrap();
            bytes.extend(extension);
        }
        bytes.extend(tcp);
        bytes
    }

    #[test]
    fn packets_of_every_shape_give_the_same_segment() {
        let bare = tcp((40000, 8080), 7, ACK, 12, b"hello");
        let big = tcp((40000, 8080), 7, ACK, 12, &vec![b'x'; 100_000]);
        for (name, packet, payload) in [
            ("ipv4", ipv4(0, 0, &bare), 5),
            ("ipv4 with options", ipv4(40, 0, &bare), 5),
            ("ipv4, do not fragment", ipv4(0, 0x4000, &bare), 5),
            ("ipv4 over 64 KiB", ipv4(0, 0, &big), 100_000),
            ("ipv6", ipv6(&[], &bare), 5),
            ("ipv6 with extensions", ipv6(&[(0, 8), (60, 24), (43, 16)], &bare), 5),
            ("ipv6 over 64 KiB", ipv6(&[(0, 8)], &big), 100_000),
        ] {
            let segment = parse(&packet, packet.len()).unwrap_or_else(|| panic!("{name}"));
            let seen = (
                segment.source.port(),
                segment.destination.port(),
                segment.sequence,
                segment.flags,
            );
            assert_eq!(seen, (40000, 8080, 7, ACK), "{name}");
            assert_eq!(segment.acknowledged, 99, "{name}");
            assert_eq!((segment.payload.len(), segment.cut), (payload, false), "{name}");
            let cut = parse(&packet[..packet.len() - 1], packet.len()).unwrap();
            assert_eq!((cut.payload.len(), cut.cut), (payload - 1, true), "{name}");
            if payload == 5 {
                let padded = [packet.clone(), vec![0; 9]].concat();
                assert_eq!(
                    parse(&padded, padded.len()).unwrap().payload,
                    b"hello",
                    "{name}, padded"
                );
            }
        }
    }

    #[test]
    fn the_largest_segment_that_a_client_takes() {
        for (options, expect) in [
            (&[2, 4, 5, 0xb4, 4, 2, 1, 1][..], Some(1460)),
            (&[1, 3, 3, 7, 2, 4, 2, 0x18], Some(536)),
            (&[0, 0, 0, 0, 2, 4, 2, 0x18], None),
            (&[4, 2, 1, 1], None),
            (&[2, 3, 5, 1], None),
            (&[9, 0, 2, 4], None),
            (&[9, 1, 2, 4], None),
            (&[9, 40, 2, 4], None),
            (&[1, 1, 1, 2], None),
            (&[], None),
        ] {
            for (flags, expect) in [(SYN, expect), (ACK, None)] {
                let mut bytes = tcp((1, 2), 7, flags, options.len(), b"");
                bytes[20..].copy_from_slice(options);
                let packet = ipv4(0, 0, &bytes);
                let segment = parse(&packet, packet.len()).unwrap();
                assert_eq!(segment.mss, expect, "{options:?}");
            }
        }
    }

    #[test]
    fn other_packets_are_none() {
        let bare = tcp((1, 2), 7, ACK, 0, b"");
        let mut udp = ipv4(0, 0, &bare);
        udp[9] = 17;
        let mut short_offset = bare.clone();
        short_offset[12] = 4 << 4;
        let mut long_offset = bare.clone();
        long_offset[12] = 15 << 4;
        for (name, packet) in [
            ("empty", vec![]),
            ("udp", udp),
            ("first fragment", ipv4(0, 0x2000, &bare)),
            ("later fragment", ipv4(0, 9, &bare)),
            ("ipv6 fragment", ipv6(&[(44, 8)], &bare)),
            ("too many extensions", ipv6(&[(60, 8); 9], &bare)),
            ("data offset too small", ipv4(0, 0, &short_offset)),
            ("data offset too large", ipv4(0, 0, &long_offset)),
            ("arp", vec![0; 60]),
        ] {
            assert_eq!(parse(&packet, packet.len()), None, "{name}");
        }
        for packet in [ipv4(0, 0, &bare), ipv6(&[(0, 8)], &bare)] {
            for cut in 0..packet.len() {
                assert_eq!(parse(&packet[..cut], cut), None, "cut at {cut}");
            }
        }
    }
}
