//! The conditions and their written forms.

use std::borrow::Cow;
use std::str::FromStr;

use percent_encoding::percent_decode;

use super::header::HeaderPattern;
use super::json::JsonPattern;
use super::text::TextPattern;
use super::{Content, PatternError, Request, bounded, is_token};

/// One condition on a request.
///
/// Written as `Name=value` or `re:PATTERN` for a header, and with a prefix for everything else: see docs/filters.md.
#[derive(Debug, Clone)]
pub struct Condition(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Header(HeaderPattern),
    Path(TextPattern),
    PathAndQuery(TextPattern),
    Method(String),
    Host(TextPattern),
    /// The path of a gRPC request, to its service or to its method.
    Grpc {
        path: String,
        whole: bool,
    },
    Json(JsonPattern),
    Baggage(Member),
    Tracestate(Member),
}

/// A key and value of a list header.
#[derive(Debug, Clone)]
enum Member {
    Exact(String),
    /// Searched in `key=value`.
    Regex(TextPattern),
}

type Read = fn(&str) -> Result<Kind, PatternError>;

/// What stands before the colon. No field name has one (RFC 9110 section 5.1), so that no header is mistaken for these.
const KINDS: &[(&str, Read)] = &[
    ("re", |rest| HeaderPattern::regex(rest).map(Kind::Header)),
    ("path", |rest| TextPattern::new(rest, false).map(Kind::Path)),
    ("path-and-query", |rest| {
        TextPattern::new(rest, false).map(Kind::PathAndQuery)
    }),
    ("method", method),
    ("host", |rest| TextPattern::new(rest, true).map(Kind::Host)),
    ("grpc", grpc),
    ("json", |rest| JsonPattern::new(rest).map(Kind::Json)),
    ("baggage", |rest| Member::new(rest).map(Kind::Baggage)),
    ("tracestate", |rest| Member::new(rest).map(Kind::Tracestate)),
];

pub(super) const KINDS_IN_WORDS: &str =
    "`re:`, `path:`, `path-and-query:`, `method:`, `host:`, `grpc:`, `json:`, `baggage:` or `tracestate:`";

impl FromStr for Condition {
    type Err = PatternError;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        bounded(written.len())?;
        let found = written.split_once(':').and_then(|(kind, rest)| {
            let (name, read) = KINDS.iter().find(|(name, _)| *name == kind)?;
            Some((*name, rest, read))
        });
        let Some((name, rest, read)) = found else {
            return written.parse().map(|header| Self(Kind::Header(header)));
        };
        if rest.trim().is_empty() {
            return Err(PatternError::Empty(name));
        }
        // A pattern's blanks are its own.
        read(if name == "re" { rest } else { rest.trim() }).map(Self)
    }
}

fn method(rest: &str) -> Result<Kind, PatternError> {
    if is_token(rest) {
        Ok(Kind::Method(rest.to_owned()))
    } else {
        Err(PatternError::Method(rest.to_owned()))
    }
}

fn grpc(rest: &str) -> Result<Kind, PatternError> {
    let name = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    match rest.split_once('/') {
        None if name(rest) => Ok(Kind::Grpc {
            path: format!("/{rest}/"),
            whole: false,
        }),
        Some((service, method)) if name(service) && name(method) => Ok(Kind::Grpc {
            path: format!("/{rest}"),
            whole: true,
        }),
        _ => Err(PatternError::Grpc(rest.to_owned())),
    }
}

impl Member {
    fn new(written: &str) -> Result<Self, PatternError> {
        if written.starts_with("re:") {
            return TextPattern::new(written, false).map(Self::Regex);
        }
        match written.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok(Self::Exact(format!("{}={}", key.trim(), value.trim()))),
            _ => Err(PatternError::Member(written.to_owned())),
        }
    }

    /// Whether a member of these lists is it. `encoded` are those whose values are percent-encoded and may have properties
    /// behind them.
    fn is_in<'a>(&self, lists: impl Iterator<Item = &'a [u8]>, encoded: bool) -> bool {
        let mut members = lists.flat_map(|list| list.split(|byte| *byte == b','));
        members.any(|member| {
            let member = if encoded {
                member.split(|byte| *byte == b';').next().unwrap_or_default()
            } else {
                member
            };
            let Some(at) = member.iter().position(|byte| *byte == b'=') else {
                return false;
            };
            let (key, value) = (member[..at].trim_ascii(), member[at + 1..].trim_ascii());
            let value = if encoded {
                percent_decode(value).into()
            } else {
                Cow::Borrowed(value)
            };
            let whole = [key, &b"="[..], &*value].concat();
            match self {
                Self::Exact(wanted) => whole == wanted.as_bytes(),
                Self::Regex(pattern) => pattern.matches(&whole),
            }
        })
    }
}

impl Condition {
    /// `None` when that depends on content that may still come.
    pub(super) fn matches<'a, F>(&self, request: &Request<'a, F>) -> Option<bool>
    where
        F: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    {
        Some(match &self.0 {
            Kind::Header(pattern) => request.fields.clone().any(|(name, value)| pattern.matches(name, value)),
            Kind::Path(pattern) => pattern.matches(request.path().as_bytes()),
            Kind::PathAndQuery(pattern) => pattern.matches(request.path_and_query.as_bytes()),
            Kind::Method(method) => request.method.eq_ignore_ascii_case(method),
            Kind::Host(pattern) => request.host.is_some_and(|host| {
                pattern.matches(host) || without_port(host).is_some_and(|host| pattern.matches(host))
            }),
            Kind::Grpc { path, whole } => {
                let begins = |value: &[u8]| {
                    value
                        .get(..GRPC.len())
                        .is_some_and(|begin| begin.eq_ignore_ascii_case(GRPC))
                };
                let fits = if *whole {
                    request.path() == path
                } else {
                    request.path().starts_with(path)
                };
                fits && request.values("content-type").any(begins)
            }
            Kind::Json(pattern) => {
                let mut kinds = request.values("content-type").peekable();
                let is_json = kinds.peek().is_none() || kinds.any(names_json);
                match request.content {
                    _ if !is_json => false,
                    Content::Coming => return None,
                    Content::Whole(body) => pattern.matches(body),
                    Content::Unseen => false,
                }
            }
            Kind::Baggage(member) => member.is_in(request.values("baggage"), true),
            Kind::Tracestate(member) => member.is_in(request.values("tracestate"), false),
        })
    }
}

/// The content type of gRPC requests begins so.
const GRPC: &[u8] = b"application/grpc";

fn names_json(kind: &[u8]) -> bool {
    kind.windows(4).any(|part| part.eq_ignore_ascii_case(b"json"))
}

/// The host of `host:port`; `None` where there is no port.
fn without_port(host: &[u8]) -> Option<&[u8]> {
    let at = host.iter().rposition(|byte| *byte == b':')?;
    let port = &host[at + 1..];
    (!port.is_empty() && port.iter().all(u8::is_ascii_digit)).then(|| &host[..at])
}
