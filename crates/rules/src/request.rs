//! Requests: which of the pod's incoming HTTP requests a session wants.

mod condition;
mod header;
mod json;
mod text;

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

pub use condition::Condition;
pub use header::HeaderPattern;

/// The longest condition that is accepted, in bytes.
pub const MAX_PATTERN_BYTES: usize = 4096;
/// The compiled size that a pattern may reach, in bytes: patterns come over the wire.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// Conditions and operators of one filter: each condition may compile to a megabyte here and in the agent.
pub const MAX_TERMS: usize = 32;
/// Operators within operators.
const MAX_DEPTH: usize = 8;

/// A filter that cannot be used, or one of its conditions.
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
    #[error("`{0}` is neither `Name=value` nor begins with {kinds}", kinds = condition::KINDS_IN_WORDS)]
    Form(String),
    #[error("`{0}` is empty")]
    Empty(&'static str),
    #[error("`{0}` is not a method")]
    Method(String),
    #[error("`{0}` is neither a gRPC service nor SERVICE/METHOD")]
    Grpc(String),
    #[error("`{0}` is neither KEY=VALUE nor `re:PATTERN`")]
    Member(String),
    #[error(
        "`{query}` is neither a JSONPath query (RFC 9535: `$.a.b`) nor a condition on the body as `@` (`@.a.b == 1`): {why}"
    )]
    Json { query: String, why: String },
    #[error("a filter has at most {MAX_TERMS} conditions and operators")]
    TooMany,
    #[error("a filter nests at most {MAX_DEPTH} deep")]
    TooDeep,
    #[error("an operator of the filter lacks conditions")]
    Cut,
}

/// The library's own message draws the pattern over several lines; its last one says what is wrong.
fn regex_reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// A regular expression of bounded size, whoever wrote it.
pub(crate) fn compiled(builder: &mut RegexBuilder, pattern: &str) -> Result<Regex, PatternError> {
    bounded(pattern.len())?;
    let sized = builder
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_COMPILED_BYTES);
    Ok(sized.build()?)
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn bounded(length: usize) -> Result<(), PatternError> {
    if length > MAX_PATTERN_BYTES {
        Err(PatternError::TooLong(length))
    } else {
        Ok(())
    }
}

/// One place of a filter in prefix notation, as it is sent and compared: an operator stands before its operands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Term {
    /// A condition in its written form.
    Is(String),
    /// The next one is not fulfilled.
    Not,
    /// All of the next so many are.
    All(u16),
    /// One of the next so many is.
    Any(u16),
}

impl Term {
    /// A condition in its written form, or its opposite behind `not:`.
    #[must_use]
    pub fn read(written: &str) -> Vec<Self> {
        let mut rest = written.trim_start();
        let mut terms = Vec::new();
        while let Some(negated) = rest.strip_prefix("not:") {
            terms.push(Self::Not);
            rest = negated.trim_start();
        }
        terms.push(Self::Is(rest.to_owned()));
        terms
    }

    /// All of a filter's as a person would write them.
    #[must_use]
    pub fn in_words(terms: &[Self]) -> String {
        let mut rest = terms.iter();
        let mut parts = Vec::new();
        while !rest.as_slice().is_empty() {
            parts.push(Self::one_in_words(&mut rest));
        }
        parts.join(" and ")
    }

    fn one_in_words(rest: &mut std::slice::Iter<'_, Self>) -> String {
        let (word, count) = match rest.next() {
            None => return String::new(),
            Some(Self::Is(written)) => return written.clone(),
            Some(Self::Not) => return format!("not:{}", Self::one_in_words(rest)),
            Some(Self::All(count)) => (" and ", *count),
            Some(Self::Any(count)) => (" or ", *count),
        };
        let parts: Vec<_> = (0..count).map(|_| Self::one_in_words(rest)).collect();
        format!("({})", parts.join(word))
    }
}

/// What is known of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// It may still come.
    Coming,
    Whole(&'a [u8]),
    /// It cannot be waited for: it fulfils no condition.
    Unseen,
}

/// A request as filters see it.
#[derive(Debug, Clone)]
pub struct Request<'a, F> {
    pub method: &'a str,
    pub path_and_query: &'a str,
    /// With its port, where it names one.
    pub host: Option<&'a [u8]>,
    /// Names and values.
    pub fields: F,
    pub content: Content<'a>,
}

