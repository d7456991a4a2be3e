//! The relay: a listener whose accept queue is full, and the simultaneous open that completes a connection.

use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, listen, socket_with, sockopt};

/// Where the app's sockets wait in SYN_SENT.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    _listener: OwnedFd,
    _filler: TcpStream,
}

fn reusable(address: SocketAddr) -> OwnedFd {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    bind(&socket, &address).unwrap();
    socket
}

impl Relay {
    pub(crate) fn new(ip: &str) -> Self {
        let listener = reusable(SocketAddr::new(ip.parse().unwrap(), 0));
        listen(&listener, 0).unwrap();
        let address = SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
        let filler = TcpStream::connect(address).unwrap();
        Self {
            address,
            _listener: listener,
            _filler: filler,
        }
    }

    /// Connects to the app's waiting socket, and joins it with `remote` until both directions have ended.
    pub(crate) fn join(&self, source: SocketAddr, remote: TcpStream) {
        let socket = reusable(self.address);
        if connect(&socket, &source).is_err() {
            return;
        }
        let app = TcpStream::from(socket);
        for (mut from, mut to) in [(app.try_clone().unwrap(), remote.try_clone().unwrap()), (remote, app)] {
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    }
}

/// A relay for datagrams to one destination; replies go back to whoever sent.
pub(crate) fn datagrams(to: SocketAddr) -> SocketAddr {
    let front = UdpSocket::bind(if to.is_ipv4() { "127.77.0.1:0" } else { "[::1]:0" }).unwrap();
    let address = front.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut upstream = std::collections::HashMap::new();
        let mut buffer = vec![0; 65_536];
        while let Ok((length, client)) = front.recv_from(&mut buffer) {
            let back: &UdpSocket = upstream.entry(client).or_insert_with(|| {
                let back = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
                back.connect(to).unwrap();
                let (reader, front) = (back.try_clone().unwrap(), front.try_clone().unwrap());
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 65_536];
                    while let Ok(length) = reader.recv(&mut buffer) {
                        let _ = front.send_to(&buffer[..length], client);
                    }
                });
                back
            });
            let _ = back.send(&buffer[..length]);
        }
    });
    address
}
