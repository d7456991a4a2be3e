//! The playground comes up, answers inside, and leaves nothing behind.

use std::path::{Path, PathBuf};

use playground::{PORT, Playground, WEB};

fn shop() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/static/x86_64-unknown-linux-gnu/release/shop");
    assert!(
        path.exists(),
        "{} is missing: `cargo xtask test` builds it",
        path.display()
    );
    path
}

#[test]
fn it_answers_inside_and_leaves_nothing() {
    let directory = std::env::temp_dir().join(format!("inpod-playground-test-{}", std::process::id()));
    let playground = Playground::start(&shop(), &directory).unwrap();
    let pid = playground.pid();
    let url = format!("http://{WEB}:{PORT}/stock");
    let answer = playground
        .inside(&[
            shop().to_str().unwrap(),
            "client",
            &url,
            "--count",
            "1",
            "--report",
            "1",
        ])
        .unwrap();
    let printed = String::from_utf8_lossy(&answer.stdout).into_owned() + &String::from_utf8_lossy(&answer.stderr);
    assert!(
        answer.status.success() && printed.contains("answered=1"),
        "{printed}\n{}",
        playground.log()
    );
    drop(playground);
    assert!(!directory.exists());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}
