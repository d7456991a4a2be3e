//! What is made of a client's bytes, whole and byte by byte.

use super::*;

fn parts(limit: usize, pieces: &[&[u8]]) -> Vec<String> {
    let mut client = Client::new(limit);
    let mut parts: Vec<Sent> = Vec::new();
    for piece in pieces {
        client.feed(piece, &mut |part| parts.push(part));
    }
    client.finish(&mut |part| parts.push(part));
    let mut told: Vec<String> = Vec::new();
    let mut raw = String::new();
    for part in parts {
        match part {
            Sent::Request(request) => told.push(format!(
                "{} {} {} {:?} of {:?}",
                request.method,
                request.target,
                request.fields.len(),
                request.body.escape_ascii().to_string(),
                request.length
            )),
            Sent::Raw(reason) => told.push(reason.to_string()),
            Sent::Bytes(bytes) => raw.push_str(&bytes.escape_ascii().to_string()),
        }
    }
    told.extend((!raw.is_empty()).then_some(raw));
    told
}

fn check(limit: usize, bytes: &[u8], expect: &[&str]) {
    assert_eq!(parts(limit, &[bytes]), expect, "{}", bytes.escape_ascii());
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(parts(limit, &single), expect, "byte by byte: {}", bytes.escape_ascii());
}

#[test]
fn requests_one_behind_the_other() {
    check(
        9,
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /b?c HTTP/1.0\r\n\r\n",
        &["POST /a 2 \"abc\" of Some(3)", "GET /b?c 0 \"\" of Some(0)"],
    );
    check(
        9,
        b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        &["PUT / 1 \"abcd\" of Some(4)", "GET / 0 \"\" of Some(0)"],
    );
}

#[test]
fn of_a_long_body_the_beginning() {
    check(
        2,
        b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcdeGET / HTTP/1.1\r\n\r\n",
        &["PUT / 1 \"ab\" of Some(5)", "GET / 0 \"\" of Some(0)"],
    );
    // What has not come when it is shown is not known.
    let chunked = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n";
    let (early, rest) = chunked.split_at(chunked.len() - 8);
    assert_eq!(parts(0, &[early, rest]), ["PUT / 1 \"\" of None"]);
    assert_eq!(parts(0, &[chunked]), ["PUT / 1 \"\" of Some(2)"]);
}

#[test]
fn what_is_no_request() {
    check(9, b"get foo\r\n", &["not HTTP", "get foo\\r\\n"]);
    check(9, b"\x16\x03\x01\0", &["TLS", "\\x16\\x03\\x01\\x00"]);
    check(
        9,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &["HTTP/2", "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n"],
    );
    check(
        9,
        b"GET / HTT",
        &["the client ended in the middle of a head", "GET / HTT"],
    );
    check(
        9,
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        &["whitespace before a colon", "GET / HTTP/1.1\\r\\nA : b\\r\\n\\r\\n"],
    );
    // A protocol that was agreed on behind a request.
    check(
        9,
        b"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n\x81\x80",
        &["GET / 1 \"\" of Some(0)", "not HTTP", "\\x81\\x80"],
    );
    let broken = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nx";
    assert_eq!(
        parts(9, &[broken]),
        ["PUT / 1 \"a\" of None", "a malformed chunk", "1\\r\\na\\r\\nx"]
    );
    assert_eq!(
        parts(9, &[b"PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\na"]),
        ["PUT / 1 \"a\" of Some(3)"]
    );
    let long = [b"GET /".as_slice(), &[b'a'; MAX_HEAD]].concat();
    assert_eq!(parts(9, &[&long])[0], "a head over 64 KiB");
}

#[test]
fn who_waits_for_a_body_is_shown_without() {
    let mut client = Client::new(9);
    client.feed(b"PUT / HTTP/1.1\r\nContent-Length: 2\r\n\r\na", &mut |part| {
        panic!("{part:?}")
    });
    assert!(client.waits());
    assert!(matches!(client.hurry(), Some(Sent::Request(request)) if request.body == b"a"));
    assert!(!client.waits());
    client.feed(b"b", &mut |part| panic!("told twice: {part:?}"));
    let mut more = 0;
    client.feed(b"GET / HTTP/1.1\r\n\r\n", &mut |_| more += 1);
    assert_eq!(more, 1);
}
