//! The program is run by a small interpreter, which also checks every jump.

use std::collections::BTreeSet;

use super::*;
use crate::packet::tests::{ipv4, ipv4_of, ipv6, ipv6_of, tcp};
use crate::packet::{ACK, FIN, RST, SYN};

struct Packet<'a> {
    bytes: &'a [u8],
    kind: u32,
    device: u32,
    mark: u32,
}

/// What the kernel would keep of the packet; loads beyond its end reject it.
fn run(program: &[sock_filter], packet: &Packet<'_>) -> u32 {
    let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
    let load = |at: u32, length: usize| -> Option<u32> {
        // There is no link header here: the network's is the first.
        let network = libc::SKF_NET_OFF.cast_unsigned();
        let at = if at >= network { at - network } else { at };
        let bytes = packet.bytes.get(usize::try_from(at).ok()?..)?.get(..length)?;
        Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    };
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let loaded = match code {
            LOAD => Some(match k.wrapping_sub(libc::SKF_AD_OFF.cast_unsigned()).cast_signed() {
                libc::SKF_AD_PROTOCOL => {
                    if packet.bytes.first().is_some_and(|b| b >> 4 == 6) {
                        IPV6
                    } else {
                        IPV4
                    }
                }
                libc::SKF_AD_PKTTYPE => packet.kind,
                libc::SKF_AD_IFINDEX => packet.device,
                libc::SKF_AD_MARK => packet.mark,
                other => panic!("metadata {other}"),
            }),
            LOAD_HALF => load(k, 2),
            LOAD_BYTE => load(k, 1),
            LOAD_HALF_X => load(x.wrapping_add(k), 2),
            LOAD_BYTE_X => load(x + k, 1),
            AND => Some(a & k),
            X_IS => {
                x = k;
                continue;
            }
            X_IS_IHL => {
                x = (load(k, 1).unwrap_or(0) & 0xf) * 4;
                continue;
            }
            EQUAL => {
                at += usize::from(if a == k { jt } else { jf });
                continue;
            }
            ANY_BIT => {
                at += usize::from(if a & k != 0 { jt } else { jf });
                continue;
            }
            GO => {
                at += usize::try_from(k).unwrap();
                continue;
            }
            RETURN => return k,
            other => panic!("instruction {other:#x}"),
        };
        match loaded {
            Some(value) => a = value,
            None => return 0,
        }
    }
}

#[test]
fn what_is_let_through() {
    let to = |flags| tcp((40000, 8080), 7, flags, 0, b"data");
    let of = |flags| tcp((8080, 40000), 7, flags, 0, b"data");
    let (host, out, other) = (PACKET_HOST, PACKET_OUTGOING, 3);
    let program = build(
        &BTreeSet::from([80, 8080, 9]),
        &Devices::Not(1),
        Some((0x1d0d_0000, 0xffff_0000)),
    );
    let mut udp = ipv4(0, 0, &to(ACK));
    udp[9] = 17;
    for (name, bytes, kind, device, mark, expect) in [
        ("client", ipv4(0, 0, &to(ACK)), host, 2, 0, WHOLE),
        ("client, options", ipv4(24, 0, &to(SYN)), host, 2, 0, WHOLE),
        ("client, ipv6", ipv6(&[], &to(ACK)), host, 2, 0, WHOLE),
        ("client, jumbogram", ipv6(&[(0, 8)], &to(ACK)), host, 2, 0, WHOLE),
        ("client, do not fragment", ipv4(0, 0x4000, &to(ACK)), host, 2, 0, WHOLE),
        ("own connection to such a port", ipv4(0, 0, &to(ACK)), out, 2, 0, 0),
        ("for another host", ipv4(0, 0, &to(ACK)), other, 2, 0, 0),
        ("server's data", ipv4(0, 0, &of(ACK)), out, 2, 0, 0),
        ("server's reset", ipv4(0, 0, &of(RST)), out, 2, 0, HEAD),
        ("server's reset, ipv6", ipv6(&[], &of(RST | ACK)), out, 2, 0, HEAD),
        ("server's end", ipv4(40, 0, &of(FIN | ACK)), out, 2, 0, HEAD),
        ("another port", ipv4(0, 0, &tcp((1, 2), 7, RST, 0, b"")), host, 2, 0, 0),
        ("another device", ipv4(0, 0, &to(ACK)), host, 1, 0, 0),
        ("our mark", ipv4(0, 0, &to(ACK)), host, 2, 0x1d0d_0007, 0),
        ("another mark", ipv4(0, 0, &to(ACK)), host, 2, 0x1d0e_0007, WHOLE),
        ("fragment", ipv4(0, 0x2000, &to(ACK)), host, 2, 0, 0),
        ("udp", udp, host, 2, 0, 0),
        ("other extension header", ipv6(&[(60, 8)], &to(ACK)), host, 2, 0, 0),
        ("longer hop-by-hop header", ipv6(&[(0, 16)], &to(ACK)), host, 2, 0, 0),
        ("empty", vec![], host, 2, 0, 0),
    ] {
        assert_eq!(
            run(
                &program,
                &Packet {
                    bytes: &bytes,
                    kind,
                    device,
                    mark
                }
            ),
            expect,
            "{name}"
        );
    }
}

