//! Environment variables: each key but the tables has one.

use std::ffi::OsString;

use crate::error::Problem;
use crate::key::{KEYS, Key, Takes};
use crate::source::Source;
use crate::suggest::nearest;
use crate::value::Node;

/// Names the file, as `-f` does.
pub const FILE_VARIABLE: &str = "INPOD_CONFIG";

pub(crate) const PREFIX: &str = "INPOD_";

/// Key, name and value of each variable that is set. An empty one counts as not set.
pub(crate) fn entries(variables: &[(OsString, OsString)]) -> (Vec<(&'static Key, String, Node)>, Vec<Problem>) {
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let Some(key) = KEYS.iter().find(|key| key.variable().as_deref() == Some(name)) else {
            continue;
        };
        match value.to_str() {
            Some("") => {}
            Some(value) => entries.push((key, name.to_owned(), node(key, value))),
            None => problems.push(Problem::new(Source::Variable(name), 0, "its value is not UTF-8")),
        }
    }
    (entries, problems)
}

fn node(key: &Key, value: &str) -> Node {
    let items = |separator: char| Node::list(value.split(separator).map(|item| item.trim().to_owned()));
    match key.takes {
        Takes::Lines(_) => items('\n'),
        Takes::List(_) => items(','),
        _ => Node::text(value),
    }
}

/// A warning for each variable that looks like a mistyped one of ours.
pub(crate) fn warnings(variables: &[(OsString, OsString)]) -> Vec<String> {
    let names = KEYS.iter().filter_map(Key::variable).chain([FILE_VARIABLE.to_owned()]);
    // Without the prefix, which would make everything look alike.
    let known: Vec<String> = names
        .filter_map(|name| name.strip_prefix(PREFIX).map(str::to_owned))
        .collect();
    let warning = |name: &OsString| {
        let rest = name.to_str()?.strip_prefix(PREFIX)?;
        let near = nearest(rest, known.iter().map(String::as_str)).filter(|near| *near != rest)?;
        Some(format!(
            "the environment variable {PREFIX}{rest} means nothing to inpod; did you mean {PREFIX}{near}?"
        ))
    };
    variables.iter().filter_map(|(name, _)| warning(name)).collect()
}
