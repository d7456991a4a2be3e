//! Connections of the agent's own, to see whether they come through a claim.
//!
//! They have no byte, as a TCP probe: whoever takes one is not disturbed. A claim knows them by the address that they come
//! from, or by their mark, and nobody gets to see them there.
//!
//! What comes back to the pod through a Service comes from another address: where client and server are one pod, whoever
//! translates the Service's address has to put his own in the client's place, or the answers would not pass by him. So these
//! connections are marked by a maximum segment size of their own, which nobody on the way has a reason to change: translation
//! of addresses leaves it alone, and what makes it smaller for a tunnel's sake ("MSS clamping") has no need to.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use wire::message::{Check, CheckOutcome, Checked, ClaimMode, MAX_CONNECTIONS, MAX_SERVICES, ServiceAddress};

use crate::sys;

/// How long a connection may take, and then its arrival.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long connections to one Service may be opened.
const SERVICE: Duration = Duration::from_secs(10);
/// So long one of them has to arrive before the next is opened. A mirror's packets come after 20 ms at the latest.
const PAUSE: Duration = Duration::from_millis(250);
/// Segment sizes that mark a connection: smaller than any link's or tunnel's, so that nothing on the way makes them smaller
/// still, and larger than what a client has without saying (536, RFC 9293 3.7.1).
const MARKS: std::ops::Range<u16> = 600..1100;
/// The room that timestamps take in each segment (RFC 7323, with padding).
const TIMESTAMPS: u16 = 12;

/// Those under way.
#[derive(Default)]
pub(crate) struct Checks(Mutex<Expected>);

#[derive(Default)]
struct Expected {
    /// By the address that they come from.
    addresses: BTreeMap<SocketAddr, Arrival>,
    /// By the pod's port that they lead to and their mark.
    marks: BTreeMap<(u16, u16), Arrival>,
}

struct Arrival {
    by: ClaimMode,
    arrived: watch::Sender<bool>,
}

/// The maximum segment size of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mss {
    /// As its SYN says it.
    Said(u16),
    /// As the kernel makes use of it: without the options that are in each segment, which are timestamps or none.
    Used(u16),
}

impl Mss {
    /// Of the other end of a connection that was accepted (tcp(7), `TCP_MAXSEG`).
    pub(crate) fn of(accepted: &TcpStream) -> Option<Self> {
        let used = SockRef::from(accepted).tcp_mss().ok()?;
        Some(Self::Used(u16::try_from(used).ok()?))
    }

    fn may_be(self, mark: u16) -> bool {
        match self {
            Self::Said(said) => said == mark,
            Self::Used(used) => [0, TIMESTAMPS].contains(&mark.wrapping_sub(used)),
        }
    }
}

impl Checks {
    /// A connection came to a claim of the port, of this mode; `true` where it is one of these. `mss` is asked while some are
    /// under way that are known by it.
    pub(crate) fn arrived(
        &self,
        client: SocketAddr,
        port: u16,
        mss: impl FnOnce() -> Option<Mss>,
        mode: ClaimMode,
    ) -> bool {
        let expected = self.lock();
        let found = expected.addresses.get(&client).or_else(|| expected.marked(port, mss));
        if let Some(found) = found.filter(|found| found.by == mode) {
            found.arrived.send_replace(true);
        }
        found.is_some()
    }

    /// Tries each of the pod's addresses, and each of the Services' at the same time.
    pub(crate) async fn check(self: &Arc<Self>, Check { port, services }: Check, mode: ClaimMode) -> Vec<Checked> {
        let mut through = JoinSet::new();
        for (place, service) in services.into_iter().take(MAX_SERVICES).enumerate() {
            let checks = Arc::clone(self);
            through.spawn(async move {
                let ServiceAddress { name, address } = service;
                let outcome = checks.through(address, port, mode).await;
                (place, checked(Some(name), address, outcome))
            });
        }
        let mut all = Vec::new();
        for ip in sys::addresses() {
            let address = SocketAddr::new(ip, port);
            all.push(checked(None, address, self.one(address, mode).await));
        }
        let mut through = through.join_all().await;
        through.sort_by_key(|(place, _)| *place);
        all.extend(through.into_iter().map(|(_, checked)| checked));
        all
    }

