//! Packet rules that send a pod's incoming TCP connections to a listener of ours, or keep datagrams from the app, and that
//! go when we go.
//!
//! Steal needs three things of the kernel: that new connections to some ports arrive at the agent instead of the app,
//! that what the agent passes on to the app carries the real client's address, and that nothing of this remains when
//! the agent is killed. One nf_tables table in the inet family does all of it: it has the owner flag, so it belongs to
//! a netlink socket and the kernel removes it with that socket. This crate speaks to nf_tables itself: the containers it
//! runs in have no `nft` or `iptables`.
//!
//! ```no_run
//! use std::collections::BTreeSet;
//! # fn main() -> Result<(), nft::Error> {
//! let socket = nft::Socket::open()?; // the process' first descriptor
//! let config = nft::Config { listener: 15100, ..nft::Config::default() };
//! nft::Table::probe(&socket, &config)?; // can it work here? changes nothing
//! println!("{} connections stay with the app", nft::older_connections(8080)?);
//! let mut table = nft::Table::create(&socket, &config)?;
//! table.set_ports(&BTreeSet::from([8080]))?; // the steal begins
//! let mark = table.add_client("10.244.0.21".parse().expect("an address"))?; // SO_MARK of the upstream socket
//! # let _ = mark;
//! table.set_ports(&BTreeSet::new())?; // it ends; open connections go on
//! table.remove()
//! # }
//! ```
//!
//! The rules, in nft's language (the sets and the maps change at run time):
//!
//! ```text
//! prerouting  nat  -99  tcp dport @refused ip ttl 64 ip saddr @nodes4 accept (and ip6 hoplimit, @nodes6)
//!                       tcp flags & (fin|syn|rst|ack) == syn tcp dport @ports redirect to :15100
//! output      nat -101  oif lo meta mark & 0xffff0000 != 0x1d0d0000 (SYN and @ports as above) dnat ip to :15100 (and ip6)
//! postrouting nat  100  meta mark & 0xffff0000 == 0x1d0d0000 snat ip to meta mark map @clients4 (and ip6, @clients6)
//! input    filter    0  tcp dport 15100 ct status & dnat == 0 drop
//! ```
//!
//! Datagrams are stolen without redirecting them, by a table of their own ([`DatagramTable`]):
//!
//! ```text
//! input    filter    0  meta l4proto udp meta pkttype host meta mark & 0xffff0000 != 0x1d0d0000 udp dport @ports drop
//! ```
//!
//! Only SYN is matched: with the first nat rule conntrack starts, sees connections that are already open as new, and
//! would redirect, that is reset, them.
//!
//! Invariant: nothing here is created without the owner flag; there is no path for older kernels.

#![forbid(unsafe_code)]

mod clients;
mod config;
mod datagrams;
mod diag;
mod error;
mod expr;
mod message;
mod original;
mod ruleset;
mod socket;
mod table;
mod uapi;

pub use clients::Mark;
pub use config::Config;
pub use datagrams::DatagramTable;
pub use diag::{
    Connection, Open, Spoke, connections, connections_to, datagram_sockets, listening, local_port, older_connections,
    open_connections,
};
pub use error::Error;
pub use original::original_destination;
pub use socket::Socket;
pub use table::{Table, holder};

/// Feeds arbitrary bytes to every decoder of kernel replies. Never panics.
pub fn fuzz(data: &[u8]) {
    for reply in message::replies(data) {
        let _ = (
            reply.errno(),
            ruleset::owner_of(reply.payload),
            diag::decode(reply.payload),
            diag::decode_open(reply.payload),
        );
    }
    let _ = (
        message::attribute(data, 7),
        ruleset::owner_of(data),
        diag::decode(data),
        diag::decode_open(data),
    );
}
