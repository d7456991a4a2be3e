//! docs/conformance.md says what the table says. `CONFORMANCE_WRITE=1` writes it (`cargo xtask conformance --write`).

use conformance::table::{BEHAVIOURS, EXCEPTIONS};

#[test]
fn the_document_is_the_tables() {
    let path = tests::workspace().join("docs/conformance.md");
    let made = conformance::document::markdown();
    if std::env::var_os("CONFORMANCE_WRITE").is_some_and(|value| value == "1") {
        std::fs::write(&path, &made).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == made,
        "docs/conformance.md is not what the table says: `cargo xtask conformance --write`"
    );
}

#[test]
fn names_are_said_once_and_exceptions_speak_of_rows() {
    let mut names: Vec<&str> = BEHAVIOURS.iter().map(|behaviour| behaviour.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|two| two[0] != two[1]), "{names:?}");
    for exception in EXCEPTIONS {
        for name in exception.behaviours {
            assert!(names.contains(name), "no behaviour is called {name}");
        }
        assert!(exception.reason.ends_with('.'), "{:?}", exception.behaviours);
    }
}
