//! The tables: their sets, chains and rules.

use std::net::IpAddr;

use crate::clients::{MARK_MASK, Mark};
use crate::config::Config;
use crate::error::Step;
use crate::expr::{Compare, Rule};
use crate::message::Writer;
use crate::socket::{Batch, Message};
use crate::uapi::{self, Hook, chain, datatype, elem, msg, nfproto, nlm, rule, set, table};

/// Ports that are redirected.
const PORTS: &str = "ports";
/// Mark to source address.
const CLIENTS4: &str = "clients4";
const CLIENTS6: &str = "clients6";
/// Ports that the app refuses connections of the node to.
const REFUSED: &str = "refused";
/// The node's addresses.
const NODES4: &str = "nodes4";
const NODES6: &str = "nodes6";

/// What packets start with on Linux, and still have when no router has seen them.
const HOPS: u8 = 64;

/// After the usual -100: where a mesh sidecar redirects what comes from outside to itself, encrypted most likely, it stays
/// the sidecar's, and is ours when the sidecar hands it to the app over loopback. What it leaves alone is ours at once.
const PREROUTING_PRIORITY: i32 = -99;
/// Before the usual -100, so that a mesh sidecar's own output rules, which let loopback pass, do not decide first.
/// Conntrack is at -200; the kernel refuses nat chains before it.
const OUTPUT_PRIORITY: i32 = -101;

/// Builds the batch that creates everything.
pub(crate) fn create(config: &Config) -> Batch {
    let mut batch = Batch::new("creating the intercept table");
    let name = config.name.as_str();
    push_table(&mut batch, name);
    let sets = [
        (PORTS, datatype::SERVICE, 2, None),
        (CLIENTS4, datatype::MARK, 4, Some((datatype::IPV4, 4))),
        (CLIENTS6, datatype::MARK, 4, Some((datatype::IPV6, 16))),
        (REFUSED, datatype::SERVICE, 2, None),
        (NODES4, datatype::IPV4, 4, None),
        (NODES6, datatype::IPV6, 16, None),
    ];
    for (id, (set_name, key, key_length, data)) in (1u32..).zip(sets) {
        push_set(&mut batch, name, id, set_name, (key, key_length), data);
    }
    chains(&mut batch, config);
    batch
}

/// Builds the batch that creates the table of datagrams.
pub(crate) fn create_datagrams(config: &Config) -> Batch {
    let mut batch = Batch::new("creating the table of stolen datagrams");
    push_table(&mut batch, &config.name);
    push_set(&mut batch, &config.name, 1, PORTS, (datatype::SERVICE, 2), None);
    push_chain(&mut batch, config, "input", "filter", Hook::Input, 0);
    push_rule(&mut batch, config, "input", "keeping datagrams from the app", |rule| {
        rule.udp();
        rule.unicast();
        rule.mark(MARK_MASK, Compare::Different, config.mark);
        rule.destination_port_in(PORTS);
        rule.drop();
    });
    batch
}

fn push_table(batch: &mut Batch, name: &str) {
    batch.push(Message {
        kind: msg::NEWTABLE,
        flags: nlm::CREATE | nlm::EXCL,
        step: Step::Table,
        what: format!("table inet {name}"),
        body: body(|attrs| {
            attrs.text(table::NAME, name);
            attrs.u32(table::FLAGS, table::F_OWNER);
        }),
    });
}

/// A set, or with `data` a map; key and data are type and length.
fn push_set(batch: &mut Batch, table: &str, id: u32, name: &str, key: (u32, u32), data: Option<(u32, u32)>) {
    batch.push(part(msg::NEWSET, nlm::CREATE, format!("set {name}"), |attrs| {
        attrs.text(set::TABLE, table);
        attrs.text(set::NAME, name);
        attrs.u32(set::FLAGS, if data.is_some() { set::F_MAP } else { 0 });
        attrs.u32(set::KEY_TYPE, key.0);
        attrs.u32(set::KEY_LEN, key.1);
        if let Some((kind, length)) = data {
            attrs.u32(set::DATA_TYPE, kind);
            attrs.u32(set::DATA_LEN, length);
        }
        attrs.u32(set::ID, id);
    }));
}

