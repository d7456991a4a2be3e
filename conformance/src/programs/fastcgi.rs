//! One FastCGI request (the FastCGI specification, version 1.0, sections 3.3 and 8), as a web server in the pod would make it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use tests::PATIENCE;

const BEGIN: u8 = 1;
const END: u8 = 3;
const PARAMETERS: u8 = 4;
const INPUT: u8 = 5;
const RESPONDER: u8 = 1;

/// What a script prints, and what the server says against it.
pub(super) fn get(server: SocketAddr, script: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut parameters = Vec::new();
    for (name, value) in [("REQUEST_METHOD", "GET"), ("SCRIPT_FILENAME", script)] {
        for text in [name, value] {
            parameters.push(u8::try_from(text.len()).map_err(io::Error::other)?);
        }
        parameters.extend([name, value].concat().bytes());
    }
    let records = [
        record(BEGIN, &[0, RESPONDER, 0, 0, 0, 0, 0, 0])?,
        record(PARAMETERS, &parameters)?,
        record(PARAMETERS, &[])?,
        record(INPUT, &[])?,
    ];
    stream.write_all(&records.concat())?;
    let mut printed = Vec::new();
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        let length = u16::from_be_bytes([head[4], head[5]]);
        let mut content = vec![0; usize::from(length) + usize::from(head[6])];
        stream.read_exact(&mut content)?;
        if head[1] == END {
            return Ok(String::from_utf8_lossy(&printed).into_owned());
        }
        printed.extend(&content[..usize::from(length)]);
    }
}

/// A record of request 1.
fn record(kind: u8, content: &[u8]) -> io::Result<Vec<u8>> {
    let [high, low] = u16::try_from(content.len()).map_err(io::Error::other)?.to_be_bytes();
    Ok([&[1, kind, 0, 1, high, low, 0, 0], content].concat())
}
