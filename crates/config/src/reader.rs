//! From a [`Node`] to a typed value, or a problem with its place.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use rules::NamePattern;

use crate::error::{Problem, Problems};
use crate::source::Source;
use crate::suggest::nearest;
use crate::value::{Node, Value, quoted};

mod duration;
mod filter;
mod paths;
mod tls;

pub(crate) use paths::PathSide;

/// Most entries of one list or table.
const MAX_ENTRIES: usize = 1000;
/// The longest text in bytes where nothing else says: a path, a name, a pattern (`PATH_MAX`).
const MAX_TEXT: usize = 4096;

/// Reads the values of one key from one source; what is wrong is collected.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) key: &'static str,
    pub(crate) source: Source<'a>,
    /// Relative paths start here: the file's directory, or the working directory.
    pub(crate) base: &'a Path,
    pub(crate) home: Option<&'a Path>,
    pub(crate) problems: &'a mut Problems,
}

impl Reader<'_> {
    fn refuse(&mut self, at: usize, message: &str, hint: Option<String>) {
        let (key, source) = (self.key, self.source);
        self.problems
            .push(|| Problem::new(source, at, format!("`{key}`: {message}")).with_hint(hint));
    }

    fn expected(&mut self, what: &str, node: &Node) {
        let hint = match &node.value {
            Value::Integer(_) | Value::Float | Value::Bool(_) | Value::Date if what.starts_with("text") => {
                Some("put it in quotes".to_owned())
            }
            Value::Text(_) if what.starts_with("a list") => Some("put it in brackets: [...]".to_owned()),
            _ => None,
        };
        self.refuse(node.at, &format!("expected {what}, found {}", node.describe()), hint);
    }

    /// Text that is not empty, of at most [`MAX_TEXT`] bytes and without control characters.
    pub(crate) fn text(&mut self, node: &Node) -> Option<String> {
        let Value::Text(text) = &node.value else {
            self.expected("text", node);
            return None;
        };
        self.checked(text, node.at).map(str::to_owned)
    }

    fn checked<'t>(&mut self, text: &'t str, at: usize) -> Option<&'t str> {
        let wrong = if text.trim().is_empty() {
            "it is empty".to_owned()
        } else if text.len() > MAX_TEXT {
            format!("it is {} bytes long; at most {MAX_TEXT} are accepted", text.len())
        } else if text.chars().any(char::is_control) {
            format!("{} holds a control character", quoted(text))
        } else {
            return Some(text);
        };
        self.refuse(at, &wrong, None);
        None
    }

    pub(crate) fn switch(&mut self, node: &Node, out: &mut bool) {
        match &node.value {
            Value::Bool(value) => *out = *value,
            Value::Text(text) if self.source.is_text() && text == "true" => *out = true,
            Value::Text(text) if self.source.is_text() && text == "false" => *out = false,
            _ => self.expected("true or false", node),
        }
    }

    pub(crate) fn choice<T: Copy>(&mut self, node: &Node, choices: &[(&str, T)], out: &mut T) {
        let written = match &node.value {
            Value::Text(text) => text.as_str(),
            _ => "",
        };
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == written) {
            *out = *value;
            return;
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let near = nearest(written, names.iter().copied()).map(|name| format!("did you mean \"{name}\"?"));
        let found = format!("expected {}, found {}", one_of(&names), node.describe());
        self.refuse(node.at, &found, near);
    }

    pub(crate) fn list<T>(&mut self, node: &Node, mut read: impl FnMut(&mut Self, &Node) -> Option<T>) -> Vec<T> {
        match &node.value {
            Value::List(items) if items.len() > MAX_ENTRIES => {
                self.refuse(
                    node.at,
                    &format!("{} entries; at most {MAX_ENTRIES} are accepted", items.len()),
                    None,
                );
                Vec::new()
            }
            Value::List(items) => items.iter().filter_map(|item| read(self, item)).collect(),
            _ => {
                self.expected("a list", node);
                Vec::new()
            }
        }
    }

    pub(crate) fn table<K, V>(
        &mut self,
        node: &Node,
        key: impl Fn(&mut Self, &str, usize) -> Option<K>,
        value: impl Fn(&mut Self, &Node) -> Option<V>,
    ) -> Vec<(K, V)> {
        match &node.value {
            Value::Table(entries) if entries.len() > MAX_ENTRIES => {
                self.refuse(
                    node.at,
                    &format!("{} entries; at most {MAX_ENTRIES} are accepted", entries.len()),
                    None,
                );
                Vec::new()
            }
            Value::Table(entries) => {
                let pair = |entry: &crate::value::Entry| key(self, &entry.key, entry.at).zip(value(self, &entry.node));
                entries.iter().filter_map(pair).collect()
            }
            _ => {
                self.expected("a table", node);
                Vec::new()
            }
        }
    }

    /// The value of a variable: text, or a number or truth value that has only one spelling.
    pub(crate) fn plain(&mut self, node: &Node) -> Option<OsString> {
        match &node.value {
            Value::Text(text) if text.contains('\0') => self.refuse(node.at, "it holds a NUL character", None),
            Value::Text(text) => return Some(text.into()),
            Value::Integer(number) => return Some(number.to_string().into()),
            Value::Bool(value) => return Some(value.to_string().into()),
            _ => self.expected("text", node),
        }
        None
    }

    /// A variable's name.
    pub(crate) fn variable(&mut self, name: &str, at: usize) -> Option<OsString> {
        let name = self.checked(name, at)?;
        if name.contains('=') {
            self.refuse(
                at,
                &format!("{} is not a variable's name: it holds `=`", quoted(name)),
                None,
            );
            return None;
        }
        Some(name.into())
    }

    pub(crate) fn variable_node(&mut self, node: &Node) -> Option<OsString> {
        let name = self.text(node)?;
        self.variable(&name, node.at)
    }

    /// A glob over variable names.
    pub(crate) fn variables(&mut self, node: &Node) -> Option<GlobMatcher> {
        let name = self.variable_node(node)?;
        self.glob(name.to_str()?, node.at, false)
    }

    fn glob(&mut self, pattern: &str, at: usize, is_path: bool) -> Option<GlobMatcher> {
        match GlobBuilder::new(pattern).literal_separator(is_path).build() {
            Ok(glob) => Some(glob.compile_matcher()),
            Err(error) => {
                self.refuse(
                    at,
                    &format!("{} is not a glob: {}", quoted(pattern), error.kind()),
                    None,
                );
                None
            }
        }
    }

    /// A port; as text too where the source has nothing else.
    pub(crate) fn port(&mut self, node: &Node) -> Option<u16> {
        let port = match &node.value {
            Value::Integer(number) => u16::try_from(*number).ok(),
            Value::Text(text) if self.source.is_text() => digits(text),
            _ => None,
        };
        if port.is_none_or(|port| port == 0) {
            self.expected("a port (1 to 65535)", node);
            return None;
        }
        port
    }

    /// A port as the name of a table's entry.
    fn port_name(&mut self, text: &str, at: usize) -> Option<u16> {
        let port = digits(text).filter(|port| *port != 0);
        if port.is_none() {
            self.refuse(
                at,
                &format!("expected a port (1 to 65535), found {}", quoted(text)),
                None,
            );
        }
        port
    }

    pub(crate) fn port_map(&mut self, node: &Node) -> BTreeMap<u16, u16> {
        let pairs = self.table(node, Self::port_name, Self::port);
        let map: BTreeMap<u16, u16> = pairs.iter().copied().collect();
        let mut taken: Vec<_> = map.values().collect();
        taken.sort_unstable();
        if let Some(twice) = taken.windows(2).find(|pair| pair[0] == pair[1]) {
            self.refuse(
                node.at,
                &format!("port {} of the pod stands for two ports here", twice[0]),
                None,
            );
        } else if pairs.len() != map.len() {
            self.refuse(node.at, "the same port is written twice", None);
        }
        map
    }

    /// Anything that says itself what is wrong with it.
    pub(crate) fn parsed<T: FromStr<Err: std::fmt::Display>>(&mut self, node: &Node) -> Option<T> {
        let text = self.text(node)?;
        text.parse()
            .map_err(|error: T::Err| self.refuse(node.at, &error.to_string(), None))
            .ok()
    }

    pub(crate) fn name_pattern(&mut self, node: &Node) -> Option<NamePattern> {
        let text = self.text(node)?;
        NamePattern::parse(&text)
            .map_err(|error| self.refuse(node.at, &error.to_string(), None))
            .ok()
    }

    pub(crate) fn duration(&mut self, node: &Node, out: &mut Duration) {
        let Value::Text(text) = &node.value else {
            return self.expected("a duration with a unit, such as \"90s\" or \"10m\"", node);
        };
        match duration::parse(text) {
            Ok(duration) => *out = duration,
            Err(error) => self.refuse(node.at, &error.to_string(), None),
        }
    }
}

fn digits(text: &str) -> Option<u16> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

fn one_of(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.join(""),
    }
}
