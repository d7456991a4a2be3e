//! Errors and exit codes, as tables.

use super::*;

#[test]
fn codes_are_distinct_and_leave_room_for_signals() {
    let codes: Vec<u8> = Kind::ALL.iter().map(|kind| kind.code()).collect();
    let mut sorted = codes.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(codes, sorted);
    assert!(codes.iter().all(|code| *code > 1 && *code < 128));
}

#[test]
fn causes_and_hints_are_told_once_and_without_escape_sequences() {
    let failure = Failure {
        kind: FailureKind::Refused,
        message: "steal is refused".to_owned(),
        causes: vec!["the cluster says:\nno \u{1b}[31mred".to_owned()],
        hints: vec!["kubectl get pods".to_owned()],
    };
    let error = CliError::from(failure);
    assert_eq!(error.kind.code(), 77);
    let expected =
        "error: steal is refused\n  because: the cluster says:\n  no \u{fffd}[31mred\n  try: kubectl get pods";
    assert_eq!(error.to_string(), expected);

    let inner = std::io::Error::from_raw_os_error(2);
    let outer = config::Error::Read {
        path: "/x.toml".into(),
        source: inner,
    };
    let error = CliError::from(outer);
    assert_eq!(
        error.to_string(),
        "error: /x.toml cannot be read: No such file or directory (os error 2)"
    );
    assert_eq!(error.kind, Kind::Config);
}

#[test]
fn targets_and_usage() {
    let refused = TargetError::NoSteal {
        pod: "a".into(),
        reason: "hostNetwork".into(),
        denials: Vec::new(),
    };
    assert_eq!(CliError::from(refused).kind, Kind::Refused);
    assert_eq!(CliError::from(TargetError::NoProcess { pid: 7 }).kind, Kind::Target);
    let flags = config::Flags {
        headers: vec!["x".into()],
        ..config::Flags::default()
    };
    let error = config::load(&config::Input {
        flags,
        ..config::Input::default()
    })
    .unwrap_err();
    assert_eq!(CliError::from(error).kind, Kind::Usage);
}

/// The table of the documentation.
#[test]
fn docs_exit_status_md_is_current() {
    const BEGIN: &str = "<!-- generated: begin -->\n";
    const END: &str = "<!-- generated: end -->";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/exit-status.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let rows: String = Kind::ALL
        .iter()
        .map(|kind| format!("| {} | {} |\n", kind.code(), kind.about()))
        .collect();
    let wanted = format!("{before}{BEGIN}| status | meaning |\n|---|---|\n{rows}{END}{after}");
    if text != wanted {
        let write = std::env::var_os("INPOD_WRITE_DOCS").is_some();
        assert!(
            write,
            "run INPOD_WRITE_DOCS=1 cargo test --release -p inpod docs_exit_status"
        );
        std::fs::write(&path, wanted).unwrap();
    }
}
