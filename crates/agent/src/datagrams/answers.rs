//! Answers to clients, from the pod's address and port although the real app's socket has both.
//!
//! A raw socket for each address of the pod sends them: the kernel makes the IP header, chooses the way, and takes what is
//! longer than the way allows into fragments.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use wire::message::Datagram;

use crate::mirror::OWN_MARKS;

/// Addresses of the pod that answers come from at a time.
const MAX_ADDRESSES: usize = 64;
const UDP: u8 = 17;
const HEADER: usize = 8;

#[derive(Default)]
pub(super) struct Answers(Mutex<HashMap<SocketAddr, Socket>>);

impl Answers {
    /// As a network would: what cannot be sent is lost.
    pub(super) fn send(&self, answer: &Datagram) {
        if let Err(error) = self.try_send(answer) {
            tracing::debug!(%error, client = %answer.client, server = %answer.server, "an answer was not sent");
        }
    }

    fn try_send(&self, answer: &Datagram) -> io::Result<()> {
        let packet = packet(answer).ok_or(io::ErrorKind::InvalidInput)?;
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = portless(answer.server);
        if !sockets.contains_key(&from) {
            if sockets.len() >= MAX_ADDRESSES {
                sockets.clear();
            }
            sockets.insert(from, open(from)?);
        }
        sockets[&from].send_to(&packet, &portless(answer.client).into())?;
        Ok(())
    }
}

/// As a raw socket names an end.
fn portless(mut address: SocketAddr) -> SocketAddr {
    address.set_port(0);
    address
}

/// A socket that sends from this address, and receives nothing: it would get a copy of all datagrams of the pod.
fn open(from: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(from), Type::RAW.nonblocking(), Some(Protocol::UDP))?;
    // BPF_RET | BPF_K: 0 bytes are kept.
    socket.attach_filter(&[SockFilter::new(6, 0, 0, 0)])?;
    socket.set_mark(OWN_MARKS.0)?;
    socket.bind(&from.into())?;
    Ok(socket)
}

/// The UDP header and the data; `None` where no packet can carry it or no such ends exist. Pure.
fn packet(answer: &Datagram) -> Option<Vec<u8>> {
    let data = &answer.data.0;
    let length = u16::try_from(HEADER + data.len()).ok()?;
    let mut packet = Vec::with_capacity(length.into());
    packet.extend(answer.server.port().to_be_bytes());
    packet.extend(answer.client.port().to_be_bytes());
    packet.extend(length.to_be_bytes());
    packet.extend([0; 2]);
    packet.extend(data);
    // RFC 768 and RFC 8200 8.1: the sum over a pseudo header, the UDP header and the data.
    let mut sum = u64::from(UDP) + u64::from(length);
    match (answer.server.ip(), answer.client.ip()) {
        (IpAddr::V4(server), IpAddr::V4(client)) => {
            sum += words(&server.octets()) + words(&client.octets());
        }
        (IpAddr::V6(server), IpAddr::V6(client)) => {
            sum += words(&server.octets()) + words(&client.octets());
        }
        _ => return None,
    }
    sum += words(&packet);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Zero would say that there is none.
    let checksum = match !(sum as u16) {
        0 => 0xffff,
        checksum => checksum,
    };
    packet[6..HEADER].copy_from_slice(&checksum.to_be_bytes());
    Some(packet)
}

fn words(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    bytes.chunks(2).map(word).sum()
}

#[cfg(test)]
mod tests {
    use wire::message::Bytes;

    use super::*;

    /// Header and data for both families; the last sum is zero, which is said otherwise.
    #[test]
    fn the_checksum_is_over_addresses_header_and_data() {
        for (client, server, data, checksum) in [
            ("10.0.0.2:40000", "10.0.0.1:53", &[104, 105, 33][..], [197, 246]),
            ("[fd00::2]:40000", "[fd00::1]:53", &[104, 105, 33][..], [223, 244]),
            ("127.0.0.1:1", "127.0.0.1:53", &[][..], [1, 166]),
            ("10.0.0.2:40000", "10.0.0.1:53", &[79, 98][..], [255, 255]),
        ] {
            let answer = Datagram {
                client: client.parse().unwrap(),
                server: server.parse().unwrap(),
                data: Bytes(data.to_vec()),
            };
            let packet = packet(&answer).unwrap();
            assert_eq!(packet[..2], 53_u16.to_be_bytes(), "{client}");
            assert_eq!(packet[2..4], answer.client.port().to_be_bytes(), "{client}");
            assert_eq!(packet[4..6], [0, 8 + data.len() as u8], "{client}");
            assert_eq!(packet[6..8], checksum, "{client}");
            assert_eq!(&packet[8..], data, "{client}");
        }
    }

    #[test]
    fn what_no_packet_can_carry() {
        let answer = |client: &str, length| Datagram {
            client: client.parse().unwrap(),
            server: "10.0.0.1:53".parse().unwrap(),
            data: Bytes(vec![0; length]),
        };
        assert!(packet(&answer("10.0.0.2:1", 65_527)).is_some());
        assert_eq!(packet(&answer("10.0.0.2:1", 65_528)), None);
        assert_eq!(packet(&answer("[fd00::2]:1", 1)), None);
    }
}
