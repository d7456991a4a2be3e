//! The table while it is held.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::clients::{Addition, Clients, Mark};
use crate::config::Config;
use crate::error::Error;
use crate::ruleset;
use crate::socket::Socket;

/// Ports at a time.
const PORTS: usize = 1024;
/// Addresses of a node.
const NODES: usize = 64;

/// The intercept rules of one network namespace. The kernel removes them when the [`Socket`] goes, that is when the
/// process ends for any reason; dropping the value removes them too.
///
/// Removing the table cuts connections that are still redirected: keep it until the last of them has closed.
#[derive(Debug)]
pub struct Table {
    socket: Socket,
    config: Config,
    ports: BTreeSet<u16>,
    refused: BTreeSet<u16>,
    nodes: BTreeSet<IpAddr>,
    clients: Clients,
    removed: bool,
}

impl Table {
    /// Says whether [`Table::create`] can work here: the kernel checks everything and takes it back. Nothing remains,
    /// no packet is touched.
    ///
    /// # Errors
    /// As [`Table::create`].
    pub fn probe(socket: &Socket, config: &Config) -> Result<(), Error> {
        config.validate()?;
        socket
            .check(&ruleset::create(config))
            .map_err(|error| name_holder(socket, config, error))
    }

    /// Creates the table, all of it at once, with no ports.
    ///
    /// # Errors
    /// [`Error::Permission`] without NET_ADMIN, [`Error::NoOwnerFlag`] before Linux 5.12, [`Error::Held`] while another
    /// holds a table of this name here, [`Error::Missing`] without nf_tables, [`Error::Config`].
    pub fn create(socket: &Socket, config: &Config) -> Result<Table, Error> {
        config.validate()?;
        socket
            .commit(&ruleset::create(config))
            .map_err(|error| name_holder(socket, config, error))?;
        Ok(Table {
            socket: socket.clone(),
            config: config.clone(),
            ports: BTreeSet::new(),
            refused: BTreeSet::new(),
            nodes: BTreeSet::new(),
            clients: Clients::new(config.mark),
            removed: false,
        })
    }

    /// Redirects exactly these ports from now on, atomically. Connections that exist are not touched: redirected ones
    /// go on through the listener, others go on directly. The empty set ends every steal at once. At most 1024 ports.
    ///
    /// # Errors
    /// [`Error::TooMany`], [`Error::Config`] for port 0 or the listener's own, [`Error::Kernel`]; then nothing changed.
    pub fn set_ports(&mut self, ports: &BTreeSet<u16>) -> Result<(), Error> {
        if ports.contains(&self.config.listener) {
            return Err(not_a_port(self.config.listener));
        }
        change_ports(&self.socket, &self.config.name, &mut self.ports, ports)
    }

    /// From now on exactly these ports, redirected or not, are left alone for connections that one of `nodes` has opened
    /// itself: nothing listens there, and so the kernel refuses them. What a node sends on for others, as to a Service
    /// that masquerades, has fewer hops left and is redirected. At most 1024 ports and 64 addresses.
    ///
    /// # Errors
    /// [`Error::TooMany`], [`Error::Config`] for port 0, [`Error::Kernel`]; then nothing changed.
    pub fn set_refused(&mut self, ports: &BTreeSet<u16>, nodes: &BTreeSet<IpAddr>) -> Result<(), Error> {
        check_ports(ports)?;
        if nodes.len() > NODES {
            return Err(Error::TooMany {
                what: "addresses of a node",
                limit: NODES,
            });
        }
        let ((ports_gone, ports_new), (nodes_gone, nodes_new)) =
            (changes(&self.refused, ports), changes(&self.nodes, nodes));
        if [ports_gone.len(), ports_new.len(), nodes_gone.len(), nodes_new.len()] == [0; 4] {
            return Ok(());
        }
        self.socket.commit(&ruleset::refused(
            &self.config.name,
            (&ports_gone, &ports_new),
            (&nodes_gone, &nodes_new),
        ))?;
        self.refused.clone_from(ports);
        self.nodes.clone_from(nodes);
        Ok(())
    }

    /// The ports that are redirected.
    #[must_use]
    pub fn ports(&self) -> &BTreeSet<u16> {
        &self.ports
    }

