//! The classic BPF program that decides what reaches the ring. Pure.
//!
//! For connections it runs on packets that begin with the IP header (SOCK_DGRAM). Let through are whole segments that come in for a
//! wanted port, and the heads of FIN and RST segments from a wanted port. IPv6 may carry one hop-by-hop header of 8
//! bytes (as in jumbograms), no other extension header. Instructions: Documentation/networking/filter.rst.

use std::collections::BTreeSet;

use libc::sock_filter;

/// Bytes kept of a segment that is wanted whole: everything.
const WHOLE: u32 = 0x7fff_ffff;
/// Bytes kept of a segment of which only the head counts: the longest IPv4 and TCP headers, or IPv6 with 8 more.
const HEAD: u32 = 128;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_HALF_X: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16;
const LOAD_BYTE_X: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16;
const X_IS: u16 = (libc::BPF_LDX | libc::BPF_W | libc::BPF_IMM) as u16;
const X_IS_IHL: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const GO: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const PACKET_HOST: u32 = 0;
const PACKET_OUTGOING: u32 = 4;
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const UDP: u32 = 17;
const IPV6_FRAGMENT: u32 = 44;

/// Which interfaces, by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Devices {
    All,
    /// All but this one.
    Not(u32),
    These(Vec<u32>),
}

/// Places that are jumped to; all jumps go forward.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Device,
    Ipv6,
    Transport,
    Client,
    Server,
    Fragment,
    Reject,
}

/// A program with labels. A conditional jump becomes two instructions, since its own reach is 255 only.
#[derive(Default)]
struct Program {
    code: Vec<sock_filter>,
    jumps: Vec<(usize, Label)>,
    labels: Vec<(Label, usize)>,
}

impl Program {
    fn push(&mut self, code: u16, k: u32) {
        self.code.push(sock_filter { code, jt: 0, jf: 0, k });
    }

    /// A packet's metadata (SKF_AD_OFF and the field).
    fn load_metadata(&mut self, field: libc::c_int) {
        self.push(LOAD, libc::SKF_AD_OFF.wrapping_add(field).cast_unsigned());
    }

    fn go(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(GO, 0);
    }

    fn go_if(&mut self, test: u16, k: u32, to: Label) {
        self.code.push(sock_filter {
            code: test,
            jt: 0,
            jf: 1,
            k,
        });
        self.go(to);
    }

    fn go_unless(&mut self, test: u16, k: u32, to: Label) {
        self.code.push(sock_filter {
            code: test,
            jt: 1,
            jf: 0,
            k,
        });
        self.go(to);
    }

    /// Returns `keep` when A is one of the ports.
    fn keep_ports(&mut self, ports: &BTreeSet<u16>, keep: u32) {
        for port in ports {
            self.code.push(sock_filter {
                code: EQUAL,
                jt: 0,
                jf: 1,
                k: u32::from(*port),
            });
            self.push(RETURN, keep);
        }
    }

    fn label(&mut self, label: Label) {
        self.labels.push((label, self.code.len()));
    }

    fn assemble(mut self) -> Vec<sock_filter> {
        for (at, to) in self.jumps {
            let place = self
                .labels
                .iter()
                .find(|(label, _)| *label == to)
                .map(|(_, place)| *place);
            let place = place.expect("every label is placed");
            self.code[at].k = u32::try_from(place - at - 1).expect("programs have at most 4096 instructions");
        }
        self.code
    }
}

/// Builds the program; 4 instructions a port and about 80 besides.
pub(crate) fn build(ports: &BTreeSet<u16>, devices: &Devices, ignore: Option<(u32, u32)>) -> Vec<sock_filter> {
    let mut program = Program::default();
    match devices {
        Devices::All => {}
        Devices::Not(index) => {
            program.load_metadata(libc::SKF_AD_IFINDEX);
            program.go_if(EQUAL, *index, Label::Reject);
        }
        Devices::These(indices) => {
            program.load_metadata(libc::SKF_AD_IFINDEX);
            for index in indices {
                program.go_if(EQUAL, *index, Label::Device);
            }
            program.go(Label::Reject);
        }
    }
    program.label(Label::Device);
    if let Some((value, mask)) = ignore {
        program.load_metadata(libc::SKF_AD_MARK);
        program.push(AND, mask);
        program.go_if(EQUAL, value & mask, Label::Reject);
    }
    transport_offset(&mut program);

    program.label(Label::Transport);
    program.load_metadata(libc::SKF_AD_PKTTYPE);
    program.go_if(EQUAL, PACKET_HOST, Label::Client);
    program.go_if(EQUAL, PACKET_OUTGOING, Label::Server);
    program.go(Label::Reject);

    program.label(Label::Client);
    program.push(LOAD_HALF_X, 2);
    program.keep_ports(ports, WHOLE);

    program.label(Label::Server);
    program.push(LOAD_BYTE_X, 13);
    program.go_unless(ANY_BIT, 0x05, Label::Reject); // FIN, RST
    program.push(LOAD_HALF_X, 0);
    program.keep_ports(ports, HEAD);

    program.label(Label::Reject);
    program.push(RETURN, 0);
    program.assemble()
}

