//! Which file is read.

use std::path::Path;

use config::{Error, Flags, load};

use crate::input;

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(directory.join(name), text).unwrap();
}

#[test]
fn the_nearest_file_upwards_counts_and_home_is_the_last_place() {
    let root = tempfile::tempdir().unwrap();
    let (home, project) = (root.path().join("home"), root.path().join("home/project"));
    write(root.path(), "inpod.toml", "target = \"outside\"");
    write(&project.join("src"), "other.toml", "");
    let read = |from: &Path, home: &Path| {
        let mut input = input(from);
        input.home = Some(home.to_owned());
        load(&input).unwrap().target
    };
    assert_eq!(
        read(&project.join("src"), &home),
        None,
        "above home nothing is looked for"
    );
    assert_eq!(
        read(&project.join("src"), Path::new("/elsewhere")).as_deref(),
        Some("outside")
    );
    write(&home, "inpod.yaml", "target: home");
    assert_eq!(read(&project.join("src"), &home).as_deref(), Some("home"));
    write(&project, "inpod.json", "{\"target\": \"project\"}");
    assert_eq!(read(&project.join("src"), &home).as_deref(), Some("project"));
    assert_eq!(read(&home, &home).as_deref(), Some("home"));
}

#[test]
fn two_files_in_one_directory_are_refused() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "inpod.toml", "");
    write(root.path(), "inpod.yml", "");
    let error = load(&input(root.path())).unwrap_err();
    let expected = format!(
        "{} holds more than one configuration: inpod.toml, inpod.yml",
        root.path().display()
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.hint().as_deref(), Some("keep one of them, or name it with -f"));
}

#[test]
fn a_named_file_is_read_whatever_else_lies_there() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "inpod.toml", "target = \"found\"");
    write(
        &root.path().join("etc"),
        "my.jsonc",
        "{\"target\": \"named\", \"files\": {\"local\": [\"x\"]}}",
    );
    let mut input = input(root.path());
    input.flags = Flags {
        file: Some("etc/my.jsonc".into()),
        ..Flags::default()
    };
    let resolved = load(&input).unwrap();
    assert_eq!(resolved.target.as_deref(), Some("named"));
    assert_eq!(
        resolved.plan.files.local[0].source(),
        root.path().join("etc/x").display().to_string()
    );

    input.flags.file = None;
    input.variables = vec![("INPOD_CONFIG".into(), "etc/my.jsonc".into())];
    assert_eq!(load(&input).unwrap().target.as_deref(), Some("named"));
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "inpod.ini", "");
    write(root.path(), "plain", "");
    std::fs::create_dir(root.path().join("dir.toml")).unwrap();
    std::os::unix::fs::symlink("dangling", root.path().join("link.toml")).unwrap();
    let pipe = root.path().join("pipe.toml");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    std::fs::File::create(root.path().join("large.toml"))
        .unwrap()
        .set_len(config::MAX_FILE_BYTES + 1)
        .unwrap();
    for (name, expected) in [
        (
            "none.toml",
            "none.toml cannot be read: No such file or directory (os error 2)",
        ),
        ("plain/x.toml", "plain/x.toml cannot be read: entity not found"),
        (
            "link.toml",
            "link.toml cannot be read: No such file or directory (os error 2)",
        ),
        ("dir.toml", "dir.toml is not a regular file"),
        ("pipe.toml", "pipe.toml is not a regular file"),
        ("large.toml", "large.toml is larger than 1048576 bytes"),
        (
            "inpod.ini",
            "inpod.ini has an unknown ending; it must be .toml, .json, .jsonc, .yaml or .yml",
        ),
        (
            "plain",
            "plain has an unknown ending; it must be .toml, .json, .jsonc, .yaml or .yml",
        ),
    ] {
        let mut input = input(root.path());
        input.flags.file = Some(name.into());
        let error = load(&input).unwrap_err().to_string();
        assert_eq!(error, format!("{}/{expected}", root.path().display()));
    }
    // A dangling link that would be found is not passed over in silence.
    std::os::unix::fs::symlink("dangling", root.path().join("inpod.toml")).unwrap();
    assert!(matches!(load(&input(root.path())), Err(Error::Read { .. })));
}

#[test]
fn a_found_file_of_another_user_is_not_trusted_but_a_named_one_is() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "inpod.toml", "target = \"planted\"");
    let owner = input(root.path()).user;
    let mut input = input(root.path());
    std::os::unix::fs::chown(
        root.path().join("inpod.toml"),
        Some(if owner == 0 { 4711 } else { owner }),
        None,
    )
    .unwrap();
    input.user = 12;
    let error = load(&input).unwrap_err();
    assert!(
        error.to_string().contains("inpod.toml belongs to another user (uid "),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("-f "));
    input.flags.file = Some("inpod.toml".into());
    assert_eq!(load(&input).unwrap().target.as_deref(), Some("planted"));
}
