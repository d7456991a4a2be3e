//! Filters on the real cluster: who gets a request by its path, method, host, body or baggage, stolen and mirrored.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::time::Duration;

use tests::{Session, Stage, guests, scratch, wait_until};

const JSON: &str = "Content-Type: application/json\r\n";

fn request(line: &str, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{line} HTTP/1.1\r\nHost: shop.test\r\n{fields}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

#[test]
fn requests_are_stolen_by_all_that_can_be_seen_of_them() {
    let stage = Stage::new();
    let file = scratch(&format!("{}.toml", stage.pod.name));
    let written = "[incoming]\nmode = \"steal\"\nfilter = [\n  { any = [\"path:/cart*\", \"baggage:user=me\"] },\n  \
                   { not = \"method:GET\" },\n]\n";
    std::fs::write(&file, written).unwrap();
    let file = file.display().to_string();
    let _cart = stage.with_local_shop(&["-f", &file], "cart");
    let body = ["--steal", "--filter", "path:/orders", "--filter", "json:@.user == 'me'"];
    let body = stage.with_local_shop(&body, "body");
    let _host = stage.with_local_shop(&["--steal", "--filter", "host:other.test"], "host");

    let mut client = stage.connect();
    let mut check = |request: Vec<u8>, who: &str| {
        let answer = client.send(&request).unwrap();
        assert_eq!(answer.service(), who, "{}", request.escape_ascii());
    };
    for _ in 0..5 {
        check(request("POST /cart/1?x", "", "a"), "cart");
        check(request("GET /cart/1", "", ""), "real");
        check(request("PUT /", "Baggage: a=b,user=m%65;p\r\n", ""), "cart");
        check(request("GET /", "Baggage: user=me\r\n", ""), "real");
        check(request("POST /orders", JSON, r#"{"user": "me"}"#), "body");
        check(request("POST /orders", JSON, r#"{"user": "you"}"#), "real");
        check(request("POST /orders/1", JSON, r#"{"user": "me"}"#), "real");
        check(
            request("POST /orders", "Content-Type: text/plain\r\n", r#"{"user": "me"}"#),
            "real",
        );
        let chunked = format!(
            "POST /orders HTTP/1.1\r\nHost: a\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n\
             8\r\n{{\"user\":\r\n6\r\n \"me\"}}\r\n0\r\n\r\n"
        );
        check(chunked.into_bytes(), "body");
        check(b"GET / HTTP/1.1\r\nHost: OTHER.test:8080\r\n\r\n".to_vec(), "host");
    }
    drop(body);
    check(request("POST /orders", JSON, r#"{"user": "me"}"#), "real");

    // Nothing would ever be left for this one.
    let mut flags = vec!["--steal"];
    flags.extend(["--filter", "host:other.test", "--header", "X-User=me"]);
    let late = stage.session(&flags, &["python3", "-m", "http.server", "8080"]);
    wait_until("the refusal", || !late.events("claim-refused").is_empty());
    let refused = late.events("claim-refused");
    let reason = refused[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("already steals requests of port 8080 where host:other.test"),
        "{reason}"
    );
}

#[test]
fn requests_are_mirrored_by_path_and_body() {
    let stage = Stage::new();
    let file = scratch(&format!("{}.requests", stage.pod.name));
    let record = guests::script("record.py");
    let mut session = stage.session(
        &[
            "--filter",
            "path:re:^/orders(/|$)",
            "--filter",
            "json:$.items[?@.n > 2]",
        ],
        &["python3", &record, &file.display().to_string()],
    );
    session.wait_for_claim(8080);
    let wanted = [
        request("POST /orders", JSON, r#"{"items": [{"n": 1}, {"n": 3}]}"#),
        request("PUT /orders/7?x=y", "", r#"{"items": [{"n": 4}]}"#),
    ];
    let other = [
        request("POST /orders", JSON, r#"{"items": [{"n": 1}]}"#),
        request("POST /ordersx", JSON, r#"{"items": [{"n": 3}]}"#),
        request("GET /orders", "", ""),
    ];
    for _ in 0..3 {
        let mut client = stage.connect();
        for request in wanted.iter().chain(&other) {
            assert_eq!(client.send(request).unwrap().service(), "real");
        }
    }
    let copies = |file: &Path, of: &[u8]| {
        let bytes = std::fs::read(file).unwrap_or_default();
        bytes.windows(of.len()).filter(|part| *part == of).count()
    };
    for request in &wanted {
        wait_until("the copies", || copies(&file, request) == 3);
    }
    for request in &other {
        assert_eq!(copies(&file, request), 0, "{}", request.escape_ascii());
    }
}

#[test]
fn who_filters_is_told_of_what_no_filter_looks_into() {
    let stage = Stage::new();
    let steal = stage.with_local_shop(&["--steal", "--header", "X-User=a"], "steal");
    let mirror = stage.with_local_shop(&["--header", "X-User=a"], "mirror");
    // The beginning of TLS, of HTTP/2 and of nothing that is known.
    for bytes in [
        &b"\x16\x03\x01"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x01\x02\x03",
    ]
    .repeat(2)
    {
        let client = stage.client.connect(stage.address(), Duration::from_secs(5)).unwrap();
        (&client).write_all(bytes).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let _ = (&client).read_to_end(&mut Vec::new());
    }
    let warnings = |session: &Session| -> Vec<String> {
        let events = session.events("warning");
        let texts = events.iter().map(|event| event["message"].as_str().unwrap().to_owned());
        texts.filter(|text| text.starts_with("port 8080")).collect()
    };
    wait_until("the warnings", || {
        warnings(&steal).len() >= 3 && warnings(&mirror).len() >= 2
    });
    let kinds = ["TLS", "something other than HTTP", "HTTP/2"];
    // A mirror looks into HTTP/2; a steal leaves it to a real app that does not speak it.
    for (session, kept, kinds) in [
        (steal, "it stays with the real app", &kinds[..]),
        (mirror, "nothing of it is copied", &kinds[..2]),
    ] {
        let warnings = warnings(&session);
        assert_eq!(warnings.len(), kinds.len(), "{warnings:?}");
        for what in kinds {
            let about: Vec<_> = warnings
                .iter()
                .filter(|text| text.contains(&format!("speaks {what},")))
                .collect();
            assert!(about.len() == 1 && about[0].contains(kept), "{what}: {warnings:?}");
        }
    }
}
