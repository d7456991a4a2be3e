//! What a person and a script get to see.

use http_route::RawReason;
use wire::message::ClaimMode;

use super::super::client::Client;
use super::*;

fn shown(json: bool, bytes: usize) -> Shown {
    let incoming = Incoming {
        mode: ClaimMode::Mirror,
        port: 8080,
        client: "10.0.0.7:5000".parse().expect("an address"),
        server: "10.0.0.1:8080".parse().expect("an address"),
    };
    Shown::new(Form { json, bytes }, &incoming)
}

fn texts(shown: &mut Shown, sent: &[u8]) -> String {
    let mut client = Client::new(shown.form.bytes);
    let mut text = String::new();
    let at = 45_296_007;
    client.feed(sent, &mut |part| text.push_str(&shown.text(&part, at)));
    client.finish(&mut |part| text.push_str(&shown.text(&part, at)));
    text + &shown.ended(End::Finished, at)
}

#[test]
fn a_request_with_its_fields_and_body() {
    let request = b"POST /orders?x=1 HTTP/1.1\r\nHost: shop\r\nContent-Length: 14\r\n\r\n{\"user\":\r\n\"me\"";
    assert_eq!(
        texts(&mut shown(false, 99), request),
        "12:34:56.007Z 10.0.0.7:5000 > :8080 POST /orders?x=1 HTTP/1.1\n    Host: shop\n    Content-Length: 14\n\n    \
         {\"user\":\n    \"me\"\n"
    );
    assert!(texts(&mut shown(false, 4), request).ends_with("\n\n    {\"us\n    (4 of 14 bytes shown)\n"));
    assert!(texts(&mut shown(false, 0), request).ends_with("\n\n    (0 of 14 bytes shown)\n"));
    let object: Value = serde_json::from_str(&texts(&mut shown(true, 99), request)).expect("one object");
    assert_eq!(
        object,
        json!({
            "event": "request", "unix_milliseconds": 45_296_007, "client": "10.0.0.7:5000", "server": "10.0.0.1:8080",
            "port": 8080, "method": "POST", "target": "/orders?x=1", "version": "HTTP/1.1",
            "headers": [{"name": "Host", "value": "shop"}, {"name": "Content-Length", "value": "14"}],
            "body": {"length": 14, "shown": 14, "text": "{\"user\":\r\n\"me\""},
        })
    );
}

#[test]
fn other_bytes_up_to_the_limit() {
    let bytes = b"\0\x01ab";
    assert_eq!(
        texts(&mut shown(false, 3), bytes),
        "12:34:56.007Z 10.0.0.7:5000 > :8080 opened; not taken apart into requests: not HTTP\n\
         12:34:56.007Z 10.0.0.7:5000 > :8080 4 bytes\n    0000  00 01 61                                         ..a\n    \
         (3 of 4 bytes shown)\n12:34:56.007Z 10.0.0.7:5000 > :8080 closed, 4 bytes\n"
    );
    let mut shown = shown(false, 3);
    let _ = texts(&mut shown, bytes);
    assert_eq!(shown.text(&Sent::Bytes(b"more".to_vec()), 0), "");
    assert!(shown.ended(End::Broken, 0).ends_with("reset, 8 bytes\n"));
}

#[test]
fn a_connection_without_a_byte() {
    assert!(texts(&mut shown(false, 3), b"").ends_with(" > :8080 opened and closed, 0 bytes\n"));
}

#[test]
fn no_control_character_of_a_client_is_printed() {
    let hostile =
        "GET /\u{9b}2J HTTP/1.1\r\nA: \u{1b}]0;x\u{7}\u{9b}31m\r\nContent-Length: 9\r\n\r\nb\u{9b}J\u{1b}[2Jx";
    let mut all = String::new();
    for json in [false, true] {
        all += &texts(&mut shown(json, 99), hostile.as_bytes());
        all += &texts(&mut shown(json, 99), b"\x1b[2J\xc2\x9b");
        all += &shown(json, 99).text(&Sent::Raw(RawReason::Tls), 0);
    }
    let found = all
        .chars()
        .find(|character| character.is_control() && *character != '\n');
    assert_eq!(found, None, "{all:?}");
}