#[test]
fn devices_and_the_largest_program() {
    let bytes = ipv4(0, 0, &tcp((40000, 65535), 7, SYN, 0, b""));
    let ports: BTreeSet<u16> = (65536u32 - 512..65536)
        .map(|port| u16::try_from(port).unwrap())
        .collect();
    for (devices, expect) in [
        (Devices::All, [true, true, true]),
        (Devices::Not(2), [true, false, true]),
        (Devices::These(vec![2]), [false, true, false]),
        (Devices::These((3..19).collect()), [false, false, true]),
    ] {
        let program = build(&ports, &devices, Some((1, 1)));
        assert!(program.len() < 4096, "{}", program.len());
        for (device, expect) in (1..).zip(expect) {
            let kept = run(
                &program,
                &Packet {
                    bytes: &bytes,
                    kind: PACKET_HOST,
                    device,
                    mark: 0,
                },
            );
            assert_eq!(kept != 0, expect, "{devices:?}, device {device}");
        }
    }
    let none = build(&BTreeSet::new(), &Devices::All, None);
    assert_eq!(
        run(
            &none,
            &Packet {
                bytes: &bytes,
                kind: PACKET_HOST,
                device: 2,
                mark: 0
            }
        ),
        0
    );
}

#[test]
fn which_datagrams_are_let_through() {
    let udp = |port: u16| {
        [
            &40_000_u16.to_be_bytes()[..],
            &port.to_be_bytes(),
            &[0, 12, 0, 0],
            b"data",
        ]
        .concat()
    };
    let program = build_datagrams(&BTreeSet::from([53, 5353]), Some((0x1d0d_0000, 0xffff_0000)));
    let kept = |bytes: &[u8], kind, mark| {
        let device = 2;
        run(
            &program,
            &Packet {
                bytes,
                kind,
                device,
                mark,
            },
        ) > 0
    };
    let (wanted, other) = (udp(53), udp(54));
    let mut later = ipv6_of(17, &[(44, 8)], &wanted);
    later[43] = 8;
    for (name, bytes, expect) in [
        ("ipv4", ipv4_of(17, 0, 0, &wanted), true),
        ("options", ipv4_of(17, 12, 0, &udp(5353)), true),
        ("do not fragment", ipv4_of(17, 0, 0x4000, &wanted), true),
        ("another port", ipv4_of(17, 0, 0, &other), false),
        ("the first of fragments", ipv4_of(17, 0, 0x2000, &wanted), true),
        ("a later one", ipv4_of(17, 0, 9, &wanted), false),
        ("tcp", ipv4_of(6, 0, 0, &wanted), false),
        ("ipv6", ipv6_of(17, &[], &wanted), true),
        ("ipv6, another port", ipv6_of(17, &[], &other), false),
        ("ipv6, hop by hop", ipv6_of(17, &[(0, 8)], &wanted), true),
        ("ipv6, the first of fragments", ipv6_of(17, &[(44, 8)], &wanted), true),
        ("ipv6, a later one", later, false),
        ("ipv6, tcp", ipv6_of(6, &[], &wanted), false),
    ] {
        assert_eq!(kept(&bytes, PACKET_HOST, 0), expect, "{name}");
        assert!(!kept(&bytes, PACKET_OUTGOING, 0), "{name}, sent");
        assert!(!kept(&bytes, 1, 0), "{name}, broadcast");
        assert!(!kept(&bytes, PACKET_HOST, 0x1d0d_0007), "{name}, our own");
    }
}
