//! Host names: which are looked up in the pod.

use crate::{Place, Verdict};

/// A host name or `*.suffix`, compared without case and without the final dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

/// The longest name in bytes (RFC 1035 section 3.1, without the final dot).
const MAX_NAME: usize = 253;

/// A pattern that could never match, or not as meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamePatternError {
    #[error("a name is missing")]
    Empty,
    #[error("it is {0} bytes long; a name has at most {MAX_NAME}")]
    TooLong(usize),
    #[error("`{0}` has a `*` that is not its first label; write `*.suffix` or `*`")]
    Star(String),
    #[error("`{0}` has an empty label, or one of more than 63 bytes")]
    Label(String),
    #[error(
        "`{name}` has the character `{character}`, which no host name has (write others than ASCII in their `xn--` form)"
    )]
    Character { name: String, character: char },
    #[error("`{0}` is neither an IP address nor a name: the last label of a name is not a number")]
    Numeric(String),
}

impl NamePattern {
    /// Reads what a person wrote: a name, `*.suffix` or `*`.
    ///
    /// # Errors
    /// When it is not one of these: it would never match.
    pub fn parse(pattern: &str) -> Result<Self, NamePatternError> {
        let name = pattern.strip_suffix('.').unwrap_or(pattern);
        if pattern == "*" {
            return Ok(Self::new(pattern));
        }
        if name.is_empty() {
            return Err(NamePatternError::Empty);
        }
        if name.len() > MAX_NAME {
            return Err(NamePatternError::TooLong(name.len()));
        }
        let labels = name.strip_prefix("*.").unwrap_or(name);
        if labels.contains('*') {
            return Err(NamePatternError::Star(pattern.to_owned()));
        }
        let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if let Some(character) = labels.chars().find(|character| !allowed(*character)) {
            return Err(NamePatternError::Character {
                name: pattern.to_owned(),
                character,
            });
        }
        if labels.split('.').any(|label| label.is_empty() || label.len() > 63) {
            return Err(NamePatternError::Label(pattern.to_owned()));
        }
        if labels
            .rsplit('.')
            .next()
            .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Err(NamePatternError::Numeric(pattern.to_owned()));
        }
        Ok(Self::new(name))
    }

    /// Takes the pattern as it is; [`NamePattern::parse`] checks it.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.trim_end_matches('.').to_ascii_lowercase())
    }

    /// `*.corp` matches every name below `corp`, not `corp` itself; `*` matches everything.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        if self.0 == "*" {
            return true;
        }
        match self.0.strip_prefix('*') {
            Some(suffix) => {
                name.len() > suffix.len()
                    && name.is_char_boundary(name.len() - suffix.len())
                    && name[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
            }
            None => name.eq_ignore_ascii_case(&self.0),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which names are answered by the pod's resolver.
#[derive(Debug, Clone)]
pub struct NameRules {
    pub on: bool,
    pub local: Vec<NamePattern>,
    /// When not empty, only these are remote.
    pub remote: Vec<NamePattern>,
}

impl Default for NameRules {
    fn default() -> Self {
        Self {
            on: true,
            local: Vec::new(),
            remote: Vec::new(),
        }
    }
}

impl NameRules {
    #[must_use]
    pub fn decide(&self, name: &str) -> Verdict {
        if !self.on {
            return Verdict::new(Place::Local, "dns is switched off");
        }
        if let Some(pattern) = self.local.iter().find(|pattern| pattern.matches(name)) {
            return Verdict::new(Place::Local, format!("dns.local lists {}", pattern.as_str()));
        }
        if let Some(pattern) = self.remote.iter().find(|pattern| pattern.matches(name)) {
            return Verdict::new(Place::Remote, format!("dns.remote lists {}", pattern.as_str()));
        }
        if self.remote.is_empty() {
            Verdict::new(Place::Remote, "names are remote by default")
        } else {
            Verdict::new(Place::Local, "dns.remote does not list it")
        }
    }
}