/// Builds the program for datagrams: whole ones that come in for a wanted port, and the first of IPv6 fragments, which no
/// one can put together for a packet socket. It runs on packets of any link.
pub(crate) fn build_datagrams(ports: &BTreeSet<u16>, ignore: Option<(u32, u32)>) -> Vec<sock_filter> {
    let network = |offset: u32| libc::SKF_NET_OFF.cast_unsigned().wrapping_add(offset);
    let mut program = Program::default();
    program.load_metadata(libc::SKF_AD_PKTTYPE);
    program.go_unless(EQUAL, PACKET_HOST, Label::Reject);
    if let Some((value, mask)) = ignore {
        program.load_metadata(libc::SKF_AD_MARK);
        program.push(AND, mask);
        program.go_if(EQUAL, value & mask, Label::Reject);
    }
    program.load_metadata(libc::SKF_AD_PROTOCOL);
    program.go_if(EQUAL, IPV6, Label::Ipv6);
    program.go_unless(EQUAL, IPV4, Label::Reject);
    program.push(LOAD_BYTE, network(9));
    program.go_unless(EQUAL, UDP, Label::Reject);
    program.push(LOAD_HALF, network(6));
    program.go_if(ANY_BIT, 0x1fff, Label::Reject);
    program.push(X_IS_IHL, network(0));
    program.go(Label::Client);

    program.label(Label::Ipv6);
    program.push(X_IS, 40);
    program.push(LOAD_BYTE, network(6));
    program.go_if(EQUAL, UDP, Label::Client);
    program.push(X_IS, 48);
    program.go_if(EQUAL, IPV6_FRAGMENT, Label::Fragment);
    program.go_unless(EQUAL, 0, Label::Reject);
    program.push(LOAD_HALF, network(40));
    program.go_if(EQUAL, UDP << 8, Label::Client); // next is UDP, 8 bytes
    program.go(Label::Reject);

    program.label(Label::Fragment);
    program.push(LOAD_BYTE, network(40));
    program.go_unless(EQUAL, UDP, Label::Reject);
    program.push(LOAD_HALF, network(42));
    program.go_if(ANY_BIT, 0xfff8, Label::Reject);

    program.label(Label::Client);
    program.push(LOAD_HALF_X, network(2));
    program.keep_ports(ports, WHOLE);

    program.label(Label::Reject);
    program.push(RETURN, 0);
    program.assemble()
}

/// Leaves the TCP header's offset in X, for TCP that is not a fragment.
fn transport_offset(program: &mut Program) {
    program.load_metadata(libc::SKF_AD_PROTOCOL);
    program.go_if(EQUAL, IPV6, Label::Ipv6);
    program.go_unless(EQUAL, IPV4, Label::Reject);
    program.push(LOAD_BYTE, 9);
    program.go_unless(EQUAL, 6, Label::Reject);
    program.push(LOAD_HALF, 6);
    program.go_if(ANY_BIT, 0x3fff, Label::Reject);
    program.push(X_IS_IHL, 0);
    program.go(Label::Transport);

    program.label(Label::Ipv6);
    program.push(X_IS, 40);
    program.push(LOAD_BYTE, 6);
    program.go_if(EQUAL, 6, Label::Transport);
    program.go_unless(EQUAL, 0, Label::Reject);
    program.push(LOAD_HALF, 40);
    program.go_unless(EQUAL, 6 << 8, Label::Reject); // next is TCP, 8 bytes
    program.push(X_IS, 48);
}

#[cfg(test)]
mod tests;
