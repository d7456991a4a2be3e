//! Outgoing destinations and the names behind them, as tables.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};

use rules::{AddressContext, AddressRule, NamePattern, NameRules, OutgoingRules, PathPattern, Place, Protocol};

use Place::{Local, Remote};

fn rules(local: &[&str], remote: &[&str]) -> OutgoingRules {
    let parse = |list: &[&str]| list.iter().map(|rule| rule.parse::<AddressRule>().unwrap()).collect();
    OutgoingRules {
        local: parse(local),
        remote: parse(remote),
        ..OutgoingRules::default()
    }
}

#[track_caller]
fn check(rules: &OutgoingRules, names: &[&str], own_listener: bool, cases: &[(&str, Place, &str)]) {
    for (destination, place, why) in cases {
        let verdict = rules.decide(
            Protocol::Tcp,
            destination.parse().unwrap(),
            AddressContext { names, own_listener },
        );
        assert_eq!(verdict.place, *place, "{destination}: {}", verdict.why);
        assert!(
            verdict.why.contains(why),
            "{destination}: {:?} does not say {why:?}",
            verdict.why
        );
    }
}

#[test]
fn everything_is_remote_without_lists_but_what_cannot_leave() {
    check(
        &rules(&[], &[]),
        &[],
        true,
        &[
            ("10.0.0.1:80", Remote, "by default"),
            ("[fd00::1]:80", Remote, "by default"),
            ("127.0.0.1:80", Local, "app itself listens"),
            ("0.0.0.0:80", Local, "app itself listens"),
            ("[::]:80", Local, "app itself listens"),
            ("[::1]:80", Local, "app itself listens"),
            ("[::ffff:127.0.0.1]:80", Local, "app itself listens"),
            ("[::ffff:0.0.0.0]:80", Local, "app itself listens"),
            ("127.9.9.9:80", Local, "app itself listens"),
            ("224.0.0.251:5353", Local, "multicast"),
            ("[ff02::fb]:5353", Local, "multicast"),
            ("255.255.255.255:67", Local, "broadcast"),
        ],
    );
    check(
        &rules(&[], &[]),
        &[],
        false,
        &[
            ("127.0.0.1:80", Remote, "by default"),
            ("[::1]:80", Remote, "by default"),
        ],
    );
}

#[test]
fn local_wins_over_remote_and_a_remote_list_closes_the_rest() {
    let rules = rules(
        &["10.1.0.0/16", ":8125", "db.corp:5432", "*.dev"],
        &["10.0.0.0/8", "[fd00::/8]:443", "*.svc"],
    );
    check(
        &rules,
        &[],
        false,
        &[
            ("10.1.2.3:80", Local, "outgoing.local lists 10.1.0.0/16"),
            ("[::ffff:10.1.2.3]:80", Local, "outgoing.local lists 10.1.0.0/16"),
            ("10.2.2.3:80", Remote, "outgoing.remote lists 10.0.0.0/8"),
            ("10.2.2.3:8125", Local, "outgoing.local lists :8125"),
            ("[fd00::5]:443", Remote, "outgoing.remote lists [fd00::/8]:443"),
            ("[fd00::5]:444", Local, "does not list"),
            ("1.1.1.1:53", Local, "does not list"),
            ("127.0.0.1:1", Local, "does not list"),
        ],
    );
    check(
        &rules,
        &["x", "DB.corp."],
        false,
        &[
            ("9.9.9.9:5432", Local, "db.corp:5432"),
            ("9.9.9.9:1", Local, "not list"),
        ],
    );
    check(&rules, &["a.b.svc"], false, &[("9.9.9.9:1", Remote, "*.svc")]);
    check(&rules, &["a.dev", "a.svc"], false, &[("9.9.9.9:1", Local, "*.dev")]);
}

#[test]
fn a_protocol_that_is_off_is_local_and_unix_sockets_are_opt_in() {
    let rules = OutgoingRules {
        udp: false,
        unix: vec![PathPattern::Prefix(PathBuf::from("/var/run/app"))],
        ..OutgoingRules::default()
    };
    let verdict = rules.decide(Protocol::Udp, "10.0.0.1:53".parse().unwrap(), AddressContext::default());
    assert_eq!(
        (verdict.place, &*verdict.why),
        (Local, "outgoing traffic of this protocol is switched off")
    );
    assert_eq!(rules.decide_unix(Path::new("/var/run/app/a.sock")).place, Remote);
    assert_eq!(rules.decide_unix(Path::new("/var/run/docker.sock")).place, Local);
}

