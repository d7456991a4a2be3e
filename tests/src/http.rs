//! An HTTP/1.1 client that says exactly what it sends, and what came of it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::network::Network;

/// A connection for one request after the other.
#[derive(Debug)]
pub struct Http {
    pub stream: TcpStream,
    received: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// It is the connection's last.
    pub last: bool,
    pub body: String,
}

impl Http {
    /// # Errors
    /// As connect(2).
    pub fn connect(network: &Network, address: SocketAddr) -> io::Result<Self> {
        let stream = network.connect(address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self {
            stream,
            received: Vec::new(),
        })
    }

    /// Where the other end sees this connection come from.
    ///
    /// # Panics
    /// When the socket has no address.
    #[must_use]
    pub fn address(&self) -> String {
        self.stream
            .local_addr()
            .expect("a connected socket has an address")
            .to_string()
    }

    /// A GET with these header lines.
    ///
    /// # Errors
    /// When the connection ends before the response does.
    pub fn get(&mut self, path: &str, headers: &[&str]) -> io::Result<Response> {
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n").as_bytes())
    }

    /// A whole request as bytes.
    ///
    /// # Errors
    /// When the connection ends before the response does.
    pub fn send(&mut self, request: &[u8]) -> io::Result<Response> {
        self.stream.write_all(request)?;
        self.response()
    }

    /// # Errors
    /// When the connection ends before the response does.
    pub fn response(&mut self) -> io::Result<Response> {
        let head = loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more()?;
        };
        let text = String::from_utf8_lossy(&self.received[..head]).into_owned();
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        let field = |wanted: &str| {
            let mut fields = text.lines().filter_map(|line| line.split_once(':'));
            let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.trim().to_owned())
        };
        let length: usize = field("content-length")
            .and_then(|value| value.parse().ok())
            .unwrap_or(0);
        let last = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        while self.received.len() < head + length {
            self.more()?;
        }
        let body = String::from_utf8_lossy(&self.received[head..head + length]).into_owned();
        self.received.drain(..head + length);
        Ok(Response { status, last, body })
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.received.extend_from_slice(&buffer[..length]);
                Ok(())
            }
        }
    }
}

impl Response {
    /// The value of a `name=value` line of the shop's answers.
    #[must_use]
    pub fn line(&self, name: &str) -> Option<&str> {
        self.body
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }

    /// Who answered: the `SERVICE` of a shop.
    #[must_use]
    pub fn service(&self) -> &str {
        self.line("service").unwrap_or_default()
    }
}
