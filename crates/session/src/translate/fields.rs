//! Heads of HTTP/2 as HTTP/1.1 has them, and back (RFC 9113 section 8, RFC 9110 section 7.6.1).

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, Entry, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, request, response};

/// Those that are about one HTTP/1 connection, beside what `Connection` names.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];
/// It proves to a client that its server has understood: here there is none in between who has not.
const KEY: HeaderValue = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");

/// A request's head, for one connection to the app.
pub(super) fn request(mut made: request::Parts, has_body: bool) -> request::Parts {
    let asked = std::mem::take(&mut made.uri);
    made.version = Version::HTTP_11;
    made.extensions.clear();
    made.uri = asked.path_and_query().map_or_else(
        || Uri::from_static("/"),
        // Of the path alone a URI can always be made.
        |path| Uri::try_from(path.as_str()).unwrap_or_else(|_| Uri::from_static("/")),
    );
    let mut fields = std::mem::take(&mut made.headers);
    connection_ends(&mut fields);
    let said = fields.remove(HOST);
    // Userinfo is not for servers.
    let authority = asked.authority().map(|authority| authority.as_str());
    let authority = authority.and_then(|authority| authority.rsplit('@').next());
    let host = authority.and_then(|authority| HeaderValue::from_str(authority).ok());
    // HTTP/1.1 needs a name, also where the client has none.
    let host = host.or(said).unwrap_or(HeaderValue::from_static("localhost"));
    made.headers.insert(HOST, host);
    made.headers.extend(fields);
    join_cookies(&mut made.headers);
    let trailers = made.headers.get_all(TE).iter().any(takes_trailers);
    made.headers.remove(TE);
    if trailers {
        made.headers.insert(TE, HeaderValue::from_static("trailers"));
        made.headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    length(&mut made, has_body);
    made
}

/// How the app sees where the body ends.
fn length(made: &mut request::Parts, has_body: bool) {
    if has_body {
        // Trailers can come behind chunks alone.
        if made.headers.contains_key(TRAILER) {
            made.headers.remove(CONTENT_LENGTH);
        }
        if !made.headers.contains_key(CONTENT_LENGTH) {
            made.headers
                .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    } else if [Method::POST, Method::PUT, Method::PATCH].contains(&made.method) {
        made.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// The handshake of RFC 6455 for one of RFC 8441.
pub(super) fn websocket(head: request::Parts) -> request::Parts {
    let mut made = request(head, false);
    made.method = Method::GET;
    made.headers.remove(CONTENT_LENGTH);
    made.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    made.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    made.headers.insert(SEC_WEBSOCKET_KEY, KEY);
    made
}

/// The app's answer.
pub(super) fn response(head: response::Parts) -> http::Response<()> {
    let mut made = http::Response::new(());
    *made.status_mut() = head.status;
    *made.version_mut() = Version::HTTP_2;
    *made.headers_mut() = head.headers;
    connection_ends(made.headers_mut());
    made.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
    made
}

/// The fields of an HTTP/1 connection go no further than it.
pub(super) fn connection_ends(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named {
        fields.remove(name);
    }
    for name in HOP_BY_HOP {
        fields.remove(*name);
    }
}

/// HTTP/1.1 has one field where HTTP/2 may have several (RFC 9113 section 8.2.3).
fn join_cookies(fields: &mut HeaderMap) {
    let Entry::Occupied(cookies) = fields.entry(COOKIE) else {
        return;
    };
    if cookies.iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> = cookies.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        fields.insert(COOKIE, joined);
    }
}

fn takes_trailers(value: &HeaderValue) -> bool {
    let value = value.to_str().unwrap_or_default();
    value
        .split(',')
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = http::Request::builder()
            .method(method)
            .uri(uri)
            .version(Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn shown(head: &request::Parts) -> String {
        let fields = head.headers.iter();
        let fields = fields.map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")));
        let line = format!("{} {}", head.method, head.uri);
        std::iter::once(line).chain(fields).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_request_is_made_for_http1() {
        let check = |method: &str, uri: &str, fields: &[(&str, &str)], has_body: bool, expect: &str| {
            assert_eq!(shown(&request(head(method, uri, fields), has_body)), expect);
        };
        check("GET", "https://a.test/b?c=d", &[], false, "GET /b?c=d\nhost: a.test");
        check(
            "GET",
            "https://me:you@a.test:8443/",
            &[("host", "other"), ("x-a", "1")],
            false,
            "GET /\nhost: a.test:8443\nx-a: 1",
        );
        check("GET", "/b", &[("host", "b.test")], false, "GET /b\nhost: b.test");
        check("OPTIONS", "*", &[], false, "OPTIONS *\nhost: localhost");
        check(
            "GET",
            "https://a/",
            &[("cookie", "a=1"), ("x-b", "2"), ("cookie", "c=3"), ("cookie", "d=4")],
            false,
            "GET /\nhost: a\ncookie: a=1; c=3; d=4\nx-b: 2",
        );
        check(
            "GET",
            "https://a/",
            &[
                ("connection", "x-one, close"),
                ("x-one", "1"),
                ("keep-alive", "5"),
                ("upgrade", "h2c"),
                ("transfer-encoding", "chunked"),
            ],
            false,
            "GET /\nhost: a",
        );
        check(
            "POST",
            "https://a/",
            &[("te", "trailers"), ("content-length", "5")],
            true,
            "POST /\nhost: a\ncontent-length: 5\nte: trailers\nconnection: te",
        );
        let chunked = "POST /\nhost: a\ntransfer-encoding: chunked";
        check("POST", "https://a/", &[], true, chunked);
        check(
            "POST",
            "https://a/",
            &[("trailer", "x-sum"), ("content-length", "5")],
            true,
            "POST /\nhost: a\ntrailer: x-sum\ntransfer-encoding: chunked",
        );
        check(
            "GET",
            "https://a/",
            &[],
            true,
            "GET /\nhost: a\ntransfer-encoding: chunked",
        );
        check("PUT", "https://a/", &[], false, "PUT /\nhost: a\ncontent-length: 0");
        check("DELETE", "https://a/", &[], false, "DELETE /\nhost: a");
    }

    #[test]
    fn an_answer_keeps_what_is_not_its_connections() {
        let answer = http::Response::builder()
            .status(404)
            .header("connection", "close, x-one")
            .header("x-one", "1")
            .header("keep-alive", "timeout=5")
            .header("transfer-encoding", "chunked")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .body(());
        let made = response(answer.expect("an answer").into_parts().0);
        assert_eq!(made.status(), 404);
        let fields: Vec<_> = made.headers().iter().collect();
        assert_eq!(
            fields,
            [
                (&http::header::SET_COOKIE, &HeaderValue::from_static("a=1")),
                (&http::header::SET_COOKIE, &HeaderValue::from_static("b=2")),
            ]
        );
    }
}
