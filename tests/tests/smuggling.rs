//! HTTP/1 that is framed in doubtful ways, for which proxies and servers have been made to disagree: whatever nginx answers
//! to it, it answers through a filter, too, and nothing that hides in a message reaches a session.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use testbed::FreshPod;
use tests::{Stage, guests, scratch};

const PORT: u16 = 80;
/// What every case tries to bring in: a request of the session's.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\nX-User: me\r\n\r\n";
/// After so long nothing more comes.
const QUIET: Duration = Duration::from_secs(2);

/// A name, and the bytes; `{hidden}` stands for [`HIDDEN`].
const CASES: &[(&str, &str)] = &[
    // Two lengths that contradict each other.
    (
        "both lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
    ),
    (
        "both lengths, the other order",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 200\r\n\r\n0\r\n\r\n{hidden}",
    ),
    (
        "length and chunks with the request in a chunk",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2d\r\n{hidden}\r\n0\r\n\r\n",
    ),
    (
        "two lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 45\r\n\r\n{hidden}",
    ),
    (
        "two equal lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "a list of lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 60\r\n\r\n{hidden}",
    ),
    // Lengths that not everybody reads alike.
    (
        "a length with a plus",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n{hidden}",
    ),
    (
        "a negative length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n{hidden}",
    ),
    (
        "a hexadecimal length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x0\r\n\r\n{hidden}",
    ),
    (
        "a length with a space in it",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0 0\r\n\r\n{hidden}",
    ),
    (
        "a length beyond 64 bits",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n{hidden}",
    ),
    (
        "an empty length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n{hidden}",
    ),
    (
        "space before a length's colon",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 60\r\n\r\n{hidden}",
    ),
    (
        "a body of a GET",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 45\r\n\r\n{hidden}",
    ),
    // Transfer codings in disguise.
    (
        "an unknown coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\nContent-Length: 45\r\n\r\n{hidden}",
    ),
    (
        "a coding with space before the colon",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\nContent-Length: 45\r\n\r\n{hidden}",
    ),
    (
        "a coding behind a tab",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding behind a vertical tab",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\nContent-Length: 45\r\n\r\n{hidden}",
    ),
    (
        "two codings",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{hidden}",
    ),
    (
        "a coding that is not the last",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}",
    ),
    (
        "a folded coding",
        "POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 45\r\n\r\n{hidden}",
    ),
    (
        "a coding that is folded itself",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{hidden}",
    ),
    (
        "a coding behind a bare LF",
        "POST / HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\nContent-Length: 45\r\n\r\n{hidden}",
    ),
    (
        "a coding behind a bare CR",
        "POST / HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\nContent-Length: 45\r\n\r\n{hidden}",
    ),
    (
        "a quoted coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\nContent-Length: 45\r\n\r\n{hidden}",
    ),
    (
        "a coding in HTTP/1.0",
        "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
    ),
    // Chunks.
    (
        "a chunk's size with a prefix",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n{hidden}",
    ),
    (
        "a chunk's size with a sign",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+0\r\n\r\n{hidden}",
    ),
    (
        "a chunk's size beyond 64 bits",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n{hidden}",
    ),
    (
        "a chunk's line ended by a bare LF",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\n\r\n{hidden}",
    ),
    (
        "an extension with a bare LF",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;a\nx\r\nhi\r\n0\r\n\r\n{hidden}",
    ),
    (
        "a chunk that is longer than said",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhi\r\n0\r\n\r\n{hidden}",
    ),
    (
        "a chunk without its end of line",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi0\r\n\r\n{hidden}",
    ),
    (
        "a trailer that is a length",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 45\r\n\r\n",
    ),
    (
        "a trailer that is no field",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGET /hidden HTTP/1.1\r\nX-User: me\r\n\r\n",
    ),
    // Heads.
    (
        "bare LF throughout",
        "GET / HTTP/1.1\nHost: a\nContent-Length: 45\n\n{hidden}",
    ),
    (
        "a zero byte in a field",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\nContent-Length: 45\r\n\r\n{hidden}",
    ),
    (
        "a field without a colon",
        "GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\nContent-Length: 45\r\n\r\n{hidden}",
    ),
    (
        "a field without a name",
        "GET / HTTP/1.1\r\nHost: a\r\n: x\r\nContent-Length: 45\r\n\r\n{hidden}",
    ),
    (
        "a first field that is folded",
        "GET / HTTP/1.1\r\n X-User: me\r\nHost: a\r\n\r\n",
    ),
    (
        "the session's header behind a bare CR",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\rX-User: me\r\n\r\n",
    ),
    (
        "the session's header with a space",
        "GET / HTTP/1.1\r\nHost: a\r\nX-User : me\r\n\r\n",
    ),
    ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("no host", "GET / HTTP/1.1\r\n\r\n"),
    ("another version", "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    ("a version of two digits", "GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    ("HTTP/0.9", "GET /\r\n{hidden}"),
    ("a lower-case version", "GET / http/1.1\r\nHost: a\r\n\r\n{hidden}"),
    ("tabs in the request line", "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "a request line in the target",
        "GET / HTTP/1.1\r\nX-User: me HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    ("empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "an expectation with a hidden body",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 45\r\n\r\n{hidden}",
    ),
    (
        "an upgrade to HTTP/2",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    ),
];

/// All that comes back but the time, and whether the connection has ended.
fn converse(stage: &Stage, bytes: &[u8]) -> (String, bool) {
    let mut stream: TcpStream = stage.client.connect(stage.address(), Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(QUIET)).unwrap();
    // It may be closed before all is read.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    let ended = loop {
        match stream.read(&mut piece) {
            Ok(0) => break true,
            Ok(length) => answer.extend_from_slice(&piece[..length]),
            Err(error) => break error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    };
    let text = String::from_utf8_lossy(&answer);
    let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("Date: "));
    (lines.collect(), ended)
}

/// The answers to all cases, at once.
fn answers(stage: &Stage) -> Vec<(String, bool)> {
    thread::scope(|scope| {
        let asked: Vec<_> = CASES
            .iter()
            .map(|(_, bytes)| scope.spawn(|| converse(stage, bytes.replace("{hidden}", HIDDEN).as_bytes())))
            .collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    })
}

#[test]
fn nginx_answers_the_same_through_a_filter_and_nothing_hidden_gets_out() {
    let stage = Stage::of(&FreshPod {
        image: "nginx",
        args: &[],
        port: Some(PORT),
        ..FreshPod::default()
    });
    let bare = answers(&stage);
    let file = scratch(&format!("{}.requests", stage.pod.name));
    let record = guests::script("record.py");
    let flags = ["--steal", "--header", "X-User=me"];
    let mut session = stage.session(&flags, &["python3", &record, &file.display().to_string(), "80"]);
    session.wait_for_claim(PORT);
    let filtered = answers(&stage);
    let different: Vec<_> = CASES
        .iter()
        .zip(bare.iter().zip(&filtered))
        .filter(|(_, (bare, filtered))| bare != filtered)
        .collect();
    assert!(different.is_empty(), "{different:#?}");
    assert_eq!(std::fs::read(&file).unwrap_or_default().len(), 0, "something got out");
    // The session is there all the same.
    let (answer, _) = converse(&stage, HIDDEN.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    println!("{} cases: nginx answers each as it does bare", CASES.len());
}
