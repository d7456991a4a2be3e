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
    let mut hurried = Vec::new();
    client.hurry(&mut |part| hurried.push(part));
    assert!(matches!(hurried.as_slice(), [Sent::Request(request)] if request.body == b"a"));
    assert!(!client.waits());
    client.feed(b"b", &mut |part| panic!("told twice: {part:?}"));
    let mut more = 0;
    client.feed(b"GET / HTTP/1.1\r\n\r\n", &mut |_| more += 1);
    assert_eq!(more, 1);
}

/// A frame of HTTP/2, and a request's (RFC 7541 section 6.2.2: `:method POST`, `:authority a`, `:path`).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

fn post(stream: u8, path: &str, end: bool) -> Vec<u8> {
    let path = [&[4, u8::try_from(path.len()).unwrap()], path.as_bytes()].concat();
    frame(
        1,
        4 | u8::from(end),
        stream,
        &[b"\x83\x01\x01a", path.as_slice()].concat(),
    )
}

#[test]
fn streams() {
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    let all = [
        preface.clone(),
        post(1, "/a", false),
        post(3, "/b", true),
        frame(0, 0, 1, b"12"),
        frame(0, 1, 1, b"3"),
        post(5, "/long", false),
        frame(0, 0, 5, b"1234"),
        frame(0, 1, 5, b"5"),
        post(7, "/trailers", false),
        frame(0, 0, 7, b"12"),
        frame(1, 5, 7, b"\0\x01a\x01b"),
        post(9, "/back", false),
        frame(3, 0, 9, &[0, 0, 0, 8]),
        post(11, "/cut", false),
        frame(0, 0, 11, b"1"),
    ];
    let shown = [
        "POST /b 1 \"\" of Some(0)",
        "POST /a 1 \"123\" of Some(3)",
        "POST /long 1 \"123\" of None",
        "POST /trailers 1 \"12\" of Some(2)",
        "POST /back 1 \"\" of None",
        "POST /cut 1 \"1\" of None",
    ];
    check(3, &all.concat(), &shown);
    let broken = [preface, post(1, "/a", false), frame(9, 4, 1, b"")].concat();
    assert_eq!(
        parts(9, &[&broken])[..2],
        ["POST /a 1 \"\" of None", "an HTTP/2 frame that cannot be read"]
    );
}
