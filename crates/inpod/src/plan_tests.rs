//! The table of a plan, its borders, its JSON.

use rules::PathPattern;

use super::*;

fn rules() -> FileRules {
    FileRules {
        hidden: vec![PathPattern::Prefix("/data/secret".into())],
        map: vec![("/config".into(), "/etc/app".into())],
        volumes: vec!["/etc/shop".into(), "/srv/state".into()],
        kept: vec!["/work/project".into()],
        ..FileRules::default()
    }
}

fn shown(rows: &[Row], path: &str) -> Option<String> {
    let row = rows.iter().find(|row| row.path == Path::new(path));
    row.map(|row| format!("{}, {}", place(row), row.verdict.why))
}

#[test]
fn borders_are_where_something_else_begins() {
    let rows = borders(&rules());
    for (path, expected) in [
        ("/", Some("local, the root lists both")),
        ("/...", Some("remote, not a system or developer path")),
        ("/usr", Some("local, programs and libraries are local")),
        // As all below /usr.
        ("/usr/lib", None),
        ("/etc", Some("local, a developer's or machine's own directory")),
        ("/etc/shop", Some("remote, the pod mounts a volume at /etc/shop")),
        ("/srv/state", Some("remote, the pod mounts a volume at /srv/state")),
        ("/data/secret", Some("hidden, files.hidden lists /data/secret")),
        ("/config", Some("remote /etc/app, files.map maps /config")),
        ("/work/project", Some("local, /work/project is the developer's")),
    ] {
        assert_eq!(shown(&rows, path).as_deref(), expected, "{path}");
    }
}

#[test]
fn a_path_is_told_with_its_rule() {
    let rules = rules();
    let rows: Vec<Row> = ["/config/a\u{1b}.toml", "/data/x"]
        .map(|path| decided(&rules, Path::new(path)))
        .into();
    let expected = "\
PATH             PLACE                    WHY
/config/a\u{fffd}.toml  remote /etc/app/a\u{fffd}.toml  files.map maps /config
/data/x          remote                   not a system or developer path
";
    assert_eq!(table(&rows), expected);
}

#[test]
fn a_link_of_this_machine_may_lead_to_the_pod() {
    let directory = tempfile::tempdir_in("/tmp").expect("a directory");
    let (link, pods) = (directory.path().join("link"), directory.path().join("pods"));
    std::fs::create_dir(&pods).expect("a directory of its own");
    std::os::unix::fs::symlink("pods", &link).expect("a link");
    let rules = FileRules {
        remote: vec![PathPattern::Prefix(pods.clone())],
        ..rules()
    };
    let rows = [decided(&rules, &link), decided(&rules, directory.path())];
    let pods = pods.display();
    assert_eq!(
        shown(&rows, &link.display().to_string()),
        Some(format!("remote, it leads to {pods}: files.remote lists {pods}"))
    );
    assert_eq!(rows[1].verdict.place, Place::Local);
}

#[test]
fn json_has_everything() {
    let known = Known {
        target: Some("pod shop/web-1".to_owned()),
        notes: vec!["a note".to_owned()],
    };
    let text = json(&rules(), &known, &[decided(&rules(), Path::new("/config/x"))]);
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["target"], "pod shop/web-1");
    assert_eq!(value["volumes"][0], "/etc/shop");
    assert_eq!(value["paths"][0]["place"], "remote");
    assert_eq!(value["paths"][0]["in_pod"], "/etc/app/x");
    assert_eq!(value["paths"][0]["why"], "files.map maps /config");
}