fn chains(batch: &mut Batch, config: &Config) {
    let listener = config.listener;
    push_chain(
        batch,
        config,
        "prerouting",
        "nat",
        Hook::Prerouting,
        PREROUTING_PRIORITY,
    );
    for (family, nodes) in [(nfproto::IPV4, NODES4), (nfproto::IPV6, NODES6)] {
        push_rule(
            batch,
            config,
            "prerouting",
            "connections that the app refuses",
            |rule| {
                rule.tcp();
                rule.destination_port_in(REFUSED);
                rule.family(family);
                rule.hops_left(family, HOPS);
                rule.source_in(family, nodes);
                rule.accept();
            },
        );
    }
    push_rule(
        batch,
        config,
        "prerouting",
        "redirect of incoming connections",
        |rule| {
            rule.tcp();
            if config.own_addresses_only {
                rule.own_address();
            }
            rule.first_syn();
            rule.destination_port_in(PORTS);
            rule.redirect(listener);
        },
    );
    push_chain(batch, config, "output", "nat", Hook::Output, OUTPUT_PRIORITY);
    // A redirect would be to 127.0.0.1, from where no answer finds its way to a client's address that a mesh's proxy has kept.
    for family in [nfproto::IPV4, nfproto::IPV6] {
        push_rule(batch, config, "output", "redirect of local connections", |rule| {
            rule.tcp();
            rule.family(family);
            rule.out_on_loopback();
            rule.mark(MARK_MASK, Compare::Different, config.mark);
            rule.first_syn();
            rule.destination_port_in(PORTS);
            rule.another_port(family, listener);
        });
    }
    push_chain(batch, config, "postrouting", "nat", Hook::Postrouting, 100);
    for (family, map) in [(nfproto::IPV4, CLIENTS4), (nfproto::IPV6, CLIENTS6)] {
        push_rule(batch, config, "postrouting", "client's source address", |rule| {
            rule.tcp();
            rule.family(family);
            rule.mark(MARK_MASK, Compare::Equal, config.mark);
            rule.source_from_mark(family, map);
        });
    }
    push_chain(batch, config, "input", "filter", Hook::Input, 0);
    push_rule(
        batch,
        config,
        "input",
        "closing the listener to direct connections",
        |rule| {
            rule.tcp();
            rule.destination_port(listener);
            rule.not_redirected();
            rule.drop();
        },
    );
}

fn push_chain(batch: &mut Batch, config: &Config, name: &str, kind: &str, hook: Hook, priority: i32) {
    batch.push(part(
        msg::NEWCHAIN,
        nlm::CREATE,
        format!("{kind} chain {name}"),
        |attrs| {
            attrs.text(chain::TABLE, &config.name);
            attrs.text(chain::NAME, name);
            attrs.nest(chain::HOOK, |attrs| {
                attrs.u32(chain::HOOK_NUM, hook as u32);
                attrs.bytes(chain::HOOK_PRIORITY, &priority.to_be_bytes());
            });
            attrs.text(chain::TYPE, kind);
        },
    ));
}