    /// The mark for a connection to the real app that stands for this client; set it (SO_MARK) before connecting. The
    /// app sees the client's address. The port is kept when the socket is bound to the client's port before connecting
    /// and no other connection uses it; otherwise it is the socket's own.
    ///
    /// The same client has the same mark; each call counts, pair it with [`Table::remove_client`]. IPv4-mapped
    /// addresses are taken as IPv4. Only connections to an address of this namespace other than loopback can carry a
    /// foreign client's address; loopback is only ever reached by loopback.
    ///
    /// # Errors
    /// [`Error::Address`] for unspecified, multicast and broadcast addresses, [`Error::TooMany`] when 65534 clients have connections,
    /// [`Error::Kernel`].
    pub fn add_client(&mut self, client: IpAddr) -> Result<Mark, Error> {
        let client = client.to_canonical();
        let broadcast = matches!(client, IpAddr::V4(v4) if v4.is_broadcast());
        if client.is_unspecified() || client.is_multicast() || broadcast {
            return Err(Error::Address(client));
        }
        match self.clients.add(client)? {
            Addition::Known(mark) => Ok(mark),
            Addition::New { mark, evict } => {
                self.socket
                    .commit(&ruleset::clients(&self.config.name, evict, Some((client, mark))))?;
                self.clients.added(client, mark, evict);
                Ok(mark)
            }
        }
    }

    /// One connection of this client has ended, or has been established: its address was decided by its first packet.
    /// No system call; the address stays known until 1024 later clients have come and gone.
    pub fn remove_client(&mut self, client: IpAddr) {
        self.clients.remove(client.to_canonical());
    }

    /// A mark for connections of our own that stand for nobody: never redirected, own address kept.
    #[must_use]
    pub fn own_mark(&self) -> Mark {
        Mark::base(self.config.mark)
    }

    /// Removes the table now. The socket stays usable for another.
    ///
    /// # Errors
    /// [`Error::Kernel`] when the kernel refuses; the table then goes with the socket.
    pub fn remove(mut self) -> Result<(), Error> {
        self.take_away()
    }

    fn take_away(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.removed, true) {
            return Ok(());
        }
        self.socket.commit(&ruleset::remove(&self.config.name))
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // Nothing to be done about a failure: the table goes with the socket.
        let _ = self.take_away();
    }
}

/// Who holds the table of this name: the netlink port of its owner (normally the pid in the owner's PID namespace).
/// `None` when there is no such table, or it has no owner.
///
/// # Errors
/// [`Error::Permission`], [`Error::Missing`], [`Error::Kernel`].
pub fn holder(socket: &Socket, name: &str) -> Result<Option<u32>, Error> {
    let mut owner = None;
    socket.request(&ruleset::get(name), "reading the intercept table", |reply| {
        if reply.errno().is_none() {
            owner = ruleset::owner_of(reply.payload);
        }
    })?;
    Ok(owner)
}

/// Makes the table's port set what is wanted, and remembers it.
pub(crate) fn change_ports(
    socket: &Socket,
    table: &str,
    ports: &mut BTreeSet<u16>,
    wanted: &BTreeSet<u16>,
) -> Result<(), Error> {
    check_ports(wanted)?;
    let (gone, new) = changes(ports, wanted);
    if gone.is_empty() && new.is_empty() {
        return Ok(());
    }
    socket.commit(&ruleset::ports(table, &gone, &new))?;
    ports.clone_from(wanted);
    Ok(())
}

fn check_ports(ports: &BTreeSet<u16>) -> Result<(), Error> {
    if ports.len() > PORTS {
        return Err(Error::TooMany {
            what: "ports",
            limit: PORTS,
        });
    }
    if ports.contains(&0) {
        return Err(not_a_port(0));
    }
    Ok(())
}

/// What goes, and what comes.
fn changes<T: Ord + Copy>(before: &BTreeSet<T>, after: &BTreeSet<T>) -> (Vec<T>, Vec<T>) {
    (
        before.difference(after).copied().collect(),
        after.difference(before).copied().collect(),
    )
}

fn not_a_port(port: u16) -> Error {
    Error::Config {
        what: format!("port {port} cannot be redirected"),
    }
}

pub(crate) fn name_holder(socket: &Socket, config: &Config, error: Error) -> Error {
    match error {
        Error::Held { doing, .. } => {
            let holder = holder(socket, &config.name).unwrap_or_default();
            Error::Held {
                doing,
                table: config.name.clone(),
                holder,
            }
        }
        other => other,
    }
}
