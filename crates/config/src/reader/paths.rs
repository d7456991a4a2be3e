//! Paths and patterns of paths: `~` is expanded, relative ones are joined to the base, `.` and `..` are resolved by name.

use std::path::PathBuf;

use rules::PathPattern;

use super::Reader;
use crate::value::{Node, quoted};

/// Whose path it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathSide {
    /// As the program says it, or of this machine.
    Here,
    /// In the pod: neither `~` nor the working directory mean anything there.
    Pod,
}

impl Reader<'_> {
    pub(crate) fn path_pattern(&mut self, node: &Node) -> Option<PathPattern> {
        let text = self.text(node)?;
        if let Some(pattern) = text.strip_prefix("re:") {
            return match PathPattern::regex(pattern) {
                Ok(pattern) => Some(pattern),
                Err(error) => {
                    self.refuse(node.at, &error.to_string(), None);
                    None
                }
            };
        }
        if !text.contains(['*', '?', '[', '{']) {
            return self.path(&text, node.at, PathSide::Here).map(PathPattern::Prefix);
        }
        let pattern = self.absolute(&text, node.at, PathSide::Here, globset::escape)?;
        self.glob(&pattern, node.at, true).map(PathPattern::Glob)
    }

    pub(crate) fn path(&mut self, text: &str, at: usize, side: PathSide) -> Option<PathBuf> {
        let text = self.checked(text, at)?;
        self.absolute(text, at, side, str::to_owned).map(PathBuf::from)
    }

    pub(crate) fn local_path(&mut self, node: &Node) -> Option<PathBuf> {
        let text = self.text(node)?;
        self.path(&text, node.at, PathSide::Here)
    }

    pub(crate) fn pod_path(&mut self, node: &Node) -> Option<PathBuf> {
        let text = self.text(node)?;
        self.path(&text, node.at, PathSide::Pod)
    }

    /// A program by file name or by path.
    pub(crate) fn program(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        if !text.contains('/') && text != "~" {
            return Some(text);
        }
        self.absolute(&text, node.at, PathSide::Here, str::to_owned)
    }

    /// `escape` is for the directories that were not written: in a glob they are literal.
    fn absolute(&mut self, text: &str, at: usize, side: PathSide, escape: fn(&str) -> String) -> Option<String> {
        let joined = if text.starts_with('/') {
            text.to_owned()
        } else if side == PathSide::Pod {
            self.refuse(
                at,
                &format!("{} must be absolute: it is a path in the pod", quoted(text)),
                None,
            );
            return None;
        } else if let Some(rest) = text.strip_prefix('~') {
            let hint = match (rest.is_empty() || rest.starts_with('/'), self.home) {
                (true, Some(home)) => return self.joined(home.to_str(), rest, at, escape),
                (true, None) => "HOME is not set",
                (false, _) => "only the own home directory can be written as ~; a file called so is ./~...",
            };
            self.refuse(
                at,
                &format!("{} cannot be expanded", quoted(text)),
                Some(hint.to_owned()),
            );
            return None;
        } else {
            let base = self.base.to_str();
            return self.joined(base, text, at, escape);
        };
        Some(normal(&joined))
    }

    fn joined(&mut self, base: Option<&str>, rest: &str, at: usize, escape: fn(&str) -> String) -> Option<String> {
        let Some(base) = base else {
            self.refuse(at, "the directory it is relative to has a name that is not UTF-8", None);
            return None;
        };
        Some(normal(&format!("{}/{rest}", escape(base))))
    }
}

/// Without empty components, `.` and `..`, which are resolved by name: rules are about paths as programs say them.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
