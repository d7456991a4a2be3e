//! The head of a request.

use std::mem::MaybeUninit;

use super::{Body, MAX_FIELDS, declared_body, parse_error, persists};
use crate::counters::RawReason;

/// Room for the fields of one head, so that parsing allocates nothing.
pub struct FieldStorage<'a>(pub(super) [MaybeUninit<httparse::Header<'a>>; MAX_FIELDS]);

impl Default for FieldStorage<'_> {
    fn default() -> Self {
        Self([const { MaybeUninit::uninit() }; MAX_FIELDS])
    }
}

/// A request head, borrowed from what it came in; HTTP/2 requests have the same form.
#[derive(Debug)]
pub struct RequestHead<'a> {
    bytes: &'a [u8],
    method: &'a str,
    target: &'a str,
    /// `:authority` of HTTP/2.
    authority: Option<&'a str>,
    minor: u8,
    fields: &'a [httparse::Header<'a>],
}

impl<'a> RequestHead<'a> {
    /// `bytes` is one whole head as [`super::HeadScan`] found it.
    ///
    /// # Errors
    /// When it is malformed in any way.
    pub fn parse(bytes: &'a [u8], storage: &'a mut FieldStorage<'a>) -> Result<Self, RawReason> {
        let mut request = httparse::Request::new(&mut []);
        let status = request
            .parse_with_uninit_headers(bytes, &mut storage.0)
            .map_err(|error| parse_error(error, bytes))?;
        match (status, request.method, request.path, request.version) {
            (httparse::Status::Complete(length), Some(method), Some(target), Some(minor)) if length == bytes.len() => {
                Ok(Self {
                    bytes,
                    method,
                    target,
                    authority: None,
                    minor,
                    fields: request.headers,
                })
            }
            _ => Err(RawReason::BadHead),
        }
    }

    /// An HTTP/2 request: its pseudo-fields, and the other fields in order.
    #[must_use]
    pub(crate) fn http2(
        method: &'a str,
        target: &'a str,
        authority: Option<&'a str>,
        fields: &'a [httparse::Header<'a>],
    ) -> Self {
        Self {
            bytes: &[],
            method,
            target,
            authority,
            minor: 1,
            fields,
        }
    }

    /// All of the head as it came; empty for HTTP/2.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[must_use]
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The request target as it came: with its query, and in absolute form if the client sent it so.
    #[must_use]
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The target's path, without query, scheme and host; `*` and CONNECT's target are as they came.
    #[must_use]
    pub fn path(&self) -> &'a str {
        let path = self.path_and_query();
        path.split_once('?').map_or(path, |(path, _)| path)
    }

    /// The target's path and query, without scheme and host.
    #[must_use]
    pub fn path_and_query(&self) -> &'a str {
        match self.absolute() {
            Some((_, "")) => "/",
            Some((_, path)) => path,
            None => self.target,
        }
    }

    /// The host that the request is for, with its port where it names one: of an absolute target, `:authority`, or `Host`.
    #[must_use]
    pub fn host(&self) -> Option<&'a [u8]> {
        let named = self.absolute().map(|(host, _)| host).or(self.authority);
        named.map(str::as_bytes).or_else(|| self.values("host").next())
    }

    /// Host and rest of an absolute target (RFC 9112 section 3.2.2).
    fn absolute(&self) -> Option<(&'a str, &'a str)> {
        let rest = self.target.split_once("://")?.1;
        if self.target.starts_with('/') {
            return None;
        }
        Some(rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
    }

    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    #[must_use]
    pub fn minor_version(&self) -> u8 {
        self.minor
    }

    /// Names and values in order, without the whitespace around values.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a> {
        self.fields.iter().map(|field| (field.name.as_bytes(), field.value))
    }

    /// The values of every field called `name` (compared without case).
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }

    /// What follows the head.
    ///
    /// # Errors
    /// When the framing is ambiguous.
    pub fn body(&self) -> Result<Body, RawReason> {
        match declared_body(self.minor, self.fields)? {
            // Bytes behind CONNECT belong to the tunnel, whatever the fields say; servers differ.
            Some(Body::Chunked | Body::Length(1..)) if self.is_connect() => Err(RawReason::BothLengths),
            declared => Ok(declared.unwrap_or(Body::Length(0))),
        }
    }

    /// Whether the client may send another request on the connection.
    #[must_use]
    pub fn persists(&self) -> bool {
        persists(self.minor, self.fields)
    }

    /// Its response has no body.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// A successful response makes the connection a tunnel.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.method == "CONNECT"
    }

    /// Its body may wait for an interim answer (RFC 9110 section 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.values("expect")
            .any(|value| value.eq_ignore_ascii_case(b"100-continue"))
    }

    /// It asks for another protocol on this connection.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.values("upgrade").next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_path() {
        let check = |line: &str, host: Option<&str>, path: &str, whole: &str| {
            let text = format!("GET {line} HTTP/1.1\r\nHost: a:80\r\n\r\n");
            let mut storage = FieldStorage::default();
            let head = RequestHead::parse(text.as_bytes(), &mut storage).unwrap();
            let found = (head.host(), head.path(), head.path_and_query());
            assert_eq!(found, (host.map(str::as_bytes), path, whole), "{line}");
        };
        check("/", Some("a:80"), "/", "/");
        check("/b?c=d://e", Some("a:80"), "/b", "/b?c=d://e");
        check("http://f/b?c", Some("f"), "/b", "/b?c");
        check("http://f:81", Some("f:81"), "/", "/");
        check("*", Some("a:80"), "*", "*");
        let head = RequestHead::http2("GET", "/b?c", Some("g"), &[]);
        assert_eq!((head.host(), head.path()), (Some(&b"g"[..]), "/b"));
    }
}