    async fn one(&self, address: SocketAddr, by: ClaimMode) -> io::Result<CheckOutcome> {
        let socket = bound(address.ip())?;
        let own = socket.local_addr()?;
        let (arrived, mut arrival) = watch::channel(false);
        self.lock().addresses.insert(own, Arrival { by, arrived });
        let _forget = Forget(|| drop(self.lock().addresses.remove(&own)));
        let connected = connect(socket, address, PATIENCE).await?;
        let waited = timeout(PATIENCE, arrival.wait_for(|arrived| *arrived)).await;
        drop(connected);
        Ok(match waited {
            Ok(_) => CheckOutcome::Arrived(1),
            Err(_) => CheckOutcome::Missed(1),
        })
    }

    /// Opens one connection after the other, since each may lead to another pod, until one has come. Those before stay open
    /// meanwhile: late is not lost.
    async fn through(&self, address: SocketAddr, port: u16, by: ClaimMode) -> io::Result<CheckOutcome> {
        let (arrived, mut arrival) = watch::channel(false);
        let mark = self.mark(port, Arrival { by, arrived })?;
        let _forget = Forget(|| drop(self.lock().marks.remove(&(port, mark))));
        let end = Instant::now() + SERVICE;
        let (mut open, mut failed) = (Vec::new(), None);
        for number in 1..=MAX_CONNECTIONS {
            let patience = PATIENCE.min(end.saturating_duration_since(Instant::now()));
            if patience.is_zero() {
                break;
            }
            let socket = unbound(address.ip())?;
            SockRef::from(&socket).set_tcp_mss(mark.into())?;
            match connect(socket, address, patience).await {
                Ok(connected) => open.push(connected),
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            }
            if timeout(PAUSE, arrival.wait_for(|arrived| *arrived)).await.is_ok() {
                return Ok(CheckOutcome::Arrived(number));
            }
        }
        match (u16::try_from(open.len()).unwrap_or(u16::MAX), failed) {
            (0, Some(error)) => Err(error),
            (taken, _) => Ok(match timeout(PATIENCE, arrival.wait_for(|arrived| *arrived)).await {
                Ok(_) => CheckOutcome::Arrived(taken),
                Err(_) => CheckOutcome::Missed(taken),
            }),
        }
    }

    /// A mark that no other connection to this port has, and that is not taken for another's.
    fn mark(&self, port: u16, arrival: Arrival) -> io::Result<u16> {
        let mut random = [0; 2];
        getrandom(&mut random, GetRandomFlags::empty())?;
        let first = u16::from_ne_bytes(random) % MARKS.len() as u16;
        let mut expected = self.lock();
        let mark = (0..MARKS.len() as u16)
            .map(|step| MARKS.start + (first + step) % MARKS.len() as u16)
            .find(|mark| {
                let near = mark - TIMESTAMPS..=mark + TIMESTAMPS;
                expected
                    .marks
                    .keys()
                    .all(|(of, other)| *of != port || !near.contains(other))
            })
            .ok_or_else(|| io::Error::other("too many are tried at a time"))?;
        expected.marks.insert((port, mark), arrival);
        Ok(mark)
    }

    fn lock(&self) -> MutexGuard<'_, Expected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expected {
    fn marked(&self, port: u16, mss: impl FnOnce() -> Option<Mss>) -> Option<&Arrival> {
        let mut marks = self.marks.range((port, 0)..=(port, u16::MAX)).peekable();
        marks.peek()?;
        let mss = mss()?;
        marks
            .find(|((_, mark), _)| mss.may_be(*mark))
            .map(|(_, arrival)| arrival)
    }
}

fn checked(service: Option<String>, address: SocketAddr, outcome: io::Result<CheckOutcome>) -> Checked {
    Checked {
        service,
        address,
        outcome: outcome.unwrap_or_else(|error| CheckOutcome::Failed(error.to_string())),
    }
}

