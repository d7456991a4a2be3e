//! The datagrams that come in for some ports, one by one, without a ring: who answers them cannot wait for a block of the
//! ring to be handed over.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::config::check_ports;
use crate::error::{Error, meaning};
use crate::filter;
use crate::packet;
use crate::sys::{Packet, Tap};

/// The longest packet: what its link may put before it, and IPv6's longest.
const BUFFER: usize = 256 + 40 + 65_535;
const UDP: u8 = 17;
const HEADER: usize = 8;

/// A running capture of the datagrams of the network namespace of the thread that opened it. Passive as
/// [`Capture`](crate::Capture) is: it sees what a packet filter of the pod drops afterwards, too.
///
/// Only what is for this namespace's own addresses, or passes through it; no multicast, no broadcast. IPv4 fragments come
/// put together, IPv6 ones do not: the first of them comes, as one that is not whole.
#[derive(Debug)]
pub struct Datagrams {
    tap: Tap,
    ignore_mark: Option<(u32, u32)>,
}

/// What came: one datagram, or several from one client that were sent as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival<'a> {
    /// Whose it is. A link-local address has the interface's index as its scope, here and in `server`.
    pub client: SocketAddr,
    /// Where it was sent.
    pub server: SocketAddr,
    /// Not all of it could be had: a fragment.
    pub whole: bool,
    data: &'a [u8],
    segment: Option<usize>,
}

impl<'a> Arrival<'a> {
    /// The datagrams in their order; an empty one is a datagram.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (data, size) = (self.data, self.segment.unwrap_or(usize::MAX).max(1));
        let empty = data.is_empty().then_some(data);
        empty.into_iter().chain(data.chunks(size))
    }
}

impl AsFd for Datagrams {
    /// Readable when something has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }
}

impl Datagrams {
    /// Begins. Packets with the mark `ignore_mark` (value, mask) are not seen.
    ///
    /// # Errors
    /// As [`Capture::open`](crate::Capture::open).
    pub fn open(ports: &BTreeSet<u16>, ignore_mark: Option<(u32, u32)>) -> Result<Self, Error> {
        check_ports(ports)?;
        let tap = Tap::open()?;
        tap.filter(&filter::build_datagrams(ports, ignore_mark))?;
        tap.listen()?;
        Ok(Self { tap, ignore_mark })
    }

    /// Captures exactly these ports from now on. At most 512.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Kernel`]; then nothing changed.
    pub fn set_ports(&self, ports: &BTreeSet<u16>) -> Result<(), Error> {
        check_ports(ports)?;
        self.tap.filter(&filter::build_datagrams(ports, self.ignore_mark))
    }

    /// The next one; `None` when there is none. Never blocks. The buffer is grown as is needed.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn next<'a>(&self, buffer: &'a mut Vec<u8>) -> Result<Option<Arrival<'a>>, Error> {
        buffer.resize(BUFFER, 0);
        loop {
            let packet = match self.tap.receive(buffer) {
                Ok(packet) => packet,
                Err(Errno::AGAIN) => return Ok(None),
                // One that this kernel cannot give out, or the interface's end.
                Err(Errno::INVAL | Errno::INTR | Errno::NETDOWN) => continue,
                Err(errno) => return Err(meaning("reading the packet socket")(errno)),
            };
            if arrival(buffer, &packet).is_some() {
                return Ok(arrival(buffer, &packet));
            }
        }
    }

    /// Datagrams that were lost since the last call, because they were not taken in time.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn lost(&self) -> Result<u64, Error> {
        self.tap.dropped()
    }
}

