//! Sends zeros until the client leaves: the receiving half of a throughput measurement.

use std::io::{self, Write};

use crate::listen;

pub fn serve(address: &str) -> io::Result<()> {
    listen::each_connection("tcp-source", address, |mut stream| {
        let zeros = vec![0; 256 << 10];
        loop {
            stream.write_all(&zeros)?;
        }
    })
}
