//! Sends back each datagram to whom it came from.

use std::io;
use std::net::UdpSocket;

pub fn serve(address: &str) -> io::Result<()> {
    let socket =
        UdpSocket::bind(address).map_err(|cause| io::Error::new(cause.kind(), format!("bind {address}: {cause}")))?;
    println!("udp-echo listens on {}", socket.local_addr()?);
    let mut datagram = vec![0; 65_536];
    loop {
        // Errors of earlier answers (a client that is gone) surface here, and concern nobody else.
        let Ok((length, client)) = socket.recv_from(&mut datagram) else {
            continue;
        };
        drop(socket.send_to(&datagram[..length], client));
    }
}
