//! The splitter and the framing under it, as tables: what is wanted of a client's bytes, at every way to cut them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;

use bytes::Bytes;
use fixture::http2::give;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request};
use http_route::http1::MAX_HEAD;
use http_route::http2::{ClientReader, Said};
use http_route::{Content, Piece, RawReason, RequestHead, RequestSplitter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Wanted are requests whose target begins with `/s`, and those for `/by-body` whose body is `me`. Returns the wanted bytes, the number of requests and the reason to
/// give up.
fn split_by<'a>(
    mut splitter: RequestSplitter,
    pieces: impl Iterator<Item = &'a [u8]>,
    whole: &[u8],
) -> (Vec<u8>, u64, Option<RawReason>) {
    let (mut wanted, mut all) = (Vec::new(), Vec::new());
    let mut each = |piece: Piece<'_>| {
        all.extend_from_slice(piece.bytes);
        if piece.wanted {
            wanted.extend_from_slice(piece.bytes);
        }
    };
    for piece in pieces {
        splitter.feed(
            piece,
            &mut |head: &RequestHead<'_>, content: Content<'_>| match (head.target(), content) {
                ("/by-body", Content::Coming) => None,
                ("/by-body", content) => Some(content == Content::Whole(b"me")),
                (target, _) => Some(target.starts_with("/s")),
            },
            &mut each,
        );
    }
    splitter.finish(&mut each);
    assert_eq!(all, whole, "the pieces are not the input");
    (wanted, splitter.requests(), splitter.raw())
}

fn split<'a>(pieces: impl Iterator<Item = &'a [u8]>, whole: &[u8]) -> (Vec<u8>, u64, Option<RawReason>) {
    split_by(RequestSplitter::new(), pieces, whole)
}

fn check(input: &str, wanted: &str, requests: u64, raw: Option<RawReason>) {
    check_by(&RequestSplitter::new, input, wanted, requests, raw);
}

fn check_by(new: &dyn Fn() -> RequestSplitter, input: &str, wanted: &str, requests: u64, raw: Option<RawReason>) {
    let bytes = input.as_bytes();
    let expect = (wanted.as_bytes().to_vec(), requests, raw);
    for cut in 0..=bytes.len() {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(
            split_by(new(), [first, second].into_iter(), bytes),
            expect,
            "cut at {cut}: {input:?}"
        );
    }
    for size in [1, 2, 3, 5] {
        assert_eq!(
            split_by(new(), bytes.chunks(size), bytes),
            expect,
            "by {size}: {input:?}"
        );
    }
    http_route::fuzz(bytes);
}

#[test]
fn requests() {
    let get = "GET /s HTTP/1.1\r\nHost: a\r\n\r\n";
    let other = "GET /r HTTP/1.1\r\nhOST:a\r\n\r\n";
    check("", "", 0, None);
    check(get, get, 1, None);
    check(&format!("{other}{get}{other}{get}"), &format!("{get}{get}"), 4, None);
    let post = "POST /s HTTP/1.1\r\nContent-Length:  5 \r\n\r\nGET /";
    check(&format!("{post}{other}{post}"), &format!("{post}{post}"), 3, None);
    let chunked = "POST /s HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nGET /\r\n0\r\nT: v\r\n\r\n";
    check(&format!("{other}{chunked}{other}"), chunked, 3, None);
    // Empty lines before a request go with it.
    check(
        &format!("{post}\r\n{other}\r\n{get}"),
        &format!("{post}\r\n{get}"),
        3,
        None,
    );
    // An unfinished head is nobody's.
    check(&format!("{get}GET /s HTT"), get, 1, None);
    check(
        "POST /s HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
        "POST /s HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
        1,
        None,
    );
}

