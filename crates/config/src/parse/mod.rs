//! Text to tree: three parsers behind one shape.

mod json;
mod toml;
mod yaml;

use std::path::Path;

use crate::error::Problem;
use crate::source::Source;
use crate::value::{Node, Value};

/// Lists and tables inside each other; configuration needs three.
pub const MAX_DEPTH: usize = 16;

/// What a parser refuses, and at which byte offset.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) at: usize,
    pub(crate) message: String,
}

impl Refusal {
    fn too_deep(at: usize) -> Self {
        Self {
            at,
            message: format!("nested deeper than {MAX_DEPTH} levels"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Toml,
    Json,
    Yaml,
}

impl Format {
    /// By the file's ending.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "toml" => Some(Self::Toml),
            "json" | "jsonc" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// Reads a text of at most [`crate::MAX_FILE_BYTES`]; the result is always a table.
pub(crate) fn parse(format: Format, path: &Path, text: &str) -> Result<Node, Problem> {
    let tree = match format {
        Format::Toml => toml::parse(text),
        Format::Json => json::parse(text),
        Format::Yaml => yaml::parse(text),
    };
    let source = Source::File { path, text };
    let tree = tree.map_err(|refusal| Problem::new(source, refusal.at, refusal.message))?;
    match tree.value {
        Value::Null => Ok(Node {
            value: Value::Table(Vec::new()),
            at: 0,
        }),
        Value::Table(_) => Ok(tree),
        _ => Err(Problem::new(
            source,
            tree.at,
            format!("expected keys and values, found {}", tree.describe()),
        )),
    }
}

/// The fuzz entries: the whole way from a file's bytes to a plan or its problems.
pub fn fuzz_toml(data: &[u8]) {
    fuzz(Path::new("/fuzz/inpod.toml"), data);
}

/// See [`fuzz_toml`].
pub fn fuzz_json(data: &[u8]) {
    fuzz(Path::new("/fuzz/inpod.json"), data);
}

/// See [`fuzz_toml`].
pub fn fuzz_yaml(data: &[u8]) {
    fuzz(Path::new("/fuzz/inpod.yaml"), data);
}

fn fuzz(path: &Path, data: &[u8]) {
    let input = crate::Input {
        home: Some("/home/fuzz".into()),
        working_directory: "/fuzz".into(),
        ..Default::default()
    };
    if let Err(error) = crate::resolve::from_bytes(&input, path, data) {
        let _ = error.to_string();
    }
}
