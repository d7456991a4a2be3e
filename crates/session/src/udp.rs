//! Outgoing datagrams: one loopback socket for each remote destination, one flow through the pod for each of the app's
//! sockets that uses it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use guest::protocol::{Answer, Errno};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use wire::message::{Destination, MAX_DATAGRAM};
use wire::underway::Hold;
use wire::{Underway, datagram};

use crate::flows;
use crate::names::Names;
use crate::relay;
use crate::router::Router;

/// A flow without datagrams either way for this long is closed, as a NAT would (RFC 4787 REQ-5: at least 2 minutes).
pub(crate) const IDLE: Duration = Duration::from_secs(180);
/// How often it is looked which of the app's sockets are gone, and their flows with them: many ask one question of a name
/// server and are closed, and flows are limited.
const LOOK: Duration = Duration::from_secs(1);
/// Datagrams of one flow that wait for the link; more are dropped, as a full socket buffer would.
const QUEUE: usize = 256;

/// The relay sockets by destination.
pub(crate) struct Datagrams {
    router: Router,
    names: Arc<Names>,
    underway: Underway,
    relays: Mutex<HashMap<SocketAddr, SocketAddr>>,
    flows: Mutex<Flows>,
}

#[derive(Default)]
struct Flows {
    /// What is sent, by the app's socket and the destination. A flow ends when its sender is dropped and all is sent.
    open: HashMap<(SocketAddr, SocketAddr), mpsc::Sender<Vec<u8>>>,
    watched: bool,
}

impl Datagrams {
    pub(crate) fn new(router: Router, names: Arc<Names>, underway: Underway) -> Self {
        Self {
            router,
            names,
            underway,
            relays: Mutex::default(),
            flows: Mutex::default(),
        }
    }

    /// Where datagrams for `destination` go on this machine.
    pub(crate) fn relay(self: &Arc<Self>, destination: SocketAddr) -> Answer {
        let mut relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = relays.get(&destination) {
            return Answer::Relay(Ok(*address));
        }
        match open(destination) {
            Ok((socket, address)) => {
                relays.insert(destination, address);
                tokio::spawn(Arc::clone(self).serve(Arc::new(socket), destination));
                Answer::Relay(Ok(address))
            }
            Err(error) => Answer::Relay(Err(Errno(
                error.raw_os_error().unwrap_or(rustix::io::Errno::NOBUFS.raw_os_error()),
            ))),
        }
    }

    /// Takes the app's datagrams for one destination, from all its sockets, to the last.
    async fn serve(self: Arc<Self>, socket: Arc<UdpSocket>, destination: SocketAddr) {
        let _held = self.underway.hold();
        self.take(socket, destination).await;
        self.lock().open.retain(|(_, to), _| *to != destination);
    }

