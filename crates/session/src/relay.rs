//! The relay addresses on loopback: listeners that never accept.
//!
//! The listener's accept queue is kept full (backlog 0 and one connection of its own), so a socket of the app that
//! connects there stays truly in SYN_SENT. Completing it is a simultaneous open: a second socket binds the same address
//! (`SO_REUSEPORT`) and connects to the app's socket. Since nothing is ever accepted, no stranger gets in.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

/// IPv4 address of every relay socket. Not 127.0.0.1, so that an app's own loopback ports are never in the way.
pub(crate) const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
/// Where the server's connections to the app's listeners come from.
pub(crate) const INCOMING: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 2);

/// A listener whose accept queue is full.
#[derive(Debug)]
struct Full {
    address: SocketAddr,
    _listener: Socket,
    _filler: Socket,
}

impl Full {
    fn open(ip: std::net::IpAddr) -> io::Result<Self> {
        let domain = Domain::for_address(SocketAddr::new(ip, 0));
        let listener = Socket::new(domain, Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        listener.set_reuse_port(true)?;
        listener.bind(&SocketAddr::new(ip, 0).into())?;
        listener.listen(0)?;
        let address = listener.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?;
        let filler = Socket::new(domain, Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        filler.connect(&address.into())?;
        Ok(Self {
            address,
            _listener: listener,
            _filler: filler,
        })
    }
}

/// Both families' relay listeners.
#[derive(Debug)]
pub(crate) struct Relay {
    v4: Full,
    v6: Option<Full>,
}

impl Relay {
    /// # Errors
    /// When the machine has no IPv4 loopback. IPv6 may be missing.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            v4: Full::open(LOOPBACK.into())?,
            v6: Full::open(Ipv6Addr::LOCALHOST.into()).ok(),
        })
    }

    pub(crate) fn v4(&self) -> SocketAddr {
        self.v4.address
    }

    pub(crate) fn v6(&self) -> Option<SocketAddr> {
        self.v6.as_ref().map(|full| full.address)
    }

    /// Completes the app's connect: `source` is the app's socket in SYN_SENT towards this relay.
    ///
    /// # Errors
    /// When the app's socket is no longer there.
    pub(crate) async fn complete(&self, source: SocketAddr) -> io::Result<TcpStream> {
        let source = canonical(source);
        let relay = if source.is_ipv4() {
            self.v4()
        } else {
            self.v6().ok_or(io::ErrorKind::AddrNotAvailable)?
        };
        let mut pause = Duration::from_micros(100);
        loop {
            let socket = if source.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            socket.set_reuseaddr(true)?;
            socket.set_reuseport(true)?;
            socket.bind(relay)?;
            match socket.connect(source).await {
                // The notice came a moment before the app's SYN left.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && pause < Duration::from_millis(50) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                other => return other,
            }
        }
    }
}

/// `::ffff:a.b.c.d` as IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_socket_stays_unconnected_until_it_is_completed() {
        let relay = Relay::open().unwrap();
        for address in [Some(relay.v4()), relay.v6()].into_iter().flatten() {
            let app = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
            app.set_nonblocking(true).unwrap();
            let begun = app.connect(&address.into()).unwrap_err();
            assert_eq!(begun.raw_os_error(), Some(rustix::io::Errno::INPROGRESS.raw_os_error()));
            let source = app.local_addr().unwrap().as_socket().unwrap();
            assert!(app.peer_addr().is_err(), "still in SYN_SENT");

            let mut ours = relay.complete(source).await.unwrap();
            assert_eq!(ours.peer_addr().unwrap(), source);
            let mut app = TcpStream::from_std(app.into()).unwrap();
            app.writable().await.unwrap();
            app.write_all(b"ping").await.unwrap();
            let mut received = [0; 4];
            ours.read_exact(&mut received).await.unwrap();
            assert_eq!(&received, b"ping");
        }
    }

    #[tokio::test]
    async fn a_stranger_is_never_connected() {
        let relay = Relay::open().unwrap();
        let stranger = TcpStream::connect(relay.v4());
        assert!(
            tokio::time::timeout(Duration::from_millis(300), stranger)
                .await
                .is_err()
        );
    }
}
