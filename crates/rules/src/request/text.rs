//! Conditions on a piece of text: exact, by its beginning or end, or by a regular expression.

use regex::bytes::{Regex, RegexBuilder};

use super::{PatternError, bounded, compiled};

#[derive(Debug, Clone)]
pub(super) struct TextPattern {
    form: Form,
    /// Without case, of ASCII.
    folded: bool,
}

#[derive(Debug, Clone)]
enum Form {
    Exact(String),
    Begins(String),
    Ends(String),
    Regex(Regex),
}

impl TextPattern {
    /// Reads `text`, `text*`, `*text` or `re:PATTERN`.
    pub(super) fn new(written: &str, folded: bool) -> Result<Self, PatternError> {
        bounded(written.len())?;
        let form = if let Some(pattern) = written.strip_prefix("re:") {
            let mut builder = RegexBuilder::new(pattern);
            Form::Regex(compiled(builder.case_insensitive(folded).unicode(false), pattern)?)
        } else if let Some(begin) = written.strip_suffix('*') {
            Form::Begins(begin.to_owned())
        } else if let Some(end) = written.strip_prefix('*') {
            Form::Ends(end.to_owned())
        } else {
            Form::Exact(written.to_owned())
        };
        Ok(Self { form, folded })
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let same = |a: Option<&[u8]>, b: &str| {
            a.is_some_and(|a| {
                if self.folded {
                    a.eq_ignore_ascii_case(b.as_bytes())
                } else {
                    a == b.as_bytes()
                }
            })
        };
        match &self.form {
            Form::Exact(whole) => same(Some(text), whole),
            Form::Begins(begin) => same(text.get(..begin.len()), begin),
            Form::Ends(end) => same(text.len().checked_sub(end.len()).map(|from| &text[from..]), end),
            Form::Regex(regex) => regex.is_match(text),
        }
    }
}
