//! The documentation is what the tables say.

use std::path::Path;

const BEGIN: &str = "<!-- generated: begin -->\n";
const END: &str = "<!-- generated: end -->";

#[test]
fn docs_config_md_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}{}{END}{after}", config::reference());
    if text != wanted {
        assert!(
            std::env::var_os("INPOD_WRITE_DOCS").is_some(),
            "docs/config.md is not what the tables say: INPOD_WRITE_DOCS=1 cargo test --release -p config docs_config_md"
        );
        std::fs::write(&path, wanted).unwrap();
    }
}

/// The examples of the page are read as they stand.
#[test]
fn the_examples_of_the_page_are_valid() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md")).unwrap();
    let mut found = 0;
    for (fence, name) in [
        ("```toml\n", "inpod.toml"),
        ("```jsonc\n", "inpod.json"),
        ("```yaml\n", "inpod.yaml"),
    ] {
        for block in text.split(fence).skip(1) {
            let example = block.split("```").next().unwrap();
            if let Err(error) = crate::read(name, example.as_bytes()) {
                panic!("{error}\n{example}");
            }
            found += 1;
        }
    }
    assert!(found >= 3, "{found}");
}