#[test]
fn other_protocols() {
    check(
        "\x16\x03\x01\x02\x00 GET /s HTTP/1.1\r\n\r\n",
        "",
        0,
        Some(RawReason::Tls),
    );
    check("*1\r\n$4\r\nPING\r\n", "", 0, Some(RawReason::NotHttp));
    let upgrade = "GET /s HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    check(
        &format!("{upgrade}\u{81}\x05hello GET"),
        &format!("{upgrade}\u{81}\x05hello GET"),
        1,
        None,
    );
    // Refused, or h2c that was ignored: the next request is judged alone.
    let other = "GET /r HTTP/1.1\r\n\r\n";
    check(
        &format!("{upgrade}{other}{upgrade}"),
        &format!("{upgrade}{upgrade}"),
        3,
        None,
    );
    // Servers differ about the body of a CONNECT.
    for fields in ["Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n"] {
        let input = format!("CONNECT /s HTTP/1.1\r\n{fields}\r\n0\r\n\r\nGET /s HTTP/1.1\r\n\r\n");
        check(&input, "", 0, Some(RawReason::BothLengths));
    }
    let connect = "CONNECT /s:1 HTTP/1.1\r\n\r\n";
    check(
        &format!("{connect}\x16\x03\x01"),
        &format!("{connect}\x16\x03\x01"),
        1,
        None,
    );
}

/// Everything but requests that are not wanted.
#[test]
fn left_out() {
    let check = |input: &str, wanted: &str, requests, raw| {
        check_by(&|| RequestSplitter::leaving_out(false), input, wanted, requests, raw);
    };
    let (wanted, probe) = (
        "POST /s HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi",
        "GET /probe HTTP/1.1\r\n\r\n",
    );
    check(probe, "", 1, None);
    check(&[wanted, probe, wanted].concat(), &[wanted, wanted].concat(), 3, None);
    let raw = |bytes: &str, reason| {
        check(bytes, bytes, 0, reason);
        check(&[probe, bytes].concat(), bytes, 1, reason);
    };
    // Unfinished, and framed in a doubtful way.
    raw("GET /s HTTP/1.1\r\nA: b", None);
    raw(
        "GET /r HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nGET /r HTTP/1.1\r\n\r\n",
        Some(RawReason::BothLengths),
    );
    for (bytes, reason) in [
        ("\x16\x03\x01\x02\x00 GET /r HTTP/1.1\r\n\r\n", Some(RawReason::Tls)),
        ("*1\r\n$4\r\nPING\r\n", Some(RawReason::NotHttp)),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nanything", None),
        ("PRI * HT", None),
    ] {
        check(bytes, bytes, 0, reason);
    }
}

