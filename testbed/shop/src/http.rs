//! As much of HTTP/1.1 (RFC 9112) as the services and their client need.

use std::io::{self, BufRead, Read, Write};

/// A head or a body beyond this is refused: nothing here needs more.
const HEAD_LIMIT: u64 = 1 << 20;
const BODY_LIMIT: u64 = 64 << 20;

pub struct Request {
    pub method: String,
    /// The path and, after `?`, the query, as they were sent.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The number given as `name=` in the query.
    pub fn query(&self, name: &str) -> Option<u64> {
        let (_, query) = self.target.split_once('?')?;
        let value = query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
        value.parse().ok()
    }

    pub fn keeps_alive(&self) -> bool {
        header(&self.headers, "connection").is_none_or(|value| !value.eq_ignore_ascii_case("close"))
    }
}

pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// The next request of a connection; `None` when the client has closed it between requests.
pub fn read_request(input: &mut impl BufRead, output: &mut impl Write) -> io::Result<Option<Request>> {
    let Some((first, headers)) = read_head(input)? else {
        return Ok(None);
    };
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(_version)) = (words.next(), words.next(), words.next()) else {
        return Err(malformed("request line"));
    };
    if header(&headers, "expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        output.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        output.flush()?;
    }
    let body = match target.starts_with("/sink") {
        true => sink(input, &headers)?,
        false => read_body(input, &headers)?,
    };
    Ok(Some(Request {
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        body,
    }))
}

/// The status and the body of the next answer on a connection.
pub fn read_response(input: &mut impl BufRead) -> io::Result<(u16, Vec<u8>)> {
    let (first, headers) = read_head(input)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| malformed("status line"))?;
    Ok((status, read_body(input, &headers)?))
}

pub fn write_response(output: &mut impl Write, status: &str, keep_alive: bool, body: &[u8]) -> io::Result<()> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    // One write: a head and a body in two segments would wait for the client's delayed acknowledgement.
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    output.write_all(&answer)?;
    output.flush()
}

type Head = (String, Vec<(String, String)>);

fn read_head(input: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut input = input.take(HEAD_LIMIT);
    let Some(first) = read_line(&mut input)? else {
        return Ok(None);
    };
    let mut headers = Vec::new();
    loop {
        let line = read_line(&mut input)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(Some((first, headers)));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("header"))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

fn read_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    if !line.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// In place of a body of any length, how long it was.
fn sink(input: &mut impl BufRead, headers: &[(String, String)]) -> io::Result<Vec<u8>> {
    let length = header(headers, "content-length").and_then(|length| length.parse().ok());
    let length: u64 = length.ok_or_else(|| malformed("Content-Length"))?;
    let taken = io::copy(&mut input.take(length), &mut io::sink())?;
    match taken == length {
        true => Ok(format!("{taken}\n").into_bytes()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn read_body(input: &mut impl BufRead, headers: &[(String, String)]) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if header(headers, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = read_line(input)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| malformed("chunk size"))?;
            read_exactly(input, size, &mut body)?;
            // The end of the chunk, or of a trailer section without fields.
            read_line(input)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    let length = match header(headers, "content-length") {
        Some(value) => value.parse().map_err(|_| malformed("content-length"))?,
        None => 0,
    };
    read_exactly(input, length, &mut body)?;
    Ok(body)
}

fn read_exactly(input: &mut impl Read, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if body.len() as u64 + length > BODY_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "body over 64 MiB"));
    }
    if input.take(length).read_to_end(body)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed HTTP: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> io::Result<Option<Request>> {
        read_request(&mut text.as_bytes(), &mut Vec::new())
    }

    #[test]
    fn bodies_of_both_kinds_are_read() {
        for text in [
            "POST /a?ms=3 HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello",
            "POST /a?ms=3 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\n\r\n",
        ] {
            let request = request(text).unwrap().unwrap();
            assert_eq!(
                (request.path(), request.query("ms"), request.body.as_slice()),
                ("/a", Some(3), &b"hello"[..])
            );
        }
    }

    #[test]
    fn the_end_between_requests_is_no_error_and_within_one_is() {
        assert!(request("").unwrap().is_none());
        assert!(request("GET / HTTP/1.1\r\nHost: a").is_err());
        assert!(request("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab").is_err());
        assert!(request("nonsense\r\n\r\n").is_err());
    }

    #[test]
    fn a_client_that_waits_is_told_to_go_on() {
        let mut told = Vec::new();
        let text = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx";
        read_request(&mut text.as_bytes(), &mut told).unwrap();
        assert_eq!(told, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
}