    async fn take(self: &Arc<Self>, socket: Arc<UdpSocket>, destination: SocketAddr) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let received = tokio::select! {
                biased;
                received = socket.recv_from(&mut buffer) => received,
                () = self.underway.last() => return,
            };
            let (length, source) = match received {
                Ok(received) => received,
                // ICMP errors of earlier sends to sockets that the app closed.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => {
                    tracing::warn!(%error, %destination, "a datagram relay ended");
                    return;
                }
            };
            let datagram = buffer[..length].to_vec();
            if destination.port() == 53 && self.names.is_local_question(&datagram) {
                tokio::spawn(answer_locally(
                    Arc::clone(&socket),
                    source,
                    datagram,
                    Arc::clone(&self.names),
                ));
                continue;
            }
            let mut flows = self.lock();
            let sender = flows
                .open
                .entry((source, destination))
                .and_modify(|sender| {
                    if sender.is_closed() {
                        *sender = self.begin(&socket, source, destination);
                    }
                })
                .or_insert_with(|| self.begin(&socket, source, destination));
            if sender.try_send(datagram).is_err() {
                tracing::debug!(%destination, "a datagram was dropped: the link is slower than the app");
            }
            if !std::mem::replace(&mut flows.watched, true) {
                tokio::spawn(Arc::clone(self).watch());
            }
        }
    }

    fn begin(
        self: &Arc<Self>,
        socket: &Arc<UdpSocket>,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> mpsc::Sender<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let flow = Arc::clone(self).flow(Arc::clone(socket), source, destination, receiver, self.underway.hold());
        tokio::spawn(flow);
        sender
    }

    /// Ends flows whose socket is gone, as long as there are any flows. Where the kernel does not tell, they end by [`IDLE`].
    async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            // In this order: each of these flows has been used by a socket that was there.
            let known: Vec<_> = self.lock().open.keys().copied().collect();
            let bound = match tokio::task::spawn_blocking(nft::datagram_sockets).await {
                Ok(Ok(bound)) => bound.into_iter().collect(),
                Ok(Err(error)) => return tracing::debug!(%error, "datagram flows end by their idleness alone"),
                Err(error) => return tracing::error!(%error, "the end of datagram sockets is no longer seen"),
            };
            let mut flows = self.lock();
            for flow in known.iter().filter(|(source, _)| !is_bound(&bound, *source)) {
                flows.open.remove(flow);
            }
            flows.open.retain(|_, sender| !sender.is_closed());
            if flows.open.is_empty() {
                flows.watched = false;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Flows> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the app's sockets and its counterpart in the pod.
    async fn flow(
        self: Arc<Self>,
        socket: Arc<UdpSocket>,
        source: SocketAddr,
        destination: SocketAddr,
        mut outgoing: mpsc::Receiver<Vec<u8>>,
        held: Hold,
    ) {
        let mut stream = match flows::dial(&self.router, Destination::Udp(destination)).await {
            Ok((stream, _)) => stream,
            Err(errno) => {
                tracing::debug!(?errno, %destination, "a datagram flow cannot be opened");
                return;
            }
        };
        stream.hold_sending(held);
        let (from_pod, mut to_pod) = tokio::io::split(stream);
        let mut incoming = spawn_reader(from_pod);
        let mut scratch = Vec::new();
        loop {
            tokio::select! {
                datagram = outgoing.recv() => {
                    let Some(datagram) = datagram else { break };
                    if datagram::write(&mut to_pod, &datagram, &mut scratch).await.is_err() {
                        break;
                    }
                }
                datagram = incoming.recv() => {
                    let Some(datagram) = datagram else { break };
                    if destination.port() == 53 {
                        self.names.learn(&datagram);
                    }
                    if socket.send_to(&datagram, source).await.is_err() {
                        break;
                    }
                }
                () = tokio::time::sleep(IDLE) => break,
            }
        }
        let _ = to_pod.shutdown().await;
    }
}

/// Whether a socket there could have sent from this address.
fn is_bound(bound: &HashSet<SocketAddr>, source: SocketAddr) -> bool {
    let any = |ip: IpAddr| bound.contains(&SocketAddr::new(ip, source.port()));
    any(source.ip()) || any(Ipv4Addr::UNSPECIFIED.into()) || any(Ipv6Addr::UNSPECIFIED.into())
}

/// Reads whole datagrams in a task of its own, so that a half-read frame is never given up in a `select!`.
fn spawn_reader(mut from_pod: impl AsyncRead + Send + Unpin + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut datagram = Vec::new();
        while let Ok(true) = datagram::read(&mut from_pod, &mut datagram).await {
            if sender.send(std::mem::take(&mut datagram)).await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn open(destination: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let ip = if destination.is_ipv4() {
        relay::LOOPBACK.into()
    } else {
        Ipv6Addr::LOCALHOST.into()
    };
    let socket = std::net::UdpSocket::bind(SocketAddr::new(ip, 0))?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((UdpSocket::from_std(socket)?, address))
}

async fn answer_locally(socket: Arc<UdpSocket>, source: SocketAddr, question: Vec<u8>, names: Arc<Names>) {
    match names.ask_machine(&question).await {
        Ok(answer) => {
            names.learn(&answer);
            let _ = socket.send_to(&answer, source).await;
        }
        Err(error) => tracing::debug!(%error, "the machine's resolver does not answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_bound_by_itself_or_by_any_address_of_its_port() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let bound = HashSet::from([
            at("127.0.0.1:4000"),
            at("0.0.0.0:4001"),
            at("[::]:4002"),
            at("[::1]:4003"),
        ]);
        for source in [
            "127.0.0.1:4000",
            "127.0.0.1:4001",
            "127.0.0.1:4002",
            "[::1]:4002",
            "[::1]:4003",
        ] {
            assert!(is_bound(&bound, at(source)), "{source}");
        }
        for source in ["127.0.0.2:4000", "127.0.0.1:4003", "127.0.0.1:4004"] {
            assert!(!is_bound(&bound, at(source)), "{source}");
        }
    }
}
