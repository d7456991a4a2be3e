//! Paths, as a table: rules, path, where it is served from and why.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};

use globset::GlobBuilder;
use rules::{FileMode, FileRules, PathPattern, Place};

fn glob(pattern: &str) -> PathPattern {
    PathPattern::Glob(
        GlobBuilder::new(pattern)
            .literal_separator(true)
            .build()
            .unwrap()
            .compile_matcher(),
    )
}

fn prefix(path: &str) -> PathPattern {
    PathPattern::Prefix(PathBuf::from(path))
}

#[track_caller]
fn check(rules: &FileRules, cases: &[(&str, Place, &str)]) {
    for (path, place, why) in cases {
        let verdict = rules.decide(Path::new(path));
        assert_eq!(verdict.place, *place, "{path}: {}", verdict.why);
        assert!(
            verdict.why.contains(why),
            "{path}: {:?} does not say {why:?}",
            verdict.why
        );
    }
}

use Place::{Hidden, Local, Remote};

#[test]
fn without_lists_system_and_developer_paths_are_local() {
    check(
        &FileRules::default(),
        &[
            ("/", Local, "root lists both"),
            ("/usr/lib/x86_64-linux-gnu/libc.so.6", Local, "programs and libraries"),
            ("/usr", Local, "programs and libraries"),
            ("/usrlocal/x", Remote, "not a system"),
            ("/lib64", Local, "programs and libraries"),
            ("/opt/jdk/bin/java", Local, "programs and libraries"),
            ("/proc/self/maps", Local, "kernel"),
            ("/dev/null", Local, "kernel"),
            ("/etc/passwd", Local, "developer"),
            ("/etc/hosts", Remote, "who and where"),
            ("/etc/hostsx", Local, "developer"),
            ("/etc/hostname", Remote, "who and where"),
            ("/etc/resolv.conf", Remote, "who and where"),
            (
                "/var/run/secrets/kubernetes.io/serviceaccount/token",
                Remote,
                "who and where",
            ),
            ("/run/secrets", Remote, "who and where"),
            ("/run/nscd/socket", Hidden, "name services"),
            ("/var/run/nscd/socket", Hidden, "name services"),
            ("/run/systemd/resolve/io.systemd.Resolve", Hidden, "name services"),
            ("/run/systemd/resolve/stub-resolv.conf", Local, "developer"),
            ("/home/me/src/main.c", Local, "developer"),
            ("/tmp", Local, "developer"),
            ("/data/x", Remote, "not a system"),
            ("/app", Remote, "not a system"),
            ("/var/www/index.html", Remote, "not a system"),
            ("relative", Local, "relative"),
            ("", Local, "relative"),
        ],
    );
}

#[test]
fn the_deepest_of_volume_kept_and_well_known_decides() {
    let rules = FileRules {
        volumes: [
            "/etc/config",
            "/usr/share/nginx/html",
            "/usr/lib",
            "/tmp",
            "/tmp/shared",
            "/home",
            "/mnt",
            "/var",
            "/work",
            "/dev/shm",
            "/src",
            "/var/lib/db",
        ]
        .map(PathBuf::from)
        .to_vec(),
        kept: ["/home/me", "/work", "/src/app", "/srv/me"].map(PathBuf::from).to_vec(),
        ..FileRules::default()
    };
    check(
        &rules,
        &[
            ("/etc/config/app.yaml", Remote, "volume at /etc/config"),
            ("/etc/configx", Local, "developer"),
            (
                "/usr/share/nginx/html/index.html",
                Remote,
                "volume at /usr/share/nginx/html",
            ),
            ("/usr/lib/libc.so", Local, "programs"),
            ("/tmp/x", Local, "developer"),
            ("/tmp/shared/x", Remote, "volume at /tmp/shared"),
            ("/home/me/x", Local, "/home/me is the developer's"),
            ("/home/you", Local, "developer"),
            ("/mnt/x", Remote, "volume at /mnt"),
            ("/var/www", Remote, "volume at /var"),
            ("/var/lib/x", Local, "developer"),
            ("/var/lib/db/x", Remote, "volume at /var/lib/db"),
            ("/work/x", Local, "/work is the developer's"),
            ("/dev/shm/x", Local, "kernel"),
            ("/src/data", Remote, "volume at /src"),
            ("/src/app/main.py", Local, "/src/app is the developer's"),
            ("/srv/me", Local, "/srv/me is the developer's"),
            ("/srv/you", Remote, "not a system"),
        ],
    );
}

