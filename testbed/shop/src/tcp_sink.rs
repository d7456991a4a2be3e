//! Reads to the end and says how much that was: the sending half of a throughput measurement.

use std::io::{self, Read, Write};

use crate::listen;

pub fn serve(address: &str) -> io::Result<()> {
    listen::each_connection("tcp-sink", address, |mut stream| {
        let mut buffer = vec![0; 256 << 10];
        let mut received = 0u64;
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                length => received += length as u64,
            }
        }
        writeln!(stream, "{received}")
    })
}
