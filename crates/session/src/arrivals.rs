//! The pod's incoming datagrams: each client is a socket on this machine, from which the app has them and to which it
//! answers.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use guest::protocol::Peer;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::message::{Bytes, Datagram, Datagrams, MAX_DATAGRAM};
use wire::{Stream, Underway, frame};

use crate::claims::Claims;
use crate::incoming::{Peers, from, reachable};
use crate::relay::canonical;
use crate::udp::IDLE;

/// Clients of one claim at a time.
const CLIENTS: usize = 256;
/// When there is no room for a client, one that was silent for so long makes room. The supervisor believes for a second
/// whose a local address is: nobody else may have it before.
const SILENT: Duration = Duration::from_secs(10);
/// Datagrams of one client that wait for its socket, and answers of all that wait for the link; more are dropped.
const QUEUE: usize = 64;

type Ends = (SocketAddr, SocketAddr);

/// A client that was heard of.
struct Client {
    queue: mpsc::Sender<Vec<u8>>,
    last: Instant,
}

/// Takes a claim's datagrams until it ends, and the app's answers to the last; those are `underway`.
pub(crate) async fn serve(
    claim: Datagrams,
    mut stream: Stream,
    claims: Arc<Claims>,
    peers: Arc<Peers>,
    underway: Underway,
) {
    stream.hold_sending(underway.hold());
    let (mut reader, writer) = stream.split();
    let (answers, waiting) = mpsc::channel(QUEUE);
    tokio::spawn(answer(writer, waiting));
    let mut clients: HashMap<Ends, Client> = HashMap::new();
    loop {
        let datagram = match frame::next_message::<Datagram, _>(&mut reader).await {
            Ok(Some(datagram)) => datagram,
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(%error, port = claim.port, "a claim's datagrams ended by an error");
                break;
            }
        };
        let ends = (datagram.client, datagram.server);
        if clients.get(&ends).is_none_or(|client| client.queue.is_closed()) {
            if !has_room(&mut clients) {
                tracing::debug!(client = %datagram.client, "a datagram was dropped: too many clients");
                continue;
            }
            let Some(listener) = claims.local_datagrams(claim.port, datagram.client) else {
                tracing::debug!(port = claim.port, "a datagram for a socket that is gone");
                continue;
            };
            let (queue, outgoing) = mpsc::channel(QUEUE);
            let flow = flow(listener, ends, outgoing, answers.clone(), Arc::clone(&peers));
            tokio::spawn(async move {
                if let Err(error) = flow.await {
                    tracing::debug!(%listener, %error, "the app does not take a datagram");
                }
            });
            clients.insert(
                ends,
                Client {
                    queue,
                    last: Instant::now(),
                },
            );
        }
        if let Some(client) = clients.get_mut(&ends) {
            client.last = Instant::now();
            if client.queue.try_send(datagram.data.0).is_err() {
                tracing::debug!(client = %datagram.client, "a datagram was dropped: the app is slower than they come");
            }
        }
    }
}

/// Whether one more client has room, once those that are gone and one that was silent have left.
fn has_room(clients: &mut HashMap<Ends, Client>) -> bool {
    if clients.len() < CLIENTS {
        return true;
    }
    clients.retain(|_, client| !client.queue.is_closed());
    let silent = clients.iter().min_by_key(|(_, client)| client.last);
    if clients.len() >= CLIENTS
        && let Some((ends, client)) = silent
        && client.last.elapsed() >= SILENT
    {
        let ends = *ends;
        clients.remove(&ends);
    }
    clients.len() < CLIENTS
}

/// One client: a socket that the app takes for it.
async fn flow(
    listener: SocketAddr,
    (client, server): Ends,
    mut outgoing: mpsc::Receiver<Vec<u8>>,
    answers: mpsc::Sender<Datagram>,
    peers: Arc<Peers>,
) -> io::Result<()> {
    let listener = reachable(canonical(listener));
    let socket = UdpSocket::bind(from(listener)).await?;
    // Nobody else's datagrams are taken for the app's answers.
    socket.connect(listener).await?;
    let address = socket.local_addr()?;
    peers.insert(address, Peer { client, server });
    let answered = |data: &[u8]| {
        let data = Bytes(data.to_vec());
        if answers.try_send(Datagram { client, server, data }).is_err() {
            tracing::debug!(%client, "an answer was dropped: the link is slower than the app");
        }
    };
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        tokio::select! {
            datagram = outgoing.recv() => {
                let Some(datagram) = datagram else { break };
                // Refused: the app has closed its socket, or is about to open it again.
                let _ = socket.send(&datagram).await;
            }
            received = socket.recv(&mut buffer) => {
                let Ok(length) = received else { continue };
                answered(&buffer[..length]);
            }
            () = tokio::time::sleep(IDLE) => break,
        }
    }
    loop {
        match socket.try_recv(&mut buffer) {
            Ok(length) => answered(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => break,
        }
    }
    peers.remove(address);
    Ok(())
}

/// Until no client is left and the claim has ended, or the stream breaks.
async fn answer(mut writer: impl AsyncWrite + Unpin, mut waiting: mpsc::Receiver<Datagram>) {
    while let Some(answer) = waiting.recv().await {
        if frame::write_message(&mut writer, &answer).await.is_err() {
            return;
        }
    }
    // Its end is what the agent waits for, not whether it was said well.
    let _ = writer.shutdown().await;
}