#[test]
fn lists_come_before_everything_hidden_before_local_before_remote() {
    let rules = FileRules {
        hidden: vec![glob("/**/.git"), prefix("/data/secret")],
        local: vec![prefix("/data/cache"), glob("/data/*.lock")],
        remote: vec![
            prefix("/usr/share/zoneinfo"),
            prefix("/data/cache/pod"),
            prefix("/data/secret"),
        ],
        map: vec![
            (PathBuf::from("/m"), PathBuf::from("/a")),
            (PathBuf::from("/m/n"), PathBuf::from("/b")),
        ],
        ..FileRules::default()
    };
    check(
        &rules,
        &[
            ("/data/secret/key", Hidden, "files.hidden lists /data/secret"),
            ("/data/secretx", Remote, "not a system"),
            ("/srv/.git/config", Hidden, "files.hidden lists /**/.git"),
            ("/srv/.gitignore", Remote, "not a system"),
            ("/data/cache/x", Local, "files.local lists /data/cache"),
            ("/data/cache/pod/x", Local, "files.local"),
            ("/data/x.lock", Local, "files.local lists /data/*.lock"),
            ("/data/sub/x.lock", Remote, "not a system"),
            ("/usr/share/zoneinfo/UTC", Remote, "files.remote lists"),
            ("/usr/share/zone", Local, "programs"),
            ("/m/x", Remote, "files.map maps /m"),
            ("/m/n/x", Remote, "files.map maps /m/n"),
        ],
    );
    for (path, pod) in [
        ("/m", "/a"),
        ("/m/x", "/a/x"),
        ("/m/n/x", "/b/x"),
        ("/m/nx", "/a/nx"),
        ("/other", "/other"),
    ] {
        assert_eq!(rules.in_pod(Path::new(path)), Path::new(pod), "{path}");
    }
}

#[test]
fn local_mode_leaves_only_what_is_listed() {
    let rules = FileRules {
        mode: FileMode::Local,
        remote: vec![prefix("/data")],
        volumes: vec![PathBuf::from("/vol")],
        local_names: true,
        ..FileRules::default()
    };
    check(
        &rules,
        &[
            ("/data/x", Remote, "files.remote lists /data"),
            ("/vol/x", Local, "files.mode is local"),
            ("/etc/hosts", Local, "files.mode is local"),
            ("/run/nscd/socket", Local, "files.mode is local"),
        ],
    );
}

#[test]
fn the_way_to_a_local_place_leads_through_its_parents() {
    let rules = FileRules {
        kept: vec![PathBuf::from("/builds/group/project")],
        local: vec![prefix("/data/mine")],
        hidden: vec![prefix("/secrets/not")],
        ..FileRules::default()
    };
    for (path, leads) in [
        ("/builds", true),
        ("/builds/group", true),
        ("/builds/group/project", false),
        ("/builds/other", false),
        ("/data", true),
        ("/secrets", false),
        ("/app", false),
    ] {
        assert_eq!(rules.leads_to_local(Path::new(path)), leads, "{path}");
    }
}

#[test]
fn regular_expressions_are_searched_and_cover_what_is_below() {
    let rules = FileRules {
        hidden: vec![PathPattern::regex(r"\.key$").unwrap()],
        remote: vec![PathPattern::regex("^/home/me/[0-9]+$").unwrap()],
        ..FileRules::default()
    };
    check(
        &rules,
        &[
            ("/home/me/17", Remote, "re:^/home/me/[0-9]+$"),
            ("/home/me/17/deep/er", Remote, "files.remote"),
            ("/home/me/17x", Local, "developer"),
            ("/data/a.key", Hidden, r"re:\.key$"),
            ("/data/a.key/b", Hidden, "files.hidden"),
        ],
    );
}

