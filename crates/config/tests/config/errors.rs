//! Each error with its position, line and suggestion, in the three formats.

use crate::error;

#[track_caller]
fn check(name: &str, cases: &[&str]) -> String {
    let case = |text: &&str| format!("{text}\n--> {}\n", error(name, text));
    cases.iter().map(case).collect::<Vec<_>>().join("\n====\n")
}

#[test]
fn toml() {
    let shown = check(
        "inpod.toml",
        &[
            "taget = \"pod/x\"",
            "target = \"pod/x",
            "target = 5",
            "target = \"\"",
            "target = \"a\\u0007b\"",
            "target = \"pod/x\"\ntarget = \"pod/y\"",
            "[incomming]\nmode = \"steal\"",
            "[incoming]\nmode = \"stael\"",
            "[incoming]\n\nports = [80, 0, 65536, \"90\", 1.5]",
            "incoming = \"steal\"",
            "mode = \"steal\"",
            "[incoming]\nportmap = {}",
            "incoming.ports = 80",
            "incoming.port_map = { 3000 = 80, 3001 = 80 }",
            "incoming.port_map = { x = 80 }",
            "incoming.filter = [\"X-User\", \"re:(\", \"a b=c\"]",
            "outgoing.local = [\"10.1.0.0/8\", \"db:0\", \"a.*.b\", \"10.0.0.256\"]",
            "outgoing.tcp = \"yes\"",
            "dns.local = [\"b\u{fc}cher.example\"]",
            "[env.override]\nA = 1.5\nB = 1979-05-27\n\"C=D\" = \"x\"",
            "env.include = [\"[\"]",
            "files.remote = [\"~other/x\", \"/a/{b\"]",
            "files.hidden = [\"re:(\"]",
            "files.map = { \"/here\" = \"there\" }",
            "agent.linger = 90",
            "agent.linger = \"90\"",
            "agent.linger = \"2d\"",
            "agent.log = \"verbose\"",
            "\"incoming.mode\" = \"steal\"",
            "[target]\nname = \"x\"",
            "frobnicate = 1",
            "# \u{fc}\u{fc}\nx = 1 # \ttab",
        ],
    );
    insta::assert_snapshot!(shown);
}

#[test]
fn tls() {
    let shown = check(
        "inpod.toml",
        &[
            "incoming.tls = [\"/c,/k\"]",
            "incoming.tls = { https = \"/c,/k\" }",
            "incoming.tls = { 443 = \"/c\" }",
            "incoming.tls = { 443 = \"/c,/k,clear\" }",
            "incoming.tls = { 443 = \"c,/k\" }",
            "incoming.tls = { 443 = true }",
            "incoming.tls = { 443 = { certificate = \"/c\" } }",
            "incoming.tls = { 443 = { certificate = \"/c\", key = \"local:\" } }",
            "incoming.tls = { 443 = { certificate = \"/c\", key = \"/k\", cert = \"/c\" } }",
            "incoming.tls = { 443 = { certificate = \"/c\", key = \"/k\", app = \"plan\" } }",
            "incoming.tls = { 443 = { certificate = \"/c\", key = \"/k\", client_ca = \"/a\", client_key = \"/k\" } }",
            "incoming.tls = { 443 = { certificate = \"/c\", key = \"/k\", client_certificate = \"/c\", client_key = \"/k\" } }",
        ],
    );
    insta::assert_snapshot!(shown);
}

#[test]
fn json() {
    let shown = check(
        "inpod.json",
        &[
            "{ \"taget\": \"pod/x\" }",
            "{ \"target\": }",
            "{ \"target\": \"pod/x\"",
            "{ \"target\": null }",
            "{ target: \"pod/x\" }",
            "{ \"target\": 'pod/x' }",
            "{ \"target\": \"a\" \"namespace\": \"b\" }",
            "{ \"target\": \"a\", \"target\": \"b\" }",
            "[]",
            "5",
            "{} {}",
            "{\n  // a comment\n  \"incoming\": { \"mode\": \"stael\" },\n}",
            "{\n  \"incoming\": {\n    \"ports\": [80, -1, 8080.5, 1e3]\n  }\n}",
            "{ \"env\": { \"override\": { \"A\": [] } } }",
            "{ \"dns\": [] }",
        ],
    );
    insta::assert_snapshot!(shown);
}

#[test]
fn yaml() {
    let shown = check(
        "inpod.yaml",
        &[
            "taget: pod/x",
            "target: [pod/x",
            "target:",
            "target: a\ntarget: b",
            "- a",
            "just text",
            "a: b: c",
            "incoming:\n  mode: stael",
            "incoming:\n  ports:\n    - 80\n    - http\n    - 0\n",
            "outgoing:\n  tcp: yes",
            "env:\n  override:\n    VERSION: 1.10\n",
            "env:\n  overide:\n    A: b\n",
            "target: *unknown",
            "a: &a [1]\nincoming:\n  ports: *a\n",
            "target: a\n---\ntarget: b\n",
            "target: !!binary aGVsbG8=\nx: 1",
            "? [a, b]\n: c",
        ],
    );
    insta::assert_snapshot!(shown);
}

#[test]
fn many_problems_are_told_at_once_in_order_and_the_rest_is_counted() {
    let text: String = (0..14).map(|number| format!("zz{number} = 1\n")).collect();
    let error = error("inpod.toml", &text);
    assert!(
        error.starts_with("inpod.toml:1:1: unknown key `zz0`\n  1 | zz0 = 1\n    | ^\n"),
        "{error}"
    );
    assert!(
        error.contains("inpod.toml:10:1") && !error.contains("inpod.toml:11:1"),
        "{error}"
    );
    assert!(error.ends_with("\nand 4 more"), "{error}");
}
