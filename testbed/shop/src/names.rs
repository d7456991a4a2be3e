//! A name server that knows no name: every question is answered at once with NXDOMAIN, so that whoever looks up something
//! that is not in a hosts file does not wait.

use std::io;
use std::net::UdpSocket;

/// The header of a DNS message (RFC 1035 section 4.1.1).
const HEADER: usize = 12;

pub fn serve(address: &str) -> io::Result<()> {
    let socket =
        UdpSocket::bind(address).map_err(|cause| io::Error::new(cause.kind(), format!("bind {address}: {cause}")))?;
    println!("names listens on {}", socket.local_addr()?);
    let mut message = [0; 512];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut message) else {
            continue;
        };
        if length < HEADER {
            continue;
        }
        // QR and RA; NXDOMAIN.
        message[2] |= 0x80;
        message[3] = 0x83;
        // A client that is gone needs no answer.
        let _ = socket.send_to(&message[..length], client);
    }
}