#[test]
fn the_pods_is_writable_in_mode_write_or_where_it_is_listed() {
    let listed = FileRules {
        write: vec![prefix("/data/out"), prefix("/home/me/pod")],
        local: vec![prefix("/data/out/mine")],
        hidden: vec![glob("**/*.key")],
        ..FileRules::default()
    };
    let all = FileRules {
        mode: FileMode::Write,
        ..FileRules::default()
    };
    for (rules, path, writable) in [
        (&listed, "/data/out/x", true),
        (&listed, "/home/me/pod/x", true),
        (&listed, "/data/in", false),
        (&listed, "/data/out/mine/x", false),
        (&listed, "/data/out/a.key", false),
        (&all, "/data/in", true),
        (&all, "/home/me/x", false),
        (&all, "/usr/lib/x", false),
        (&FileRules::default(), "/data/in", false),
    ] {
        assert_eq!(rules.is_writable(Path::new(path)), writable, "{path}");
    }
    assert!(listed.may_write() && all.may_write() && !FileRules::default().may_write());
}

#[test]
fn all_that_a_pattern_matches_lies_within() {
    let regex = |text| PathPattern::regex(text).unwrap();
    for (pattern, within) in [
        (prefix("/a/b"), "/a/b"),
        (glob("/a/b/*.d"), "/a/b"),
        (glob("**/*.d"), "/"),
        (regex("^/a/b/c[0-9]"), "/a/b"),
        (regex("^/a/b/?c"), "/a"),
        (regex("^/a/bc*"), "/a"),
        (regex("^/a/b$"), "/a"),
        (regex("^/a/b/|^/c/d/"), "/"),
        (regex("/a/b/c"), "/"),
        (regex("^"), "/"),
    ] {
        assert_eq!(pattern.within(), Path::new(within), "{}", pattern.source());
    }
}

#[test]
fn paths_are_normal() {
    for (path, expected) in [
        ("/a/./b//c", "/a/b/c"),
        ("/a/../../b", "/b"),
        ("/", "/"),
        ("/a/b/..", "/a"),
        ("//x", "/x"),
        ("/a/", "/a"),
    ] {
        assert_eq!(rules::normal(Path::new(path)), Path::new(expected));
    }
}

#[test]
fn what_has_no_size_is_shown_where_a_path_may_lead_there() {
    let shows = |rules: FileRules, places: &[&str]| {
        let sizeless = places.iter().map(PathBuf::from).collect();
        FileRules { sizeless, ..rules }.shows_sizeless()
    };
    let kernel = ["/proc", "/sys", "/sys/fs/cgroup", "/dev/mqueue"];
    let listed = |pattern: PathPattern| FileRules {
        remote: vec![pattern],
        ..FileRules::default()
    };
    let mapped = |from: &str, to: &str| FileRules {
        map: vec![(from.into(), to.into())],
        ..FileRules::default()
    };
    let volume = FileRules {
        volumes: vec!["/host/proc".into()],
        ..FileRules::default()
    };
    assert!(!shows(FileRules::default(), &kernel));
    assert!(!shows(FileRules::default(), &[]));
    // A place that leads to anything of the pod's: its root, where nothing is known of it.
    assert!(shows(FileRules::default(), &["/"]));
    assert!(shows(volume, &["/proc", "/host/proc"]));
    assert!(shows(listed(prefix("/proc/net")), &kernel));
    assert!(shows(listed(prefix("/sys")), &["/sys/fs/cgroup"]));
    assert!(!shows(listed(prefix("/usr/share")), &kernel));
    assert!(shows(listed(glob("/sys/**/memory.*")), &kernel));
    assert!(!shows(listed(glob("/usr/share/*.d")), &kernel));
    assert!(shows(mapped("/pod-proc", "/proc"), &kernel));
    assert!(shows(mapped("/one", "/proc/1"), &kernel));
    assert!(shows(mapped("/pod", "/"), &kernel));
    assert!(!shows(mapped("/pod", "/srv"), &kernel));
}
