//! Conversations, byte for byte.

use http_route::{End, RawReason};

use crate::harness::{Case, REAL, S1, S2, SETTLE, Then, check};

const GET: &str = "GET / HTTP/1.1\r\nhOst:  a\r\n\r\n";
const GET1: &str = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

macro_rules! cat {
    ($($part:expr),*) => { [$($part),*].concat().as_str() };
}

#[test]
fn one_request_and_the_clients_end() {
    let summary = check(&Case {
        client: &[(GET, OK)],
        half_close: true,
        upstreams: &[(REAL, &[(GET, OK)], Then::Wait)],
    });
    assert_eq!(
        (summary.requests, summary.passed, summary.end),
        (1, 1, End::ClientClosed)
    );
}

#[test]
fn pipelined_to_alternating_upstreams() {
    const POST2: &str = "POST /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    const ONE: &str = "HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\n1";
    const TWO: &str = "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\n2\r\n00\r\nT: v\r\n\r\n";
    let summary = check(&Case {
        client: &[(
            cat!(GET, GET1, GET, POST2, GET1, POST2),
            cat!(OK, ONE, OK, TWO, ONE, TWO),
        )],
        half_close: true,
        upstreams: &[
            (REAL, &[(GET, OK), (GET, OK)], Then::Wait),
            (S1, &[(GET1, ONE), (GET1, ONE)], Then::Wait),
            (S2, &[(POST2, TWO), (POST2, TWO)], Then::Wait),
        ],
    });
    assert_eq!((summary.requests, summary.passed, summary.matched), (6, 2, 4));
}

#[test]
fn bodies_that_are_none() {
    const HEAD: &str = "HEAD /1 HTTP/1.1\r\n\r\n";
    const LONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    const NOT_MODIFIED: &str = "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n";
    const EMPTY: &str = "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(&Case {
        client: &[(cat!(HEAD, GET1, GET1, GET1), cat!(LONG, NOT_MODIFIED, EMPTY, OK))],
        half_close: true,
        upstreams: &[(
            S1,
            &[(HEAD, LONG), (GET1, NOT_MODIFIED), (GET1, EMPTY), (GET1, OK)],
            Then::Wait,
        )],
    });
}

#[test]
fn continues() {
    const POST: &str = "POST /1 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n";
    let summary = check(&Case {
        client: &[(POST, CONTINUE), ("body", cat!(HINTS, OK)), (GET, OK)],
        half_close: true,
        upstreams: &[
            (S1, &[(POST, CONTINUE), ("body", cat!(HINTS, OK))], Then::Wait),
            (REAL, &[(GET, OK)], Then::Wait),
        ],
    });
    assert_eq!((summary.matched, summary.passed), (1, 1));
}

#[test]
fn close_ends_the_connection() {
    const CLOSE: &str = "HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 2\r\n\r\nok";
    let summary = check(&Case {
        client: &[(GET1, CLOSE)],
        half_close: false,
        upstreams: &[(S1, &[(GET1, CLOSE)], Then::Close)],
    });
    assert_eq!(summary.end, End::Closed);
    const OLD: &str = "GET /1 HTTP/1.0\r\n\r\n";
    check(&Case {
        client: &[(OLD, OK)],
        half_close: false,
        upstreams: &[(S1, &[(OLD, OK)], Then::Close)],
    });
    const KEEP: &str = "GET /1 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
    const KEPT: &str = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
    check(&Case {
        client: &[(KEEP, KEPT), (KEEP, KEPT)],
        half_close: true,
        upstreams: &[(S1, &[(KEEP, KEPT), (KEEP, KEPT)], Then::Wait)],
    });
}

#[test]
fn a_body_until_the_end() {
    const ENDLESS: &str = "HTTP/1.1 200 OK\r\n\r\nsome bytes";
    let summary = check(&Case {
        client: &[(GET1, ENDLESS)],
        half_close: false,
        upstreams: &[(S1, &[(GET1, ENDLESS)], Then::Close)],
    });
    assert_eq!((summary.end, summary.raw), (End::Closed, None));
}

#[test]
fn half_close_before_the_answer() {
    const POST: &str = "POST /1 HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
    check(&Case {
        client: &[(POST, "")],
        half_close: true,
        upstreams: &[(S1, &[(POST, "")], Then::Wait)],
    });
}

#[test]
fn a_cut_request_stays_where_it_began() {
    const CUT: &str = "POST /1 HTTP/1.1\r\nContent-Length: 40\r\n\r\nbody";
    let summary = check(&Case {
        client: &[(CUT, "")],
        half_close: true,
        upstreams: &[(S1, &[(CUT, "")], Then::Wait)],
    });
    assert_eq!(summary.end, End::UpstreamBroke { reset: false });
    const CUT_HEAD: &str = "GET /1 HTT";
    let summary = check(&Case {
        client: &[(CUT_HEAD, "")],
        half_close: true,
        upstreams: &[(REAL, &[(CUT_HEAD, "")], Then::Wait)],
    });
    assert_eq!(summary.raw, Some((RawReason::CutHead, REAL)));
}

