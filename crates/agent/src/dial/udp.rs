//! A connected UDP socket in the pod; datagrams keep their borders on the stream.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;
use wire::message::MAX_DATAGRAM;
use wire::{LinkError, Stream, datagram};

use crate::session::Session;

/// How often another port is tried for; a second time is rare.
const TRIES: usize = 8;

pub(super) async fn serve(session: &Session, address: SocketAddr, stream: Stream) -> Result<(), LinkError> {
    let what = || format!("a UDP socket to {address}");
    let Some((socket, stream)) = super::answered(session, open(session, address).await, stream, what).await? else {
        return Ok(());
    };
    let (mut reader, mut writer) = stream.split();
    let out = async {
        let mut buffer = Vec::new();
        while datagram::read(&mut reader, &mut buffer).await? {
            // As a network would: what cannot be sent is lost. An earlier refusal (ICMP) is reported here, too.
            if let Err(error) = socket.send(&buffer).await {
                tracing::debug!(%error, %address, "a datagram was not sent");
            }
        }
        Ok::<_, LinkError>(())
    };
    let back = async {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut scratch = Vec::new();
        loop {
            match socket.recv(&mut buffer).await {
                Ok(length) => datagram::write(&mut writer, &buffer[..length], &mut scratch).await?,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return super::joined(Err(error)),
            }
        }
    };
    tokio::select! {
        ended = out => ended?,
        ended = back => return ended,
    }
    super::joined(writer.shutdown().await)
}

async fn open(session: &Session, address: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // One with a claimed port would lose its answers to the claim; it is closed only when there is another.
    let mut claimed = Vec::new();
    loop {
        let socket = UdpSocket::bind((any, 0)).await?;
        let port = socket.local_addr()?.port();
        if session.agent.datagrams.is_claimed(port) && claimed.len() < TRIES {
            claimed.push(socket);
            continue;
        }
        socket.connect(address).await?;
        let local = socket.local_addr()?;
        return Ok((socket, local));
    }
}
