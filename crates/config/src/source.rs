//! Where a value was written.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value was written, as people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Line and column count from 1; the column counts characters.
    File {
        path: PathBuf,
        line: usize,
        column: usize,
    },
    Variable(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(formatter, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => write!(formatter, "environment variable {name}"),
            Self::Flag(name) => formatter.write_str(name),
        }
    }
}

/// What is being read; positions in it are byte offsets, turned into lines and columns only when someone is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    File { path: &'a Path, text: &'a str },
    Variable(&'a str),
    Flag(&'static str),
}

/// Characters of a line that are shown left and right of the column.
const SHOWN: usize = 60;

impl Source<'_> {
    pub(crate) fn origin(&self, at: usize) -> Origin {
        match self {
            Self::File { path, text } => {
                let before = until(text, at);
                let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
                let column = before[line_start(before)..].chars().count() + 1;
                Origin::File {
                    path: path.to_path_buf(),
                    line,
                    column,
                }
            }
            Self::Variable(name) => Origin::Variable((*name).to_owned()),
            Self::Flag(name) => Origin::Flag(name),
        }
    }

    /// The line around `at` without control characters, and how many characters stand before the position.
    pub(crate) fn excerpt(&self, at: usize) -> Option<(String, usize)> {
        let Self::File { text, .. } = self else { return None };
        let before = until(text, at);
        let line = &text[line_start(before)..];
        let line = &line[..line.find('\n').unwrap_or(line.len())];
        let column = before[line_start(before)..].chars().count();
        let skipped = column.saturating_sub(SHOWN);
        let plain = |character: char| if character.is_control() { ' ' } else { character };
        let shown = line
            .trim_end()
            .chars()
            .skip(skipped)
            .take(2 * SHOWN)
            .map(plain)
            .collect();
        Some((shown, column - skipped))
    }

    /// Values are text by nature: a number or `true` is read from it.
    pub(crate) fn is_text(&self) -> bool {
        !matches!(self, Self::File { .. })
    }
}

fn until(text: &str, at: usize) -> &str {
    let at = at.min(text.len());
    let boundary = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..boundary]
}

fn line_start(before: &str) -> usize {
    before.rfind('\n').map_or(0, |newline| newline + 1)
}