#[test]
fn an_early_answer() {
    const HEAD: &str = "POST /1 HTTP/1.1\r\nContent-Length: 100\r\n\r\n";
    const TOO_LARGE: &str = "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let summary = check(&Case {
        client: &[(HEAD, TOO_LARGE)],
        half_close: false,
        upstreams: &[(S1, &[(HEAD, TOO_LARGE)], Then::Close)],
    });
    assert_eq!(summary.end, End::Closed);
}

/// The app answers at once, closes later, and reads all of the request in between.
#[test]
fn an_early_answer_does_not_cut_the_request() {
    const HEAD: &str = "POST /1 HTTP/1.1\r\nConnection: close\r\nContent-Length: 8\r\n\r\n";
    let summary = check(&Case {
        client: &[(HEAD, OK), ("body", ""), ("body", "?")],
        half_close: false,
        upstreams: &[(S1, &[(HEAD, OK), ("bodybody", "?")], Then::Close)],
    });
    assert_eq!((summary.end, summary.raw), (End::Closed, None));
}

#[test]
fn upgrades_stay_with_their_route() {
    const ASK: &str = "GET /1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    let summary = check(&Case {
        client: &[(cat!(ASK, GET), cat!(SWITCH, "\u{1}\u{2}")), ("more", "GET")],
        half_close: true,
        upstreams: &[(
            S1,
            &[(ASK, cat!(SWITCH, "\u{1}\u{2}")), (cat!(GET, "more"), "GET")],
            Then::Wait,
        )],
    });
    assert!(summary.upgraded);
    assert_eq!((summary.requests, summary.end), (1, End::RawEnded));
    // Refused: the next request is judged alone.
    let summary = check(&Case {
        client: &[(cat!(ASK, GET), cat!(OK, OK))],
        half_close: true,
        upstreams: &[(S1, &[(ASK, OK)], Then::Wait), (REAL, &[(GET, OK)], Then::Wait)],
    });
    assert_eq!((summary.requests, summary.upgraded), (2, false));
    const CONNECT: &str = "CONNECT a:1 HTTP/1.1\r\n\r\n";
    const DONE: &str = "HTTP/1.1 200 OK\r\n\r\n";
    let summary = check(&Case {
        client: &[(cat!(CONNECT, GET1), DONE)],
        half_close: true,
        upstreams: &[(REAL, &[(CONNECT, DONE), (GET1, "")], Then::Wait)],
    });
    assert!(summary.upgraded);
}

#[test]
fn doubt_goes_raw_to_one_upstream() {
    const BOTH: &str = "POST /1 HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    const BAD: &str = "HTTP/1.1 400 Bad\r\n\r\n";
    let summary = check(&Case {
        client: &[(cat!(GET1, GET, BOTH, GET1), cat!(OK, OK, BAD))],
        half_close: false,
        upstreams: &[
            (S1, &[(GET1, OK)], Then::Wait),
            // On the connection that is open already, as it would be without us.
            (REAL, &[(GET, OK), (cat!(BOTH, GET1), BAD)], Then::Close),
        ],
    });
    assert_eq!(summary.raw, Some((RawReason::BothLengths, REAL)));
    const CHUNKS: &str = "POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nab\r\n0\r\n\r\n";
    let summary = check(&Case {
        client: &[(cat!(CHUNKS, GET), BAD)],
        half_close: false,
        upstreams: &[(S1, &[(cat!(CHUNKS, GET), BAD)], Then::Close)],
    });
    assert_eq!(summary.raw, Some((RawReason::BadChunk, S1)));
}

#[test]
fn a_doubtful_answer_passes_untouched() {
    const ODD: &str = "HTTP/1.1 200 OK\nContent-Length: 2\n\nok";
    let summary = check(&Case {
        client: &[(GET, ODD), (GET1, ODD)],
        half_close: true,
        upstreams: &[(REAL, &[(GET, ODD), (GET1, ODD)], Then::Wait)],
    });
    assert_eq!(summary.raw, Some((RawReason::BareLineEnd, REAL)));
    const MORE: &str = "HTTP/1.1 204 No\r\n\r\nunexpected";
    let summary = check(&Case {
        client: &[(GET, MORE)],
        half_close: true,
        upstreams: &[(REAL, &[(GET, MORE)], Then::Wait)],
    });
    assert_eq!(summary.raw, Some((RawReason::Unsolicited, REAL)));
    const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok";
    let summary = check(&Case {
        client: &[(GET, CUT)],
        half_close: false,
        upstreams: &[(REAL, &[(GET, CUT)], Then::Close)],
    });
    assert_eq!(summary.end, End::UpstreamBroke { reset: false });
    const CUT_HEAD: &str = "HTTP/1.1 200 OK\r\nCont";
    check(&Case {
        client: &[(GET, CUT_HEAD)],
        half_close: false,
        upstreams: &[(REAL, &[(GET, CUT_HEAD)], Then::Close)],
    });
}

