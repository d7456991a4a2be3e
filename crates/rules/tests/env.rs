//! Environment variables and skipped programs, as tables.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{Glob, GlobMatcher};
use rules::{BUILD_TOOLS, EXCLUDED, EnvRules, SkipRules};

fn globs(patterns: &[&str]) -> Vec<GlobMatcher> {
    patterns
        .iter()
        .map(|pattern| Glob::new(pattern).unwrap().compile_matcher())
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

#[track_caller]
fn check(rules: &EnvRules, local: &[(&str, &str)], pod: &[(&str, &str)], expected: &[(&str, &str)]) {
    assert_eq!(rules.apply(pairs(local), pairs(pod)), pairs(expected));
}

#[test]
fn every_excluded_entry_is_dropped_and_include_brings_it_back() {
    for entry in EXCLUDED {
        let (name, longer) = match entry.strip_suffix('*') {
            Some(prefix) => (format!("{prefix}X"), None),
            None => ((*entry).to_owned(), Some(format!("{entry}_NOT_THIS"))),
        };
        assert_eq!(
            EnvRules::default().dropped(name.as_ref()),
            Some("would break local toolchains"),
            "{name}"
        );
        let include = EnvRules {
            include: globs(&[&name]),
            ..EnvRules::default()
        };
        assert_eq!(include.dropped(name.as_ref()), None, "{name}");
        if let Some(longer) = longer.filter(|name| !name.starts_with("__")) {
            assert_eq!(EnvRules::default().dropped(longer.as_ref()), None, "{longer}");
        }
    }
}

#[test]
fn what_says_who_the_pod_is_is_taken() {
    for name in [
        "KUBERNETES_SERVICE_HOST",
        "HOSTNAME",
        "DATABASE_URL",
        "NODE_ENV",
        "HTTP_PROXY",
        "PATHS",
        "MY_HOME",
        "lower",
        "",
        "GO",
        "POD_IP",
    ] {
        assert_eq!(EnvRules::default().dropped(name.as_ref()), None, "{name}");
    }
    assert_eq!(EnvRules::default().dropped(OsStr::from_bytes(b"\xff")), None);
    assert_eq!(
        EnvRules::default().dropped(OsStr::from_bytes(b"LD_\xff")),
        Some("would break local toolchains")
    );
}

#[test]
fn the_pod_lies_over_the_machine() {
    check(
        &EnvRules::default(),
        &[("A", "machine"), ("B", "machine"), ("PATH", "/bin")],
        &[("B", "pod"), ("C", "pod"), ("PATH", "/pod/bin")],
        &[("A", "machine"), ("B", "pod"), ("C", "pod"), ("PATH", "/bin")],
    );
}

#[test]
fn exclude_wins_over_include_and_include_closes_the_rest() {
    let rules = EnvRules {
        include: globs(&["DB_*", "PATH"]),
        exclude: globs(&["DB_PASS*"]),
        ..EnvRules::default()
    };
    assert_eq!(rules.dropped("DB_HOST".as_ref()), None);
    assert_eq!(rules.dropped("PATH".as_ref()), None);
    assert_eq!(rules.dropped("DB_PASSWORD".as_ref()), Some("env.exclude"));
    assert_eq!(rules.dropped("OTHER".as_ref()), Some("not in env.include"));
}

#[test]
fn map_takes_what_it_names_then_unset_then_override() {
    let rules = EnvRules {
        map: pairs(&[("PATH", "POD_PATH"), ("OLD", "NEW"), ("GONE", "X")]),
        exclude: globs(&["GONE"]),
        unset: globs(&["AWS_*", "SET"]),
        overrides: pairs(&[("SET", "by hand"), ("B", "by hand")]),
        ..EnvRules::default()
    };
    check(
        &rules,
        &[("AWS_PROFILE", "machine"), ("PATH", "/bin")],
        &[
            ("AWS_REGION", "pod"),
            ("B", "pod"),
            ("GONE", "pod"),
            ("NEW", "pod"),
            ("OLD", "mapped"),
            ("PATH", "/pod"),
        ],
        &[
            ("B", "by hand"),
            ("NEW", "mapped"),
            ("PATH", "/bin"),
            ("POD_PATH", "/pod"),
            ("SET", "by hand"),
        ],
    );
}

#[test]
fn programs_are_skipped_by_name_or_whole_path() {
    let rules = SkipRules {
        build_tools: true,
        programs: vec!["make".into(), "/opt/x/tool".into()],
    };
    for tool in BUILD_TOOLS {
        assert!(rules.skips(&Path::new("/usr/bin").join(tool)), "{tool}");
        assert!(
            !SkipRules {
                build_tools: false,
                programs: Vec::new()
            }
            .skips(Path::new(tool)),
            "{tool}"
        );
    }
    for (program, skipped) in [
        ("/usr/bin/make", true),
        ("make", true),
        ("/opt/x/tool", true),
        ("/opt/y/tool", false),
        ("/usr/bin/node", false),
        ("/usr/bin/gcc-12", false),
        ("/", false),
        ("", false),
    ] {
        assert_eq!(rules.skips(Path::new(program)), skipped, "{program}");
    }
}