/// What two implementations might read differently; the request behind it is never found.
#[test]
fn smuggling() {
    let hidden = "GET /s HTTP/1.1\r\n\r\n";
    for (fields, reason) in [
        (
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            RawReason::BothLengths,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            RawReason::BothLengths,
        ),
        ("Content-Length: 4\r\nContent-Length: 5\r\n", RawReason::RepeatedLength),
        ("Content-Length: 4\r\nContent-Length: 4\r\n", RawReason::RepeatedLength),
        ("Content-Length: 4, 4\r\n", RawReason::BadLength),
        ("Content-Length: +4\r\n", RawReason::BadLength),
        ("Content-Length: -4\r\n", RawReason::BadLength),
        ("Content-Length: 0x4\r\n", RawReason::BadLength),
        ("Content-Length: 4 4\r\n", RawReason::BadLength),
        ("Content-Length:\r\n", RawReason::BadLength),
        ("Content-Length: 18446744073709551616\r\n", RawReason::BadLength),
        ("Transfer-Encoding: gzip, chunked\r\n", RawReason::UnknownCoding),
        ("Transfer-Encoding: chunked, identity\r\n", RawReason::UnknownCoding),
        ("Transfer-Encoding: xchunked\r\n", RawReason::UnknownCoding),
        ("Transfer-Encoding: identity\r\n", RawReason::UnknownCoding),
        ("Transfer-Encoding: \"chunked\"\r\n", RawReason::UnknownCoding),
        ("Transfer-Encoding:\r\n", RawReason::UnknownCoding),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            RawReason::UnknownCoding,
        ),
        (
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
            RawReason::UnknownCoding,
        ),
        ("Transfer-Encoding : chunked\r\n", RawReason::SpaceBeforeColon),
        ("Content-Length\t: 4\r\n", RawReason::SpaceBeforeColon),
        ("X: a\r\n Transfer-Encoding: chunked\r\n", RawReason::Folded),
        ("Transfer-Encoding:\r\n chunked\r\n", RawReason::Folded),
        ("X: a\nTransfer-Encoding: chunked\r\n", RawReason::BareLineEnd),
        ("X: a\rTransfer-Encoding: chunked\r\n", RawReason::BareLineEnd),
        ("X: a\r\r\nTransfer-Encoding: chunked\r\n", RawReason::BareLineEnd),
        ("Transfer-Encoding: chunked\n", RawReason::BareLineEnd),
        ("Transfer-Encoding: \x0bchunked\r\n", RawReason::BadHead),
        ("Transfer-Encoding\0: chunked\r\n", RawReason::BadHead),
        ("Transfer\u{a0}Encoding: chunked\r\n", RawReason::BadHead),
        (": chunked\r\n", RawReason::BadHead),
        ("no colon\r\n", RawReason::BadHead),
    ] {
        check(
            &format!("POST /s HTTP/1.1\r\nHost: a\r\n{fields}\r\n0\r\n\r\n{hidden}"),
            "",
            0,
            Some(reason),
        );
    }
    for line in [
        "GET /s\r\n",
        "GET  /s HTTP/1.1\r\n",
        "GET /s HTTP/1.1 \r\n",
        "GET\t/s HTTP/1.1\r\n",
        "GET /s HTTP/1.2\r\n",
        "GET /s HTTP/2.0\r\n",
        "GET /s http/1.1\r\n",
        "GET /s s HTTP/1.1\r\n",
    ] {
        let reason = if line.contains('\t') {
            RawReason::NotHttp
        } else {
            RawReason::BadHead
        };
        check(&format!("{line}\r\n{hidden}"), "", 0, Some(reason));
    }
    check(
        "POST /s HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "",
        0,
        Some(RawReason::UnknownCoding),
    );
    // Inside a body the rest stays with the request that it began with.
    for body in [
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "g\r\n",
        "5;a\rb\r\n",
    ] {
        let wanted = format!("POST /s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}{hidden}");
        check(&wanted, &wanted, 1, Some(RawReason::BadChunk));
        let passed = format!("POST /r HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}{hidden}");
        check(&passed, "", 1, Some(RawReason::BadChunk));
    }
}

#[test]
fn limits() {
    let field = |count: usize| "A: b\r\n".repeat(count);
    let head = |fields: &str| format!("GET /s HTTP/1.1\r\n{fields}\r\n");
    let most = head(&field(256));
    assert_eq!(
        split(most.as_bytes().chunks(1000), most.as_bytes()),
        (most.clone().into_bytes(), 1, None)
    );
    let more = head(&field(257));
    let expect = (Vec::new(), 0, Some(RawReason::TooManyFields));
    assert_eq!(split(more.as_bytes().chunks(1000), more.as_bytes()), expect);
    let long = head(&format!("A: {}\r\n", "b".repeat(10 << 20)));
    let expect = (Vec::new(), 0, Some(RawReason::HeadTooLong));
    assert_eq!(split(long.as_bytes().chunks(1000), long.as_bytes()), expect);
    assert_eq!(split(std::iter::once(long.as_bytes()), long.as_bytes()), expect);
}

