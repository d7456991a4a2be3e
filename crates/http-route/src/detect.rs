//! What a client speaks, from its first bytes.

use crate::http2::frame::PREFACE;

/// The longest method that is taken for HTTP, in bytes; the registry's longest is `UPDATEREDIRECTREF` with 17.
const MAX_METHOD: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// More bytes are needed; never answered for 96 bytes or more.
    NeedMore,
    /// A TLS handshake record.
    Tls,
    /// A method and a space: the beginning of an HTTP/1 request line. Whether it is well formed is for the parser.
    Http1,
    /// The preface of HTTP/2 with prior knowledge.
    Http2,
    /// Anything else.
    Other,
}

/// Looks at the first bytes of a connection.
#[must_use]
pub fn detect(bytes: &[u8]) -> Detected {
    // Empty lines before the first request line are to be ignored (RFC 9112 section 2.2).
    let lines = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    if lines > MAX_METHOD {
        return Detected::Other;
    }
    let bytes = &bytes[lines..];
    let Some(&first) = bytes.first() else {
        return Detected::NeedMore;
    };
    // ContentType handshake, legacy_record_version 3.x (RFC 8446 section 5.1).
    if first == 0x16 && lines == 0 {
        return match bytes.get(1) {
            None => Detected::NeedMore,
            Some(3) => Detected::Tls,
            Some(_) => Detected::Other,
        };
    }
    if bytes.starts_with(PREFACE) {
        return Detected::Http2;
    }
    if PREFACE.starts_with(bytes) {
        return Detected::NeedMore;
    }
    let method = bytes
        .iter()
        .take(MAX_METHOD + 1)
        .take_while(|byte| is_token(**byte))
        .count();
    match bytes.get(method) {
        _ if method > MAX_METHOD => Detected::Other,
        None => Detected::NeedMore,
        Some(b' ') if method > 0 => Detected::Http1,
        Some(_) => Detected::Other,
    }
}

/// As [`detect`], but a request line is one by the version at its end: a method and a space begin a command of memcached or
/// redis, too. The whole line is needed for that, however long it is.
#[must_use]
pub fn detect_line(bytes: &[u8]) -> Detected {
    let detected = detect(bytes);
    if detected != Detected::Http1 {
        return detected;
    }
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
    let line = lines.find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    let Some(line) = line.strip_suffix(b"\n") else {
        return Detected::NeedMore;
    };
    let version = line.trim_ascii_end().rsplit(|&byte| byte == b' ').next();
    match version {
        Some(version) if version.starts_with(b"HTTP/1.") => Detected::Http1,
        _ => Detected::Other,
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes() {
        let check = |bytes: &[u8], expect: Detected| {
            assert_eq!(detect(bytes), expect, "{}", bytes.escape_ascii());
            // What is answered for a prefix must not be contradicted by the rest.
            for end in 0..bytes.len() {
                let early = detect(&bytes[..end]);
                assert!(
                    early == Detected::NeedMore || early == expect,
                    "{} cut at {end}",
                    bytes.escape_ascii()
                );
            }
        };
        check(b"", Detected::NeedMore);
        check(b"GET / HTTP/1.1\r\n", Detected::Http1);
        check(b"\r\nGET / HTTP/1.1\r\n", Detected::Http1);
        check(b"PRIVATE / HTTP/1.1\r\n", Detected::Http1);
        check(b"PRI", Detected::NeedMore);
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Detected::Http2);
        check(b"\x16\x03\x01\x02\x00\x01", Detected::Tls);
        check(b"\x16\x02", Detected::Other);
        check(b"*1\r\n$4\r\nPING\r\n", Detected::Other);
        check(b"PING\r\n", Detected::Other);
        check(b"\0\0\0\x08\x04\xd2\x16\x2f", Detected::Other);
        check(b" GET / HTTP/1.1", Detected::Other);
        check(b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Detected::Other);
        check(b"SSH-2.0-OpenSSH_9.2p1\r\n", Detected::Other);
    }

    #[test]
    fn first_lines() {
        let check = |bytes: &[u8], expect: Detected| {
            assert_eq!(detect_line(bytes), expect, "{}", bytes.escape_ascii());
        };
        check(b"GET / HTTP/1.1", Detected::NeedMore);
        check(b"\r\nGET / HTTP/1.1\r\nHost", Detected::Http1);
        check(b"get foo\r\n", Detected::Other);
        check(b"SET key HTTP/2.0\r\n", Detected::Other);
        check(b"\x16\x03", Detected::Tls);
    }
}