#[test]
fn other_protocols_go_raw_to_the_real_app() {
    for (hello, reason) in [
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}", RawReason::Tls),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", RawReason::Http2),
        ("*1\r\n$4\r\nPING\r\n", RawReason::NotHttp),
    ] {
        let turns = [(hello, "+PONG\r\n")];
        let upstreams = &[(REAL, &turns[..], Then::Wait)];
        let summary = check(&Case {
            client: &turns,
            half_close: true,
            upstreams,
        });
        assert_eq!(summary.raw, Some((reason, REAL)));
    }
}

#[test]
fn the_server_speaks_first() {
    let summary = check(&Case {
        client: &[("", "220 mail ESMTP\r\n"), ("HELO /1 HTTP/1.1\r\n\r\n", "250 hi\r\n")],
        half_close: true,
        upstreams: &[(
            REAL,
            &[("", "220 mail ESMTP\r\n"), ("HELO /1 HTTP/1.1\r\n\r\n", "250 hi\r\n")],
            Then::Wait,
        )],
    });
    assert_eq!(summary.raw, Some((RawReason::ServerFirst, REAL)));
}

#[test]
fn a_session_that_is_gone_falls_back() {
    let summary = check(&Case {
        client: &[(cat!(GET, GET1), cat!(OK, OK)), (GET1, OK)],
        half_close: true,
        upstreams: &[(REAL, &[(GET, OK), (GET1, OK), (GET1, OK)], Then::Wait)],
    });
    assert_eq!(
        (summary.requests, summary.matched, summary.passed, summary.fallbacks),
        (3, 0, 3, 2)
    );
    // It served once, closed, and cannot be opened again.
    let summary = check(&Case {
        client: &[(GET1, OK), (SETTLE, ""), (GET1, OK)],
        half_close: true,
        upstreams: &[(S1, &[(GET1, OK)], Then::Close), (REAL, &[(GET1, OK)], Then::Wait)],
    });
    assert_eq!((summary.matched, summary.passed, summary.fallbacks), (1, 1, 1));
    // It served once, closed, and comes back.
    let summary = check(&Case {
        client: &[(GET1, OK), (SETTLE, ""), (GET1, OK)],
        half_close: true,
        upstreams: &[(S1, &[(GET1, OK)], Then::Close), (S1, &[(GET1, OK)], Then::Wait)],
    });
    assert_eq!((summary.matched, summary.fallbacks), (2, 0));
}

#[test]
fn the_real_app_closes_an_idle_connection() {
    let summary = check(&Case {
        client: &[(GET, OK)],
        half_close: false,
        upstreams: &[(REAL, &[(GET, OK)], Then::Close)],
    });
    assert_eq!(summary.end, End::UpstreamClosed { reset: false });
    // What it says before that is passed on.
    const TIMEOUT: &str = "HTTP/1.1 408 Timeout\r\nConnection: close\r\n\r\n";
    let summary = check(&Case {
        client: &[(GET, OK), ("", TIMEOUT)],
        half_close: false,
        upstreams: &[(REAL, &[(GET, OK), ("", TIMEOUT)], Then::Close)],
    });
    assert_eq!(summary.raw.map(|(reason, _)| reason), Some(RawReason::Unsolicited));
}

/// The app gives up the idle connection while the next request is on its way: nothing was sent, so nothing is lost.
#[test]
fn an_idle_connection_closes_under_a_request() {
    let summary = check(&Case {
        client: &[
            (GET, OK),
            ("GET / HT", ""),
            (SETTLE, ""),
            ("TP/1.1\r\nhOst:  a\r\n\r\n", OK),
        ],
        half_close: true,
        upstreams: &[(REAL, &[(GET, OK)], Then::CloseLater), (REAL, &[(GET, OK)], Then::Wait)],
    });
    assert_eq!((summary.passed, summary.end), (2, End::ClientClosed));
}

#[test]
fn nobody_answers() {
    let summary = check(&Case {
        client: &[(GET, "")],
        half_close: false,
        upstreams: &[],
    });
    assert_eq!(summary.end, End::RealUnreachable(std::io::ErrorKind::ConnectionRefused));
    let summary = check(&Case {
        client: &[],
        half_close: false,
        upstreams: &[(REAL, &[], Then::Close)],
    });
    assert_eq!(summary.end, End::UpstreamClosed { reset: false });
    // A head that is never finished: the real app's own patience decides.
    const SLOW: &str = "GET /1 HTTP/1.1\r\n";
    let summary = check(&Case {
        client: &[(SLOW, "")],
        half_close: false,
        upstreams: &[(REAL, &[(SLOW, "")], Then::Close)],
    });
    assert_eq!(summary.raw, Some((RawReason::SlowHead, REAL)));
}

