//! Conditions on header fields.

use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};

use super::{PatternError, bounded, compiled, is_token};

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
        if !is_token(name) {
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