/// Seeded mutations of good and bad input.
#[test]
fn fuzzed() {
    let seeds: [&[u8]; 6] = [
        b"GET /s HTTP/1.1\r\nHost: a\r\n\r\nPOST /r HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /s HTTP/1.0\r\n\r\n",
        b"POST /ab HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\nGET /s HTTP/1.1\r\n\r\n",
        b"GET /s HTTP/1.1\r\nUpgrade: h2c\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffff\r\n",
        b"\x16\x03\x01\x00\x05",
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % limit as u64).unwrap()
    };
    let pool = b"\r\n\r\n\r\n: \t;0123afGET/HP.\0\x7f\xff";
    for _ in 0..40_000 {
        let mut data = seeds[next(seeds.len())].to_vec();
        for _ in 0..next(6) {
            let at = next(data.len());
            match next(4) {
                0 => data[at] = pool[next(pool.len())],
                1 => data.insert(at, pool[next(pool.len())]),
                2 => drop(data.remove(at)),
                _ => data.extend_from_within(at..),
            }
            if data.is_empty() {
                data.push(b'G');
            }
        }
        http_route::fuzz(&data);
    }
}

#[test]
fn bodies_that_decide() {
    let with = |length: usize, body: &str| format!("POST /by-body HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
    let (mine, theirs) = (with(2, "me"), with(2, "no"));
    check(
        &format!("{theirs}{mine}{theirs}{mine}"),
        &format!("{mine}{mine}"),
        4,
        None,
    );
    let chunked =
        "POST /by-body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\nm\r\n01\r\ne\r\n0\r\nT: v\r\n\r\n";
    check(&format!("{theirs}{chunked}{theirs}"), chunked, 3, None);
    check("POST /by-body HTTP/1.1\r\n\r\n", "", 1, None);
    // It ends early, and it is malformed.
    check(&format!("{mine}{}", with(3, "me")), &mine, 2, None);
    let bad = "POST /by-body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nme\r\n0\r\n\r\n";
    check(&format!("{mine}{bad}{mine}"), &mine, 2, Some(RawReason::BadChunk));
}

#[test]
fn a_body_that_is_too_long_to_decide_is_passed() {
    let get = b"GET /s HTTP/1.1\r\n\r\n";
    for length in [MAX_HEAD - 100, MAX_HEAD + 100, 3 * MAX_HEAD] {
        let head = format!("POST /by-body HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        let input = [head.as_bytes(), &vec![b'x'; length], get].concat();
        for size in [1000, MAX_HEAD - 1, MAX_HEAD, input.len()] {
            assert_eq!(
                split(input.chunks(size), &input),
                (get.to_vec(), 2, None),
                "{length} by {size}"
            );
        }
    }
}

/// A stream's path, its body, and how many trailers it has; `None` where it did not end.
type Streams = BTreeMap<u32, (String, Vec<u8>, Option<usize>)>;

/// What a client of HTTP/2 sends that makes these requests, some of them at a time.
async fn recorded(requests: &[(&str, usize)]) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(fixture::http2::serve(
        listener,
        HeaderValue::from_static("real"),
        1 << 20,
        |_, _| (),
    ));
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let proxy = tokio::spawn(async move {
        let mut server = TcpStream::connect(address).await.unwrap();
        let (mut from_server, mut to_server) = server.split();
        let (mut from_client, mut to_client) = tokio::io::split(&mut far);
        let back = tokio::io::copy(&mut from_server, &mut to_client);
        let forth = async {
            let (mut all, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
            loop {
                let length = from_client.read(&mut buffer).await.unwrap();
                if length == 0 {
                    return all;
                }
                all.extend_from_slice(&buffer[..length]);
                to_server.write_all(&buffer[..length]).await.unwrap();
            }
        };
        tokio::select! {
            all = forth => all,
            _ = back => panic!("the server has ended the connection"),
        }
    });
    let (send, connection) = h2::client::handshake(near).await.unwrap();
    let connection = tokio::spawn(connection);
    for some in requests.chunks(4) {
        let mut asked = JoinSet::new();
        for (path, length) in some {
            asked.spawn(ask(send.clone(), format!("http://shop.test{path}"), *length));
        }
        asked.join_all().await;
    }
    drop(send);
    connection.await.unwrap().unwrap();
    server.abort();
    proxy.await.unwrap()
}

async fn ask(send: SendRequest<Bytes>, uri: String, length: usize) {
    let mut send = send.ready().await.unwrap();
    let request = Request::post(uri).header("x-user", "me").body(()).unwrap();
    let (response, mut stream) = send.send_request(request, length == 0).unwrap();
    drop(send);
    let body = async {
        if length > 0 {
            give(&mut stream, Bytes::from(vec![b'x'; length])).await.unwrap();
            let trailers = [("x-end".parse().unwrap(), HeaderValue::from_static("1"))];
            stream.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
        }
    };
    let answer = async {
        let mut body = response.await.unwrap().into_body();
        while let Some(data) = body.data().await {
            let taken = data.unwrap().len();
            body.flow_control().release_capacity(taken).unwrap();
        }
    };
    tokio::join!(body, answer);
}

fn streams(bytes: &[u8]) -> Streams {
    let mut streams = Streams::new();
    let mut each = |number, said: Said<'_>| match (said, streams.get_mut(&number)) {
        (Said::Fields { fields, end }, None) => {
            let path = fields.iter().find(|(name, _)| *name == b":path").unwrap().1;
            let path = String::from_utf8(path.to_vec()).unwrap();
            streams.insert(number, (path, Vec::new(), end.then_some(0)));
        }
        (Said::Fields { fields, end }, Some((_, _, ended))) => {
            assert!(end && ended.is_none());
            *ended = Some(fields.iter().count());
        }
        (Said::Data { bytes, end }, Some((_, body, ended))) => {
            assert!(ended.is_none());
            body.extend_from_slice(bytes);
            *ended = end.then_some(0);
        }
        (other, _) => panic!("{other:?}"),
    };
    ClientReader::default().feed(bytes, &mut each).unwrap();
    streams
}

#[tokio::test]
async fn streams_of_http2() {
    let requests = [
        ("/s", 0),
        ("/r", 9),
        ("/s/large", 80_000),
        ("/r/large", 80_000),
        ("/by-body", 2),
        ("/r", 0),
        ("/by-body", 3),
        ("/s", 1),
        ("/by-body", 2 * MAX_HEAD),
        ("/by-body", 2),
    ];
    let sent = recorded(&requests).await;
    let all = streams(&sent);
    assert_eq!(all.len(), requests.len());
    let wanted = |path: &str, length| path.starts_with("/s") || path == "/by-body" && length == 2;
    let expect: Streams = all
        .into_iter()
        .filter(|(_, (path, body, _))| wanted(path, body.len()))
        .collect();
    assert_eq!(expect.len(), 5);
    for size in [1, 9, 1000, sent.len()] {
        let mut splitter = RequestSplitter::new();
        let mut chosen = Vec::new();
        for piece in sent.chunks(size) {
            splitter.feed(
                piece,
                &mut |head, content| match (head.target(), content) {
                    ("/by-body", Content::Coming) => None,
                    ("/by-body", content) => Some(content == Content::Whole(b"xx")),
                    (target, _) => Some(target.starts_with("/s")),
                },
                &mut |piece| {
                    assert!(piece.wanted);
                    chosen.extend_from_slice(piece.bytes);
                },
            );
        }
        assert_eq!((splitter.requests(), splitter.raw()), (10, None));
        assert!(streams(&chosen) == expect, "by {size}");
    }
    http_route::fuzz(&sent);
    for cut in (0..sent.len()).step_by(30_011) {
        http_route::fuzz(&sent[..cut]);
    }
    // The rest of what cannot be read is not wanted.
    let mut splitter = RequestSplitter::new();
    let broken = [&sent[..], &[0, 0, 0, 9, 4, 0, 0, 0, 1]].concat();
    splitter.feed(&broken, &mut |_, _| Some(false), &mut |piece| panic!("{piece:?}"));
    assert_eq!((splitter.requests(), splitter.raw()), (10, Some(RawReason::BadFrame)));
}