/// A packet to what arrived with it. Pure.
pub(crate) fn arrival<'a>(buffer: &'a [u8], packet: &Packet) -> Option<Arrival<'a>> {
    let frame = buffer.get(packet.network..packet.end)?;
    let network = packet::network(frame, packet.length, UDP)?;
    let header: &[u8; HEADER] = frame.get(network.at..)?.first_chunk()?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let begin = network.at + HEADER;
    // As long as UDP says, which is less where the link pads; zero in what is longer than 64 KiB.
    let end = match usize::from(word(4)) {
        0 => network.end,
        length => network.at + length,
    };
    if end < begin {
        return None;
    }
    let scoped = |ip: IpAddr, port| match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => SocketAddrV6::new(ip, port, 0, packet.interface).into(),
        ip => SocketAddr::new(ip, port),
    };
    Some(Arrival {
        client: scoped(network.source, word(0)),
        server: scoped(network.destination, word(2)),
        whole: !network.fragment && end <= frame.len(),
        data: frame.get(begin..end.min(frame.len())).unwrap_or_default(),
        segment: packet.segment,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::{ipv4_of, ipv6_of};

    fn udp(length: usize, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(40_000_u16.to_be_bytes());
        bytes.extend(53_u16.to_be_bytes());
        bytes.extend(u16::try_from(8 + length).unwrap().to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(payload);
        bytes
    }

    /// The packet behind a link's header.
    fn read(packet: &[u8], segment: Option<usize>, check: impl FnOnce(Option<Arrival<'_>>)) {
        let buffer = [&[0; 24], packet].concat();
        let packet = Packet {
            network: 24,
            end: buffer.len(),
            length: packet.len(),
            interface: 7,
            segment,
        };
        check(arrival(&buffer, &packet));
    }

    #[test]
    fn datagrams_of_both_families_with_padding_and_without_content() {
        let bytes = udp(5, b"hello");
        for (packet, client) in [
            (ipv4_of(17, 0, 0, &bytes), "10.0.0.2:40000"),
            (ipv4_of(17, 8, 0, &bytes), "10.0.0.2:40000"),
            (ipv6_of(17, &[], &bytes), "[fd00::2]:40000"),
            (ipv6_of(17, &[(0, 8)], &bytes), "[fd00::2]:40000"),
            ([ipv4_of(17, 0, 0, &bytes), vec![0; 13]].concat(), "10.0.0.2:40000"),
        ] {
            read(&packet, None, |arrival| {
                let arrival = arrival.unwrap();
                assert_eq!(arrival.client, client.parse().unwrap());
                assert_eq!(arrival.server.port(), 53);
                assert!(arrival.whole);
                assert_eq!(arrival.datagrams().collect::<Vec<_>>(), [b"hello"]);
            });
        }
        read(&ipv4_of(17, 0, 0, &udp(0, b"")), None, |arrival| {
            assert_eq!(arrival.unwrap().datagrams().collect::<Vec<_>>(), [b""]);
        });
    }

    #[test]
    fn what_was_sent_as_one_is_taken_apart() {
        read(&ipv4_of(17, 0, 0, &udp(7, b"aaabbbc")), Some(3), |arrival| {
            let arrival = arrival.unwrap();
            assert_eq!(arrival.datagrams().collect::<Vec<_>>(), [&b"aaa"[..], b"bbb", b"c"]);
        });
    }

    #[test]
    fn fragments_and_cut_ones_are_not_whole_and_others_are_not_read() {
        let bytes = udp(5, b"hello");
        for packet in [
            ipv4_of(17, 0, 0x2000, &bytes),
            ipv6_of(17, &[(44, 8)], &bytes),
            ipv4_of(17, 0, 0, &udp(6, b"hello")),
        ] {
            read(&packet, None, |arrival| assert!(!arrival.unwrap().whole));
        }
        let mut short = udp(5, b"hello");
        short[5] = 7;
        for packet in [
            ipv4_of(17, 0, 9, &bytes),
            ipv4_of(6, 0, 0, &bytes),
            ipv4_of(17, 0, 0, &short),
        ] {
            read(&packet, None, |arrival| assert_eq!(arrival, None));
        }
        let whole = ipv6_of(17, &[(0, 8)], &bytes);
        for cut in 0..40 + 8 + 8 {
            read(&whole[..cut], None, |arrival| assert_eq!(arrival, None, "cut at {cut}"));
        }
    }
}