#[test]
fn a_client_without_upstream_is_not_kept_forever() {
    let summary = check(&Case {
        client: &[(GET1, OK)],
        half_close: false,
        upstreams: &[(S1, &[(GET1, OK)], Then::Close)],
    });
    assert_eq!(summary.end, End::Orphaned);
}

#[test]
fn a_client_that_is_to_go_elsewhere() {
    const LAST: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    const LEAVE: &str = "GET /leave HTTP/1.1\r\n\r\n";
    const LATER: &str = "GET /leave-later HTTP/1.1\r\n\r\n";
    let summary = check(&Case {
        client: &[(GET, OK), (LEAVE, LAST)],
        half_close: false,
        upstreams: &[(REAL, &[(GET, OK), (LEAVE, OK)], Then::Wait)],
    });
    assert_eq!((summary.requests, summary.end), (2, End::Left));
    const KEPT: &str = "HTTP/1.1 200 OK\r\nconnection:Keep-Alive \r\nContent-Length: 2\r\n\r\nok";
    const UNKEPT: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let summary = check(&Case {
        client: &[(GET, KEPT), (LEAVE, UNKEPT)],
        half_close: false,
        upstreams: &[(REAL, &[(GET, KEPT), (LEAVE, KEPT)], Then::Wait)],
    });
    assert_eq!((summary.requests, summary.end), (2, End::Left));
    // One that is idle is closed.
    let summary = check(&Case {
        client: &[(LATER, OK)],
        half_close: false,
        upstreams: &[(REAL, &[(LATER, OK)], Then::Wait)],
    });
    assert_eq!((summary.requests, summary.end), (1, End::Left));
    // What has become another protocol stays.
    const UPGRADE: &str = "GET /leave HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    let summary = check(&Case {
        client: &[(UPGRADE, SWITCHED), ("a", "b"), (SETTLE, ""), ("c", "d")],
        half_close: true,
        upstreams: &[(REAL, &[(UPGRADE, SWITCHED), ("a", "b"), ("c", "d")], Then::Wait)],
    });
    assert_eq!(summary.end, End::RawEnded);
}

#[test]
fn bodies_that_decide() {
    const MINE: &str = "POST /by-body HTTP/1.1\r\nContent-Length:  2\r\n\r\nme";
    const THEIRS: &str = "POST /by-body HTTP/1.1\r\nContent-Length: 2\r\n\r\nno";
    const CHUNKED: &str =
        "POST /by-body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n01;x\r\nm\r\n1\r\ne\r\n0\r\nT: v\r\n\r\n";
    const NONE: &str = "POST /by-body HTTP/1.1\r\n\r\n";
    let summary = check(&Case {
        client: &[(cat!(MINE, THEIRS, CHUNKED, NONE), cat!(OK, OK, OK, OK))],
        half_close: true,
        upstreams: &[
            (S1, &[(MINE, OK), (CHUNKED, OK)], Then::Wait),
            (REAL, &[(THEIRS, OK), (NONE, OK)], Then::Wait),
        ],
    });
    assert_eq!((summary.requests, summary.matched, summary.passed), (4, 2, 2));
}

#[test]
fn bodies_that_do_not_come_decide_nothing() {
    const EXPECT: &str = "POST /by-body HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    const LONG: &str = "POST /by-body HTTP/1.1\r\nContent-Length: 100000\r\n\r\n";
    const SLOW: &str = "POST /by-body HTTP/1.1\r\nContent-Length: 2\r\n\r\nm";
    let summary = check(&Case {
        client: &[
            (EXPECT, CONTINUE),
            ("me", OK),
            (
                LONG,
                "HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            ),
        ],
        half_close: false,
        upstreams: &[(
            REAL,
            &[
                (EXPECT, CONTINUE),
                ("me", OK),
                (
                    LONG,
                    "HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                ),
            ],
            Then::Close,
        )],
    });
    assert_eq!((summary.matched, summary.passed), (0, 2));
    // Its sender waits for an answer first.
    let summary = check(&Case {
        client: &[(SLOW, CONTINUE), ("e", OK)],
        half_close: true,
        upstreams: &[(REAL, &[(SLOW, CONTINUE), ("e", OK)], Then::Wait)],
    });
    assert_eq!((summary.matched, summary.passed, summary.raw), (0, 1, None));
    // It ends early.
    check(&Case {
        client: &[(SLOW, "")],
        half_close: true,
        upstreams: &[(REAL, &[(SLOW, "")], Then::Wait)],
    });
}
