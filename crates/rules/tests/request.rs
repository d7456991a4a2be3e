//! Header patterns and filters, as tables.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use rules::{Filter, HeaderPattern, IncomingMode, IncomingRules, MAX_PATTERN_BYTES};

type Fields<'a> = &'a [(&'a str, &'a str)];

#[track_caller]
fn check(patterns: &[&str], cases: &[(Fields<'_>, bool)]) {
    let filter = Filter {
        headers: patterns.iter().map(|pattern| pattern.parse().unwrap()).collect(),
    };
    for (fields, expected) in cases {
        let matched = filter.matches(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        assert_eq!(matched, *expected, "{patterns:?} on {fields:?}");
    }
}

#[test]
fn an_exact_pattern_compares_names_without_case_and_values_with() {
    check(
        &["X-User=me"],
        &[
            (&[("x-user", "me")], true),
            (&[("X-USER", "me")], true),
            (&[("X-User", "Me")], false),
            (&[("X-User", "me2")], false),
            (&[("X-Users", "me")], false),
            (&[("X-User", "you"), ("X-User", "me")], true),
            (&[], false),
        ],
    );
    check(
        &[" X-Empty = "],
        &[(&[("x-empty", "")], true), (&[("x-empty", " ")], false)],
    );
    check(&["X=a=b"], &[(&[("x", "a=b")], true)]);
}

#[test]
fn a_regex_is_searched_in_the_whole_line_without_case() {
    check(
        &["re:^x-tenant: (acme|beta)$"],
        &[
            (&[("X-Tenant", "ACME")], true),
            (&[("X-Tenant", "acme2")], false),
            (&[("Y", "X-Tenant: acme")], false),
        ],
    );
    check(
        &["re:me"],
        &[
            (&[("name", "x")], true),
            (&[("a", "home")], true),
            (&[("a", "b")], false),
        ],
    );
    // Field values are bytes.
    let pattern: HeaderPattern = "re:^a: .+$".parse().unwrap();
    assert!(pattern.matches(b"A", b"\xff\xfe"));
}

#[test]
fn all_patterns_must_match_each_by_some_field() {
    check(
        &["A=1", "re:^b: "],
        &[
            (&[("a", "1"), ("b", "x")], true),
            (&[("a", "1")], false),
            (&[("b", "x")], false),
        ],
    );
    check(&[], &[(&[], true), (&[("a", "b")], true)]);
    assert!(Filter::default().is_empty());
}

#[test]
fn patterns_that_cannot_be_used_are_refused_with_the_reason() {
    let long = format!("re:{}", "a".repeat(MAX_PATTERN_BYTES + 1));
    let large = format!("re:{}", "(a{100}){1000}");
    let deep = format!("re:{}a{}", "(".repeat(2000), ")".repeat(2000));
    for (pattern, expected) in [
        ("X-User", "`X-User` is neither `Name=value` nor `re:PATTERN`"),
        ("X User=me", "`X User` is not a header name"),
        ("=me", "`` is not a header name"),
        ("Ü=me", "`Ü` is not a header name"),
        ("X=a\nb", "the value holds a control character"),
        ("re:(", "not a regular expression: unclosed group"),
        ("re:a{2,1}", "not a regular expression: invalid repetition count range"),
        ("re:(?=x)", "not a regular expression: look-around"),
        ("re:\\1", "not a regular expression: backreferences are not supported"),
        (
            long.as_str(),
            "the pattern is 4097 bytes long; at most 4096 are accepted",
        ),
        (large.as_str(), "exceeds size limit"),
        (deep.as_str(), "nest"),
    ] {
        let error = pattern.parse::<HeaderPattern>().unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{}: {error}",
            &pattern[..pattern.len().min(40)]
        );
        assert!(!error.contains('\n'), "{error}");
    }
    assert!(
        format!("X={}", "v".repeat(MAX_PATTERN_BYTES - 1))
            .parse::<HeaderPattern>()
            .is_ok()
    );
    assert!(
        format!("X={}", "v".repeat(MAX_PATTERN_BYTES))
            .parse::<HeaderPattern>()
            .is_err()
    );
}

#[test]
fn the_fuzz_entry_survives_what_it_is_fed() {
    for seed in [
        "re:(a|b)*\nab",
        "X=me\nme",
        "\u{fffd}\n",
        "(?x-u)[[:alpha:]--a]\n",
        "",
        "\n",
    ] {
        for cut in 0..=seed.len() {
            rules::fuzz(&seed.as_bytes()[..cut]);
        }
    }
    rules::fuzz(&[0xff; 64]);
}

#[test]
fn local_ports_stand_for_pod_ports() {
    let rules = |mode, ports: &[u16], map: &[(u16, u16)]| IncomingRules {
        mode,
        ports: ports.to_vec(),
        port_map: map.iter().copied().collect(),
        ..IncomingRules::default()
    };
    for (rules, local, pod) in [
        (rules(IncomingMode::Mirror, &[], &[]), 80, Some(80)),
        (rules(IncomingMode::Off, &[], &[]), 80, None),
        (rules(IncomingMode::Steal, &[80], &[]), 80, Some(80)),
        (rules(IncomingMode::Steal, &[80], &[]), 81, None),
        (rules(IncomingMode::Steal, &[80], &[(3000, 80)]), 3000, Some(80)),
        (rules(IncomingMode::Steal, &[80], &[(3000, 81)]), 3000, None),
        (rules(IncomingMode::Steal, &[], &[(3000, 80)]), 3000, Some(80)),
    ] {
        assert_eq!(rules.pod_port(local), pod, "{rules:?} {local}");
    }
}
