//! Sends back what it receives, and ends when the client has ended.

use std::io;
use std::net::Shutdown;

use crate::listen;

pub fn serve(address: &str) -> io::Result<()> {
    listen::each_connection("tcp-echo", address, |stream| {
        stream.set_nodelay(true)?;
        io::copy(&mut &stream, &mut &stream)?;
        stream.shutdown(Shutdown::Write)
    })
}
