//! Conditions on a JSON body (RFC 9535).

use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use serde_json::Value;

use super::{PatternError, bounded};

/// The longest query, in bytes.
const MAX_QUERY: usize = 512;
/// Brackets within brackets.
const MAX_NESTED: usize = 16;
/// Segments that look through everything below: each multiplies the work by the body's size.
const MAX_DESCENDANTS: usize = 2;

#[derive(Debug, Clone)]
pub(super) struct JsonPattern {
    query: JpQuery,
    /// The query is a filter over a list whose one element is the body.
    listed: bool,
}

impl JsonPattern {
    /// Reads a query, `$.a.b`, which is fulfilled where it finds anything; or what may stand in a filter selector, with the
    /// body as `@`: `@.a.b == 1`.
    pub(super) fn new(written: &str) -> Result<Self, PatternError> {
        bounded(written.len())?;
        let refuse = |why: String| PatternError::Json {
            query: written.to_owned(),
            why,
        };
        if written.len() > MAX_QUERY {
            return Err(refuse(format!("it is longer than {MAX_QUERY} bytes")));
        }
        if nesting(written) > MAX_NESTED {
            return Err(refuse(format!("it nests more than {MAX_NESTED} deep")));
        }
        if written.matches("..").count() > MAX_DESCENDANTS {
            return Err(refuse(format!("it has more than {MAX_DESCENDANTS} `..`")));
        }
        let listed = !written.trim_start().starts_with('$');
        let query = if listed {
            parse_json_path(&format!("$[?{written}]"))
        } else {
            parse_json_path(written.trim())
        };
        let query = query.map_err(|error| refuse(first_line(&error.to_string())))?;
        Ok(Self { query, listed })
    }

    pub(super) fn matches(&self, body: &[u8]) -> bool {
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return false;
        };
        let body = if self.listed { Value::Array(vec![body]) } else { body };
        js_path_process(&self.query, &body).is_ok_and(|found| !found.is_empty())
    }
}

/// How deep brackets, and negations, which nest in the parser too, stand in each other.
fn nesting(written: &str) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for byte in written.bytes() {
        match byte {
            b'(' | b'[' | b'!' => now += 1,
            b')' | b']' => now = now.saturating_sub(1),
            _ => {}
        }
        most = most.max(now);
    }
    most
}

/// The library's own message draws the query over several lines; its last one says what is wrong.
fn first_line(text: &str) -> String {
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    last.trim().trim_start_matches("= ").to_owned()
}
