//! What can be wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

use crate::source::{Origin, Source};

/// Problems that are told at once; more are only counted.
const TOLD: usize = 10;

/// Problems that are kept with their positions.
const KEPT: usize = 100;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the working directory cannot be read: {0}")]
    WorkingDirectory(#[source] std::io::Error),
    #[error("{path} cannot be read: {source}", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a regular file", path = path.display())]
    NotAFile { path: PathBuf },
    #[error("{path} is larger than {max} bytes", path = path.display(), max = crate::MAX_FILE_BYTES)]
    TooLarge { path: PathBuf },
    #[error("{path} has an unknown ending; it must be .toml, .json, .jsonc, .yaml or .yml", path = path.display())]
    Format { path: PathBuf },
    #[error("{directory} holds more than one configuration: {}", files.join(", "), directory = directory.display())]
    Several {
        directory: PathBuf,
        files: Vec<&'static str>,
    },
    #[error("{path} belongs to another user (uid {owner}) and is not trusted", path = path.display())]
    Owner { path: PathBuf, owner: u32 },
    /// In the order of the sources; `problems` is never empty, and `more` were found than it holds.
    #[error("{}", Listed(problems, *more))]
    Invalid { problems: Vec<Problem>, more: usize },
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Invalid {
            problems: vec![problem],
            more: 0,
        }
    }
}

impl Error {
    /// One thing to do about it, where it is not in the message.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Several { .. } => Some("keep one of them, or name it with -f".to_owned()),
            Self::Owner { path, .. } => Some(format!("read it, and if it is what you want: -f {}", path.display())),
            _ => None,
        }
    }

    /// Only flags are wrong: a usage error.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Invalid { problems, .. } if problems.iter().all(|problem| matches!(problem.origin, Origin::Flag(_))))
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub origin: Origin,
    pub message: String,
    pub hint: Option<String>,
    /// The line, and how many characters of it stand before the position.
    excerpt: Option<(String, usize)>,
}

impl Problem {
    pub(crate) fn new(source: Source<'_>, at: usize, message: impl Into<String>) -> Self {
        Self {
            origin: source.origin(at),
            message: message.into(),
            hint: None,
            excerpt: source.excerpt(at),
        }
    }

    pub(crate) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.origin, self.message)?;
        if let (Some((line, before)), Origin::File { line: number, .. }) = (&self.excerpt, &self.origin) {
            let margin = " ".repeat(number.to_string().len());
            let indent = " ".repeat(*before);
            write!(formatter, "\n  {number} | {line}\n  {margin} | {indent}^")?;
        }
        match &self.hint {
            Some(hint) => write!(formatter, "\n  {hint}"),
            None => Ok(()),
        }
    }
}

/// Problems on their way to an [`Error`]: positions cost time to find, so only the first ones are kept.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    kept: Vec<Problem>,
    more: usize,
}

impl Problems {
    pub(crate) fn push(&mut self, problem: impl FnOnce() -> Problem) {
        if self.kept.len() < KEPT {
            self.kept.push(problem());
        } else {
            self.more += 1;
        }
    }

    /// By position in the file.
    pub(crate) fn sort(&mut self) {
        self.kept.sort_by_key(|problem| match problem.origin {
            Origin::File { line, column, .. } => (line, column),
            Origin::Variable(_) | Origin::Flag(_) => (0, 0),
        });
    }

    pub(crate) fn into_result(self) -> Result<(), Error> {
        if self.kept.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid {
                problems: self.kept,
                more: self.more,
            })
        }
    }
}

struct Listed<'a>(&'a [Problem], usize);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(TOLD).enumerate() {
            write!(formatter, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        match self.1 + self.0.len().saturating_sub(TOLD) {
            0 => Ok(()),
            more => write!(formatter, "\nand {more} more"),
        }
    }
}
