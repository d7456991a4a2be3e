//! Requests: which of the pod's incoming HTTP requests a session wants.

use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};

/// The longest pattern that is accepted, in bytes.
pub const MAX_PATTERN_BYTES: usize = 4096;
/// The compiled size that a pattern may reach, in bytes: patterns come over the wire.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// A pattern that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    #[error("the pattern is {0} bytes long; at most {MAX_PATTERN_BYTES} are accepted")]
    TooLong(usize),
    #[error("not a regular expression: {}", regex_reason(.0))]
    Invalid(#[from] regex::Error),
    #[error("`{0}` is not a header name")]
    Name(String),
    #[error("the value holds a control character, which no header has")]
    Value,
    #[error("`{0}` is neither `Name=value` nor `re:PATTERN`")]
    Form(String),
}

/// The library's own message draws the pattern over several lines; its last one says what is wrong.
fn regex_reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// One condition on a request's headers.
#[derive(Debug, Clone)]
pub enum HeaderPattern {
    /// The field exists with exactly this value (names compare without case).
    Exact { name: String, value: String },
    /// Searched in `Name: value` of each field, without case.
    Regex(Regex),
}

impl FromStr for HeaderPattern {
    type Err = PatternError;

    /// Reads `Name=value` or `re:PATTERN`. No field name has a `:` (RFC 9110 section 5.1), so neither hides the other.
    fn from_str(written: &str) -> Result<Self, Self::Err> {
        if let Some(pattern) = written.strip_prefix("re:") {
            return Self::regex(pattern);
        }
        match written.split_once('=') {
            Some((name, value)) => Self::exact(name.trim(), value.trim_matches([' ', '\t'])),
            None => Err(PatternError::Form(written.to_owned())),
        }
    }
}

impl HeaderPattern {
    /// # Errors
    /// When `name` is not an HTTP field name, `value` holds a control character, or the whole is too long.
    pub fn exact(name: &str, value: &str) -> Result<Self, PatternError> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(PatternError::Name(name.to_owned()));
        }
        // RFC 9110 section 5.5: a field value has none but the tab.
        if value.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control()) {
            return Err(PatternError::Value);
        }
        bounded(name.len() + value.len())?;
        Ok(Self::Exact {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }

    /// # Errors
    /// When it is not a regular expression, or too large.
    pub fn regex(pattern: &str) -> Result<Self, PatternError> {
        let mut builder = RegexBuilder::new(pattern);
        compiled(builder.case_insensitive(true).unicode(false), pattern).map(Self::Regex)
    }

    /// Whether one field satisfies it.
    #[must_use]
    pub fn matches(&self, name: &[u8], value: &[u8]) -> bool {
        match self {
            Self::Exact {
                name: wanted,
                value: expected,
            } => name.eq_ignore_ascii_case(wanted.as_bytes()) && value == expected.as_bytes(),
            Self::Regex(regex) => {
                let mut line = Vec::with_capacity(name.len() + 2 + value.len());
                line.extend_from_slice(name);
                line.extend_from_slice(b": ");
                line.extend_from_slice(value);
                regex.is_match(&line)
            }
        }
    }
}

/// A regular expression of bounded size, whoever wrote it.
pub(crate) fn compiled(builder: &mut RegexBuilder, pattern: &str) -> Result<Regex, PatternError> {
    bounded(pattern.len())?;
    let sized = builder
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_COMPILED_BYTES);
    Ok(sized.build()?)
}

fn bounded(length: usize) -> Result<(), PatternError> {
    if length > MAX_PATTERN_BYTES {
        Err(PatternError::TooLong(length))
    } else {
        Ok(())
    }
}

/// All patterns must match, each by some field. Without patterns, everything matches and no HTTP is parsed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub headers: Vec<HeaderPattern>,
}

impl Filter {
    /// Everything matches, so connections need not be looked into.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Whether a request with these fields is wanted.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the iterator is walked once for each pattern"
    )]
    pub fn matches<'a>(&self, fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> bool {
        self.headers
            .iter()
            .all(|pattern| fields.clone().any(|(name, value)| pattern.matches(name, value)))
    }
}

/// The fuzz entry: a pattern, a line feed, and the value of a field `x-fuzz` to try it on.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (pattern, value) = text.split_once('\n').unwrap_or((&text, ""));
    for pattern in [HeaderPattern::regex(pattern), pattern.parse()].into_iter().flatten() {
        let filter = Filter { headers: vec![pattern] };
        let _ = filter.matches([(&b"x-fuzz"[..], value.as_bytes())].into_iter());
    }
}
