//! Connections of the agent's own, to see whether they come through a claim.
//!
//! They have no byte, as a TCP probe: whoever takes one is not disturbed. A claim knows them by the address that they come
//! from, and nobody gets to see them there.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use wire::message::{CheckOutcome, Checked, ClaimMode};

use crate::sys;

/// How long a connection may take, and then its arrival.
const PATIENCE: Duration = Duration::from_secs(2);

/// Those under way, by the address that they come from.
#[derive(Default)]
pub(crate) struct Checks(Mutex<BTreeMap<SocketAddr, Expected>>);

struct Expected {
    by: ClaimMode,
    arrived: watch::Sender<bool>,
}

impl Checks {
    /// A connection came to a claim of this mode; `true` where it is one of these.
    pub(crate) fn arrived(&self, client: SocketAddr, mode: ClaimMode) -> bool {
        let expected = self.lock();
        let found = expected.get(&client);
        if let Some(found) = found.filter(|found| found.by == mode) {
            found.arrived.send_replace(true);
        }
        found.is_some()
    }

    /// Tries each of the pod's addresses.
    pub(crate) async fn check(&self, port: u16, mode: ClaimMode) -> Vec<Checked> {
        let mut checked = Vec::new();
        for ip in sys::addresses() {
            let address = SocketAddr::new(ip, port);
            let outcome = self.one(address, mode).await;
            let outcome = outcome.unwrap_or_else(|error| CheckOutcome::Failed(error.to_string()));
            checked.push(Checked { address, outcome });
        }
        checked
    }

    async fn one(&self, address: SocketAddr, by: ClaimMode) -> io::Result<CheckOutcome> {
        let socket = bound(address.ip())?;
        let own = socket.local_addr()?;
        let (arrived, mut arrival) = watch::channel(false);
        self.lock().insert(own, Expected { by, arrived });
        let _forget = Forget { own, checks: self };
        let connected: TcpStream = match tokio::time::timeout(PATIENCE, socket.connect(address)).await {
            Ok(connected) => connected?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        let waited = tokio::time::timeout(PATIENCE, arrival.wait_for(|arrived| *arrived)).await;
        drop(connected);
        Ok(match waited {
            Ok(_) => CheckOutcome::Arrived,
            Err(_) => CheckOutcome::Missed,
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Expected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Its address is known before it connects.
fn bound(ip: IpAddr) -> io::Result<TcpSocket> {
    let socket = match ip {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.bind(SocketAddr::new(ip, 0))?;
    Ok(socket)
}

struct Forget<'a> {
    own: SocketAddr,
    checks: &'a Checks,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.checks.lock().remove(&self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[tokio::test(start_paused = true)]
    async fn what_came_through_the_claim_and_what_did_not() {
        let checks = Checks::default();
        let listener = tokio::net::TcpListener::bind(HERE).await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let through = |mode| {
            let (checks, listener) = (&checks, &listener);
            async move {
                let (_taken, client) = listener.accept().await.expect("a connection");
                assert!(checks.arrived(client, mode));
                std::future::pending::<()>().await;
            }
        };
        for (mode, expect) in [
            (ClaimMode::Steal, CheckOutcome::Arrived),
            (ClaimMode::Mirror, CheckOutcome::Missed),
        ] {
            let outcome = tokio::select! {
                outcome = checks.one(address, ClaimMode::Steal) => outcome.expect("a connection"),
                () = through(mode) => unreachable!("it waits"),
            };
            assert_eq!(outcome, expect);
        }
        assert!(checks.lock().is_empty());
        assert!(!checks.arrived(address, ClaimMode::Steal), "somebody else's");
        drop(listener);
        assert!(checks.one(address, ClaimMode::Steal).await.is_err());
    }
}
