//! The few nf_tables expressions that the rules need, each one line of nft's language.
//!
//! A rule is a list of expressions over registers of 16 bytes; the first that does not match ends the rule. Names and
//! attributes: include/uapi/linux/netfilter/nf_tables.h; behaviour: net/netfilter/nft_*.c.

use crate::message::Writer;
use crate::uapi::{self, rule};

/// `NFT_REG_1`: every rule here needs only one register at a time.
const REGISTER: u32 = 1;

/// Writes the expressions of one rule.
pub(crate) struct Rule<'a> {
    writer: &'a mut Writer,
}

impl<'a> Rule<'a> {
    pub(crate) fn new(writer: &'a mut Writer) -> Rule<'a> {
        Rule { writer }
    }

    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Writer)) {
        self.writer.nest(rule::LIST_ELEM, |element| {
            element.text(rule::EXPR_NAME, name);
            element.nest(rule::EXPR_DATA, data);
        });
    }

    fn compare(&mut self, operation: Compare, value: &[u8]) {
        self.expression("cmp", |data| {
            data.u32(1, REGISTER);
            data.u32(2, operation as u32);
            data.nest(3, |wrapped| wrapped.bytes(uapi::elem::VALUE, value));
        });
    }

    /// `register & mask`, in the byte order that the register has.
    fn mask(&mut self, mask: &[u8]) {
        let zero = [0u8; 4];
        self.expression("bitwise", |data| {
            data.u32(1, REGISTER);
            data.u32(2, REGISTER);
            data.u32(3, u32::try_from(mask.len()).expect("masks here are at most 4 bytes"));
            data.nest(4, |wrapped| wrapped.bytes(uapi::elem::VALUE, mask));
            data.nest(5, |wrapped| wrapped.bytes(uapi::elem::VALUE, &zero[..mask.len()]));
        });
    }

    fn meta(&mut self, key: Meta) {
        self.expression("meta", |data| {
            data.u32(1, REGISTER);
            data.u32(2, key as u32);
        });
    }

    /// Bytes of the transport header.
    fn transport(&mut self, offset: u32, length: u32) {
        self.payload(2, offset, length); // NFT_PAYLOAD_TRANSPORT_HEADER
    }

    /// Bytes of the IP header.
    fn network(&mut self, offset: u32, length: u32) {
        self.payload(1, offset, length); // NFT_PAYLOAD_NETWORK_HEADER
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32) {
        self.expression("payload", |data| {
            data.u32(1, REGISTER);
            data.u32(2, base);
            data.u32(3, offset);
            data.u32(4, length);
        });
    }

    /// `meta l4proto tcp`
    pub(crate) fn tcp(&mut self) {
        self.meta(Meta::L4Proto);
        self.compare(Compare::Equal, &[6]);
    }

    /// `meta l4proto udp`
    pub(crate) fn udp(&mut self) {
        self.meta(Meta::L4Proto);
        self.compare(Compare::Equal, &[17]);
    }

    /// `meta pkttype host`: neither multicast nor broadcast.
    pub(crate) fn unicast(&mut self) {
        self.meta(Meta::PacketType);
        self.compare(Compare::Equal, &[0]);
    }

    /// `ip ttl hops` or `ip6 hoplimit hops`; the family must be known.
    pub(crate) fn hops_left(&mut self, nfproto: u8, hops: u8) {
        let offset = if nfproto == uapi::nfproto::IPV4 { 8 } else { 7 };
        self.network(offset, 1);
        self.compare(Compare::Equal, &[hops]);
    }

    /// `ip saddr @set` or `ip6 saddr @set`; the family must be known.
    pub(crate) fn source_in(&mut self, nfproto: u8, set: &str) {
        let (offset, length) = if nfproto == uapi::nfproto::IPV4 {
            (12, 4)
        } else {
            (8, 16)
        };
        self.network(offset, length);
        self.lookup(set, None);
    }

    /// `meta nfproto ipv4` or `ipv6`
    pub(crate) fn family(&mut self, nfproto: u8) {
        self.meta(Meta::NfProto);
        self.compare(Compare::Equal, &[nfproto]);
    }

    /// `tcp flags & (fin|syn|rst|ack) == syn`
    pub(crate) fn first_syn(&mut self) {
        self.transport(13, 1);
        self.mask(&[0x17]);
        self.compare(Compare::Equal, &[0x02]);
    }

    /// `tcp dport @set`, or udp's: they are in the same place
    pub(crate) fn destination_port_in(&mut self, set: &str) {
        self.transport(2, 2);
        self.lookup(set, None);
    }

    /// `tcp dport port`
    pub(crate) fn destination_port(&mut self, port: u16) {
        self.transport(2, 2);
        self.compare(Compare::Equal, &port.to_be_bytes());
    }

    /// `oif lo`
    pub(crate) fn out_on_loopback(&mut self) {
        self.meta(Meta::Oif);
        self.compare(Compare::Equal, &uapi::LOOPBACK_IFINDEX.to_ne_bytes());
    }

    /// `fib daddr type local`
    pub(crate) fn own_address(&mut self) {
        self.expression("fib", |data| {
            data.u32(1, REGISTER);
            data.u32(2, 3); // NFT_FIB_RESULT_ADDRTYPE
            data.u32(3, 2); // NFTA_FIB_F_DADDR
        });
        self.compare(Compare::Equal, &uapi::RTN_LOCAL.to_ne_bytes());
    }

    /// `meta mark & mask == value` or `!=`
    pub(crate) fn mark(&mut self, mask: u32, operation: Compare, value: u32) {
        self.meta(Meta::Mark);
        self.mask(&mask.to_ne_bytes());
        self.compare(operation, &value.to_ne_bytes());
    }

    /// `redirect to :port`
    pub(crate) fn redirect(&mut self, port: u16) {
        self.load_port(port);
        self.expression("redir", |data| data.u32(1, REGISTER));
    }

    /// `dnat ip to :port`: the address stays.
    pub(crate) fn another_port(&mut self, nfproto: u8, port: u16) {
        self.load_port(port);
        self.expression("nat", |data| {
            data.u32(1, 1); // NFT_NAT_DNAT
            data.u32(2, u32::from(nfproto));
            data.u32(5, REGISTER); // NFTA_NAT_REG_PROTO_MIN
        });
    }

    fn load_port(&mut self, port: u16) {
        self.expression("immediate", |data| {
            data.u32(1, REGISTER);
            data.nest(2, |wrapped| wrapped.bytes(uapi::elem::VALUE, &port.to_be_bytes()));
        });
    }

    /// `snat ip to meta mark map @map`; a mark that is not in the map ends the rule.
    pub(crate) fn source_from_mark(&mut self, nfproto: u8, map: &str) {
        self.meta(Meta::Mark);
        self.lookup(map, Some(REGISTER));
        self.expression("nat", |data| {
            data.u32(1, 0); // NFT_NAT_SNAT
            data.u32(2, u32::from(nfproto));
            data.u32(3, REGISTER);
        });
    }

    /// `ct status & dnat == 0`
    pub(crate) fn not_redirected(&mut self) {
        self.expression("ct", |data| {
            data.u32(1, REGISTER);
            data.u32(2, 2); // NFT_CT_STATUS
        });
        self.mask(&uapi::IPS_DST_NAT.to_ne_bytes());
        self.compare(Compare::Equal, &[0; 4]);
    }

    /// `drop`
    pub(crate) fn drop(&mut self) {
        self.verdict(0); // NF_DROP
    }

    /// `accept`: the chain is done with the packet.
    pub(crate) fn accept(&mut self) {
        self.verdict(1); // NF_ACCEPT
    }

    fn verdict(&mut self, code: u32) {
        self.expression("immediate", |data| {
            data.u32(1, 0); // NFT_REG_VERDICT
            data.nest(2, |wrapped| wrapped.nest(2, |verdict| verdict.u32(1, code)));
        });
    }

    fn lookup(&mut self, set: &str, into: Option<u32>) {
        self.expression("lookup", |data| {
            data.text(1, set);
            data.u32(2, REGISTER);
            if let Some(register) = into {
                data.u32(3, register);
            }
        });
    }
}

/// `enum nft_cmp_ops`.
#[derive(Clone, Copy)]
pub(crate) enum Compare {
    Equal = 0,
    Different = 1,
}

/// `enum nft_meta_keys`.
#[derive(Clone, Copy)]
enum Meta {
    Mark = 3,
    Oif = 5,
    NfProto = 15,
    L4Proto = 16,
    PacketType = 19,
}
