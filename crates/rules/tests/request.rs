//! Header patterns and filters, as tables.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use rules::{Condition, Content, Filter, HeaderPattern, IncomingMode, IncomingRules, MAX_PATTERN_BYTES, Request, Term};

type Fields<'a> = &'a [(&'a str, &'a str)];

#[track_caller]
fn check(patterns: &[&str], cases: &[(Fields<'_>, bool)]) {
    for (fields, expected) in cases {
        assert_eq!(
            matches(patterns, ("GET", "/", fields), Content::Coming),
            Some(*expected),
            "{patterns:?} on {fields:?}"
        );
    }
}

/// Whether a request of this method, path and fields is wanted; its host is `shop:8080`.
fn matches(patterns: &[&str], (method, path, fields): (&str, &str, Fields<'_>), content: Content<'_>) -> Option<bool> {
    let filter = Filter::all(patterns).unwrap();
    let request = Request {
        method,
        path_and_query: path,
        host: Some(b"shop:8080"),
        fields: fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())),
        content,
    };
    filter.matches(&request)
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
        (
            "X-User",
            "`X-User` is neither `Name=value` nor begins with `re:`, `path:`",
        ),
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
            "the pattern is 4100 bytes long; at most 4096 are accepted",
        ),
        ("path:", "`path` is empty"),
        ("method:GET POST", "`GET POST` is not a method"),
        ("grpc:a/b/c", "neither a gRPC service nor SERVICE/METHOD"),
        ("baggage:user", "neither KEY=VALUE nor `re:PATTERN`"),
        ("json:$.a[", "neither a JSONPath query"),
        ("json:a == 1", "neither a JSONPath query"),
        (
            "json:@[((((((((((((((((1",
            "at most 16 levels of brackets and negations are accepted",
        ),
        ("json:$[0,1,2,3,4]", "at most 3 commas in brackets"),
        ("json:$..a['x,y'][?search(@..b, 'c')]", "at most 1 `..`"),
        ("where:x=1", "`where:x` is not a header name"),
        (large.as_str(), "exceeds size limit"),
        (deep.as_str(), "nest"),
    ] {
        let error = pattern.parse::<Condition>().unwrap_err().to_string();
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
fn each_kind_of_condition_looks_at_its_own_part() {
    const NONE: Fields<'_> = &[];
    let get = |path: &'static str| ("GET", path, NONE);
    for (pattern, request, expected) in [
        ("path:/a", get("/a?b"), true),
        ("path:/a", get("/A"), false),
        ("path:/a", get("/a/"), false),
        ("path:/a*", get("/ab/c?d"), true),
        ("path:*.png", get("/x/y.png?z"), true),
        ("path:re:^/a/[0-9]+$", get("/a/17?b"), true),
        ("path:re:^/a/[0-9]+$", get("/a/x"), false),
        ("path-and-query:/a?b=*", get("/a?b=1"), true),
        ("path-and-query:/a", get("/a?b=1"), false),
        ("path-and-query:re:[?&]user=me(&|$)", get("/a?b=1&user=me"), true),
        ("method:get", get("/"), true),
        ("not:method:get", get("/"), false),
        ("not: not:method:get", get("/"), true),
        ("host:SHOP", get("/"), true),
        ("host:shop:8080", get("/"), true),
        ("host:shop:80", get("/"), false),
        ("host:sh*", get("/"), true),
        ("host:re:^SHOP$", get("/"), true),
        (
            "grpc:shop.Cart",
            ("POST", "/shop.Cart/Add", &[("content-type", "application/grpc+proto")]),
            true,
        ),
        (
            "grpc:shop.Cart/Add",
            ("POST", "/shop.Cart/Add", &[("content-type", "application/grpc")]),
            true,
        ),
        (
            "grpc:shop.Cart/Ad",
            ("POST", "/shop.Cart/Add", &[("content-type", "application/grpc")]),
            false,
        ),
        (
            "grpc:shop.Car",
            ("POST", "/shop.Cart/Add", &[("content-type", "application/grpc")]),
            false,
        ),
        (
            "grpc:shop.Cart",
            ("POST", "/shop.Cart/Add", &[("content-type", "text/html")]),
            false,
        ),
        (
            "baggage:user=me",
            ("GET", "/", &[("baggage", "a=b, user = m%65 ;p=q")]),
            true,
        ),
        (
            "baggage:user=me",
            ("GET", "/", &[("baggage", "a=b"), ("Baggage", "user=me")]),
            true,
        ),
        (
            "baggage:user=me",
            ("GET", "/", &[("baggage", "xuser=me,user=mee,user")]),
            false,
        ),
        ("baggage:re:^user=m", ("GET", "/", &[("baggage", "user=me")]), true),
        (
            "tracestate:inpod=m%65",
            ("GET", "/", &[("tracestate", "x=y,inpod=m%65")]),
            true,
        ),
        ("tracestate:inpod=me", ("GET", "/", &[("baggage", "inpod=me")]), false),
    ] {
        assert_eq!(
            matches(&[pattern], request, Content::Coming),
            Some(expected),
            "{pattern} on {request:?}"
        );
    }
}

#[test]
fn a_condition_on_the_body_waits_for_it_only_where_it_must() {
    const JSON: Fields<'_> = &[("content-type", "application/json; charset=utf-8")];
    let body = Content::Whole(br#"{"user": {"id": 7, "name": "me"}, "items": [{"n": 1}, {"n": 12}]}"#);
    for (query, expected) in [
        ("$.user", true),
        ("$.user.age", false),
        ("$.items[?@.n > 10]", true),
        ("$.items[?@.n > 12]", false),
        ("@.user.name == 'me'", true),
        ("@.user.name == \"me\" && @.user.id < 8", true),
        ("!@.user", false),
        ("@.user.id == '7'", false),
        ("$..n", true),
        ("$['user']['id','age','name','..,,,,,']", true),
        (
            "@.user.name && match(@.user.name, 'm[a-z]') && search(@.user.name, \"e\")",
            true,
        ),
        ("match(@.user.name, 'm')", false),
    ] {
        let pattern = format!("json:{query}");
        let on = |content| matches(&[&pattern], ("POST", "/", JSON), content);
        assert_eq!(on(body), Some(expected), "{query}");
        assert_eq!(on(Content::Coming), None, "{query}");
        assert_eq!(on(Content::Unseen), Some(false), "{query}");
        assert_eq!(on(Content::Whole(b"{\"user\"")), Some(false), "{query}");
    }
    let on = |patterns: &[&str], fields| matches(patterns, ("POST", "/", fields), Content::Coming);
    assert_eq!(on(&["json:$.a", "path:/b"], JSON), Some(false));
    assert_eq!(on(&["path:/", "json:$.a"], JSON), None);
    assert_eq!(on(&["json:$.a"], &[]), None, "no content type may be JSON");
    assert_eq!(on(&["json:$.a"], &[("content-type", "image/png")]), Some(false));
    assert_eq!(on(&["not:json:$.a"], JSON), None);
}

#[test]
fn operators_combine_conditions() {
    let is = |written: &str| Term::Is(written.to_owned());
    let terms = vec![
        is("A=1"),
        Term::Any(2),
        Term::All(2),
        is("B=1"),
        Term::Not,
        is("C=1"),
        is("D=1"),
    ];
    let filter = Filter::new(terms.clone()).unwrap();
    assert_eq!(filter.to_string(), "A=1 and ((B=1 and not:C=1) or D=1)");
    let on = |names: &[&str]| {
        let request = Request {
            method: "GET",
            path_and_query: "/",
            host: None,
            fields: names.iter().map(|name| (name.as_bytes(), &b"1"[..])),
            content: Content::Coming,
        };
        filter.matches(&request).unwrap()
    };
    for (names, expected) in [
        (&["a"][..], false),
        (&["a", "b"], true),
        (&["a", "b", "c"], false),
        (&["a", "b", "c", "d"], true),
        (&["b", "d"], false),
    ] {
        assert_eq!(on(names), expected, "{names:?}");
    }
    assert!(Filter::new(terms[..6].to_vec()).is_err(), "one is missing");
    assert!(Filter::new(vec![is("A=1"); 33]).is_err(), "too many");
    assert!(
        Filter::new([vec![Term::Not; 9], vec![is("A=1")]].concat()).is_err(),
        "too deep"
    );
    assert!(Filter::new(vec![Term::All(u16::MAX)]).is_err());
}

#[test]
fn what_is_wider_includes_what_is_narrower() {
    let filter = |written: &[&str]| Filter::all(written).unwrap();
    let mine = filter(&["X-User=me"]);
    for (other, expected) in [
        (filter(&["X-User=me"]), true),
        (filter(&["path:/a", "X-User=me"]), true),
        (filter(&["X-User=you"]), false),
        (filter(&["not:X-User=me"]), false),
        (filter(&[]), false),
    ] {
        assert_eq!(mine.includes(&other), expected, "{other}");
    }
    assert!(filter(&[]).includes(&mine));
    assert!(filter(&["not:A=1"]).includes(&filter(&["B=1", "not:A=1"])));
}

#[test]
fn the_fuzz_entry_survives_what_it_is_fed() {
    for seed in [
        "re:(a|b)*\nab",
        "json:@.a[0] == 'b'\n{\"a\": [\"b\"]}",
        "baggage:a=b\na=%62;c",
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