fn push_rule(batch: &mut Batch, config: &Config, chain: &str, what: &str, expressions: impl FnOnce(&mut Rule<'_>)) {
    batch.push(part(
        msg::NEWRULE,
        nlm::CREATE | nlm::APPEND,
        format!("rule for {what}"),
        |attrs| {
            attrs.text(rule::TABLE, &config.name);
            attrs.text(rule::CHAIN, chain);
            attrs.nest(rule::EXPRESSIONS, |attrs| expressions(&mut Rule::new(attrs)));
        },
    ));
}

/// Takes the table away with all that is in it.
pub(crate) fn remove(name: &str) -> Batch {
    let mut batch = Batch::new("removing the intercept table");
    batch.push(change(msg::DELTABLE, format!("table inet {name}"), |attrs| {
        attrs.text(table::NAME, name);
    }));
    batch
}

/// Asks for one table by its name.
pub(crate) fn get(name: &str) -> Message {
    Message {
        flags: 0,
        ..change(msg::GETTABLE, String::new(), |attrs| {
            attrs.text(table::NAME, name);
        })
    }
}

/// Ports to take out of the set of redirected ones and to put in.
pub(crate) fn ports(name: &str, gone: &[u16], new: &[u16]) -> Batch {
    let mut batch = Batch::new("changing the redirected ports");
    push_ports(&mut batch, name, PORTS, gone, new);
    batch
}

/// Ports and addresses to take out of what is refused to the node, and to put in.
pub(crate) fn refused(name: &str, ports: (&[u16], &[u16]), nodes: (&[IpAddr], &[IpAddr])) -> Batch {
    let mut batch = Batch::new("changing what the app refuses");
    push_ports(&mut batch, name, REFUSED, ports.0, ports.1);
    for (kind, nodes) in [(msg::DELSETELEM, nodes.0), (msg::NEWSETELEM, nodes.1)] {
        for node in nodes {
            batch.push(match node {
                IpAddr::V4(ip) => elements_of(kind, name, NODES4, [(ip.octets(), None)]),
                IpAddr::V6(ip) => elements_of(kind, name, NODES6, [(ip.octets(), None)]),
            });
        }
    }
    batch
}

fn push_ports(batch: &mut Batch, name: &str, set: &str, gone: &[u16], new: &[u16]) {
    for (kind, ports) in [(msg::DELSETELEM, gone), (msg::NEWSETELEM, new)] {
        if !ports.is_empty() {
            let elements = ports.iter().map(|port| (port.to_be_bytes(), None));
            batch.push(elements_of(kind, name, set, elements));
        }
    }
}

/// Clients to take out of the maps and to put in.
pub(crate) fn clients(name: &str, gone: Option<(IpAddr, Mark)>, new: Option<(IpAddr, Mark)>) -> Batch {
    let mut batch = Batch::new("changing the clients' addresses");
    for (kind, client) in [(msg::DELSETELEM, gone), (msg::NEWSETELEM, new)] {
        let Some((ip, mark)) = client else { continue };
        let key = mark.get().to_ne_bytes();
        batch.push(match ip {
            IpAddr::V4(ip) => elements_of(kind, name, CLIENTS4, [(key, Some(ip.octets().to_vec()))]),
            IpAddr::V6(ip) => elements_of(kind, name, CLIENTS6, [(key, Some(ip.octets().to_vec()))]),
        });
    }
    batch
}

fn elements_of<K: AsRef<[u8]>>(
    kind: u8,
    table: &str,
    set: &str,
    elements: impl IntoIterator<Item = (K, Option<Vec<u8>>)>,
) -> Message {
    let message = change(kind, format!("elements of {set}"), |attrs| {
        attrs.text(elem::TABLE, table);
        attrs.text(elem::SET, set);
        attrs.nest(elem::ELEMENTS, |list| {
            for (key, data) in elements {
                list.nest(elem::LIST_ELEM, |element| {
                    element.nest(elem::KEY, |wrapped| wrapped.bytes(elem::VALUE, key.as_ref()));
                    if let Some(data) = data {
                        element.nest(elem::DATA, |wrapped| wrapped.bytes(elem::VALUE, &data));
                    }
                });
            }
        });
    });
    let flags = if kind == msg::NEWSETELEM { nlm::CREATE } else { 0 };
    Message { flags, ..message }
}

fn part(kind: u8, flags: u16, what: String, attrs: impl FnOnce(&mut Writer)) -> Message {
    Message {
        kind,
        flags,
        step: Step::Part,
        what,
        body: body(attrs),
    }
}

fn change(kind: u8, what: String, attrs: impl FnOnce(&mut Writer)) -> Message {
    Message {
        kind,
        flags: 0,
        step: Step::Change,
        what,
        body: body(attrs),
    }
}

fn body(attrs: impl FnOnce(&mut Writer)) -> Writer {
    let mut writer = Writer::default();
    attrs(&mut writer);
    writer
}

/// The owner's netlink port in the answer to [`get`].
pub(crate) fn owner_of(payload: &[u8]) -> Option<u32> {
    let attributes = payload.get(4..)?;
    let port = crate::message::attribute(attributes, uapi::table::OWNER)?;
    Some(u32::from_be_bytes(*port.first_chunk()?))
}