async fn connect(socket: TcpSocket, address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    match timeout(patience, socket.connect(address)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn unbound(ip: IpAddr) -> io::Result<TcpSocket> {
    match ip {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }
}

/// Its address is known before it connects.
fn bound(ip: IpAddr) -> io::Result<TcpSocket> {
    let socket = unbound(ip)?;
    socket.bind(SocketAddr::new(ip, 0))?;
    Ok(socket)
}

/// Whatever ends the wait, nobody is expected any more.
struct Forget<F: Fn()>(F);

impl<F: Fn()> Drop for Forget<F> {
    fn drop(&mut self) {
        (self.0)();
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
                assert!(checks.arrived(client, address.port(), || None, mode));
                std::future::pending::<()>().await;
            }
        };
        for (mode, expect) in [
            (ClaimMode::Steal, CheckOutcome::Arrived(1)),
            (ClaimMode::Mirror, CheckOutcome::Missed(1)),
        ] {
            let outcome = tokio::select! {
                outcome = checks.one(address, ClaimMode::Steal) => outcome.expect("a connection"),
                () = through(mode) => unreachable!("it waits"),
            };
            assert_eq!(outcome, expect);
        }
        assert!(checks.lock().addresses.is_empty());
        let mss = || unreachable!("nobody is known by it");
        assert!(
            !checks.arrived(address, address.port(), mss, ClaimMode::Steal),
            "somebody else's"
        );
        drop(listener);
        assert!(checks.one(address, ClaimMode::Steal).await.is_err());
    }

    #[test]
    fn a_mark_is_one_connections_and_one_ports() {
        let checks = Checks::default();
        let expect = |port| {
            let (arrived, arrival) = watch::channel(false);
            let by = ClaimMode::Steal;
            (checks.mark(port, Arrival { by, arrived }).expect("a mark"), arrival)
        };
        let ((one, first), (other, second), (_, elsewhere)) = (expect(80), expect(80), expect(81));
        let arrived = |port, mss| checks.arrived(HERE, port, || Some(mss), ClaimMode::Steal);
        for stranger in [
            Mss::Said(1460),
            Mss::Said(one - TIMESTAMPS),
            Mss::Used(one - 1),
            Mss::Used(0),
        ] {
            assert!(!arrived(80, stranger), "{stranger:?}");
        }
        assert!(!arrived(82, Mss::Said(one)) && !*first.borrow());
        assert!(arrived(80, Mss::Used(one)) && *first.borrow());
        assert!(arrived(80, Mss::Used(other - TIMESTAMPS)) && *second.borrow());
        assert!(!*elsewhere.borrow());
        assert!(MARKS.contains(&one) && MARKS.contains(&other));
    }

    /// Every address is taken here, and none is a claim's.
    #[tokio::test(start_paused = true)]
    async fn what_a_service_leads_to_is_tried_several_times() {
        let checks = Checks::default();
        let listener = tokio::net::TcpListener::bind(HERE).await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        for (third, expect) in [
            (true, CheckOutcome::Arrived(3)),
            (false, CheckOutcome::Missed(MAX_CONNECTIONS)),
        ] {
            let serve = async {
                let mut open = Vec::new();
                loop {
                    let (taken, client) = listener.accept().await.expect("a connection");
                    let mss = || Mss::of(&taken);
                    if open.len() == 2 && third {
                        assert!(checks.arrived(client, 80, mss, ClaimMode::Steal));
                    }
                    open.push(taken);
                }
            };
            let outcome = tokio::select! {
                outcome = checks.through(address, 80, ClaimMode::Steal) => outcome.expect("it is taken"),
                () = serve => unreachable!("it waits"),
            };
            assert_eq!(outcome, expect);
        }
        assert!(checks.lock().marks.is_empty());
        drop(listener);
        let refused = checks.through(address, 80, ClaimMode::Steal).await;
        assert_eq!(
            refused.map_err(|error| error.kind()),
            Err(io::ErrorKind::ConnectionRefused)
        );
    }
}