impl<'a, F: Iterator<Item = (&'a [u8], &'a [u8])> + Clone> Request<'a, F> {
    fn path(&self) -> &'a str {
        let path = self.path_and_query;
        path.split_once('?').map_or(path, |(path, _)| path)
    }

    fn values(&self, wanted: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let fields = self.fields.clone();
        fields.filter_map(move |(name, value)| name.eq_ignore_ascii_case(wanted.as_bytes()).then_some(value))
    }
}

/// All conditions must be fulfilled. Without any, everything matches and no HTTP is parsed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    terms: Vec<Term>,
    /// Where the terms of each node end.
    ends: Vec<usize>,
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
enum Node {
    Is(Condition),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
}

impl Filter {
    /// # Errors
    /// When a condition cannot be used, there are too many, or an operator lacks its operands.
    pub fn new(terms: Vec<Term>) -> Result<Self, PatternError> {
        if terms.len() > MAX_TERMS {
            return Err(PatternError::TooMany);
        }
        let mut rest = terms.iter();
        let (mut nodes, mut ends) = (Vec::new(), Vec::new());
        while !rest.as_slice().is_empty() {
            nodes.push(Node::build(&mut rest, 0)?);
            ends.push(terms.len() - rest.len());
        }
        Ok(Self { terms, ends, nodes })
    }

    /// All of these, each in its written form.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn all(written: &[&str]) -> Result<Self, PatternError> {
        Self::new(written.iter().flat_map(|written| Term::read(written)).collect())
    }

    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Everything matches, so connections need not be looked into.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether a request is wanted; `None` when that depends on content that may still come.
    #[must_use]
    pub fn matches<'a, F>(&self, request: &Request<'a, F>) -> Option<bool>
    where
        F: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    {
        decided_by(false, &self.nodes, request)
    }

    /// Every request that `other` matches is matched by this one, as far as can be seen from how they are written.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        let others: Vec<_> = other.conditions().collect();
        self.conditions().all(|condition| others.contains(&condition))
    }

    /// The terms of each of the conditions that must be fulfilled.
    fn conditions(&self) -> impl Iterator<Item = &[Term]> {
        self.ends.iter().scan(0, |begin, end| {
            let condition = &self.terms[*begin..*end];
            *begin = *end;
            Some(condition)
        })
    }
}

impl Node {
    fn build(rest: &mut std::slice::Iter<'_, Term>, depth: usize) -> Result<Self, PatternError> {
        if depth > MAX_DEPTH {
            return Err(PatternError::TooDeep);
        }
        let term = rest.next().ok_or(PatternError::Cut)?;
        let mut some = |count: u16| {
            (0..count)
                .map(|_| Self::build(rest, depth + 1))
                .collect::<Result<_, _>>()
        };
        Ok(match term {
            Term::Is(written) => Self::Is(written.parse()?),
            Term::Not => Self::Not(Box::new(Self::build(rest, depth + 1)?)),
            Term::All(count) => Self::All(some(*count)?),
            Term::Any(count) => Self::Any(some(*count)?),
        })
    }

    fn matches<'a, F>(&self, request: &Request<'a, F>) -> Option<bool>
    where
        F: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    {
        match self {
            Self::Is(condition) => condition.matches(request),
            Self::Not(node) => node.matches(request).map(|matched| !matched),
            Self::All(nodes) => decided_by(false, nodes, request),
            Self::Any(nodes) => decided_by(true, nodes, request),
        }
    }
}

/// One node that says `decisive` decides; otherwise they have to agree on the opposite.
fn decided_by<'a, F>(decisive: bool, nodes: &[Node], request: &Request<'a, F>) -> Option<bool>
where
    F: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
{
    let mut open = false;
    for node in nodes {
        match node.matches(request) {
            None => open = true,
            Some(said) if said == decisive => return Some(decisive),
            Some(_) => {}
        }
    }
    (!open).then_some(!decisive)
}

/// As a person would write it.
impl fmt::Display for Filter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&Term::in_words(&self.terms))
    }
}

/// The fuzz entry: a condition, a line feed, and what to try it on: as a field's value, a path, a host and a body.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (written, value) = text.split_once('\n').unwrap_or((&text, ""));
    for written in [format!("re:{written}"), written.to_owned()] {
        let Ok(filter) = Filter::all(&[&written]) else { continue };
        for name in ["x-fuzz", "baggage", "tracestate"] {
            let request = Request {
                method: "POST",
                path_and_query: value,
                host: Some(value.as_bytes()),
                fields: [(name.as_bytes(), value.as_bytes())].into_iter(),
                content: Content::Whole(value.as_bytes()),
            };
            assert!(filter.matches(&request).is_some(), "a whole request is decided");
        }
    }
}