#[test]
fn rules_are_read_as_written_or_refused_with_the_reason() {
    let read = |rule: &str| match rule.parse::<AddressRule>() {
        Ok(rule) => format!("{:?} port {:?}", rule.endpoints, rule.port),
        Err(error) => format!("error: {error}"),
    };
    for (rule, expected) in [
        ("10.0.0.0/8", "Net(10.0.0.0/8) port None"),
        ("10.0.0.1", "Net(10.0.0.1/32) port None"),
        (" 10.0.0.1:80 ", "Net(10.0.0.1/32) port Some(80)"),
        ("10.0.0.0/8:80", "Net(10.0.0.0/8) port Some(80)"),
        ("fd00::1", "Net(fd00::1/128) port None"),
        ("fd00::/8", "Net(fd00::/8) port None"),
        ("[fd00::1]:5432", "Net(fd00::1/128) port Some(5432)"),
        ("[fd00::]", "Net(fd00::/128) port None"),
        ("::ffff:10.0.0.1", "Net(10.0.0.1/32) port None"),
        ("::ffff:10.0.0.0/104", "Net(10.0.0.0/8) port None"),
        ("::/0", "Net(::/0) port None"),
        (":8125", "Any port Some(8125)"),
        ("*:443", "Any port Some(443)"),
        (
            "db.internal:5432",
            r#"Name(NamePattern("db.internal")) port Some(5432)"#,
        ),
        ("*.Corp", r#"Name(NamePattern("*.corp")) port None"#),
        ("*", r#"Name(NamePattern("*")) port None"#),
        ("", "error: it is empty"),
        (
            "10.1.0.0/8",
            "error: `10.1.0.0/8` has bits set beyond its prefix; write `10.0.0.0/8`",
        ),
        (
            "10.0.0.0/33",
            "error: `10.0.0.0/33` is not an IP address or a network such as `10.0.0.0/8`",
        ),
        (
            "10.0.0.256",
            "error: `10.0.0.256` is neither an IP address nor a name: the last label of a name is not a number",
        ),
        ("host:0", "error: `0` is not a port; ports are 1 to 65535"),
        ("host:65536", "error: `65536` is not a port; ports are 1 to 65535"),
        ("host:http", "error: `http` is not a port; ports are 1 to 65535"),
        ("host:+1", "error: `+1` is not a port; ports are 1 to 65535"),
        ("host:", "error: `` is not a port; ports are 1 to 65535"),
        ("[fd00::1", "error: `[` is not closed by `]`"),
        ("[fd00::1]5", "error: `5` is not a port; ports are 1 to 65535"),
        (
            "a.*.b",
            "error: `a.*.b` has a `*` that is not its first label; write `*.suffix` or `*`",
        ),
        (
            "*corp",
            "error: `*corp` has a `*` that is not its first label; write `*.suffix` or `*`",
        ),
    ] {
        assert_eq!(read(rule), expected, "{rule}");
    }
}

#[test]
fn a_rule_for_every_address_matches_mapped_ones_as_ipv4() {
    check(
        &rules(&["0.0.0.0/0"], &[]),
        &[],
        false,
        &[("[::ffff:9.9.9.9]:1", Local, "0.0.0.0/0"), ("[fd00::1]:1", Remote, "")],
    );
}

#[test]
fn names() {
    let rules = NameRules {
        local: ["*.corp", "laptop"]
            .map(|name| NamePattern::parse(name).unwrap())
            .to_vec(),
        ..NameRules::default()
    };
    for (name, place) in [
        ("git.corp", Local),
        ("GIT.CORP.", Local),
        ("a.b.corp", Local),
        ("corp", Remote),
        ("notcorp", Remote),
        ("laptop", Local),
        ("laptop.home", Remote),
        ("über", Remote),
        ("", Remote),
        (".", Remote),
        ("_http._tcp.db", Remote),
    ] {
        assert_eq!(rules.decide(name).place, place, "{name}");
    }
    let remote = NameRules {
        remote: vec![NamePattern::parse("*.svc").unwrap()],
        ..NameRules::default()
    };
    assert_eq!(
        (remote.decide("db.svc").place, remote.decide("db").place),
        (Remote, Local)
    );
    let off = NameRules {
        on: false,
        ..NameRules::default()
    };
    assert_eq!(&*off.decide("db").why, "dns is switched off");
}

#[test]
fn name_patterns_that_could_never_match_are_refused() {
    let long = "a.".repeat(127) + "a";
    let label = "a".repeat(64);
    for (pattern, expected) in [
        ("", "a name is missing"),
        (".", "a name is missing"),
        (
            "*.",
            "`*.` has a `*` that is not its first label; write `*.suffix` or `*`",
        ),
        ("a..b", "`a..b` has an empty label, or one of more than 63 bytes"),
        (label.as_str(), "has an empty label, or one of more than 63 bytes"),
        (long.as_str(), "it is 255 bytes long; a name has at most 253"),
        ("db corp", "`db corp` has the character ` `, which no host name has"),
        ("über", "`über` has the character `ü`"),
    ] {
        let error = NamePattern::parse(pattern).unwrap_err().to_string();
        assert!(error.contains(expected), "{pattern}: {error}");
    }
    for pattern in ["*", "a", "A.b.", "_sip._tcp.x", "*.x-y", "4.a", "xn--bcher-kva"] {
        NamePattern::parse(pattern).unwrap();
    }
}
