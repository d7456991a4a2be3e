//! The table that keeps stolen datagrams from the app.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::error::Error;
use crate::ruleset;
use crate::socket::Socket;
use crate::table::{change_ports, name_holder};

/// Drops the datagrams that come in for some ports, of one network namespace, before the app's sockets; packet sockets have
/// seen them by then. As [`Table`](crate::Table), it goes with the [`Socket`] and when it is dropped. Nothing is
/// redirected and no connection is tracked: with the table's end the next datagram is the app's.
///
/// Broadcast and multicast are left alone, and so is what carries a mark of ours.
#[derive(Debug)]
pub struct DatagramTable {
    socket: Socket,
    config: Config,
    ports: BTreeSet<u16>,
}

impl DatagramTable {
    /// The table's name.
    pub const NAME: &str = "inpod_udp";

    /// Creates the table, with no ports.
    ///
    /// # Errors
    /// As [`Table::create`](crate::Table::create).
    pub fn create(socket: &Socket) -> Result<Self, Error> {
        let config = Config {
            name: Self::NAME.to_owned(),
            ..Config::default()
        };
        socket
            .commit(&ruleset::create_datagrams(&config))
            .map_err(|error| name_holder(socket, &config, error))?;
        Ok(Self {
            socket: socket.clone(),
            config,
            ports: BTreeSet::new(),
        })
    }

    /// Keeps datagrams for exactly these ports from the app from now on, atomically. At most 1024.
    ///
    /// # Errors
    /// [`Error::TooMany`], [`Error::Config`] for port 0, [`Error::Kernel`]; then nothing changed.
    pub fn set_ports(&mut self, ports: &BTreeSet<u16>) -> Result<(), Error> {
        change_ports(&self.socket, &self.config.name, &mut self.ports, ports)
    }
}

impl Drop for DatagramTable {
    fn drop(&mut self) {
        // Nothing to be done about a failure: the table goes with the socket.
        let _ = self.socket.commit(&ruleset::remove(&self.config.name));
    }
}
