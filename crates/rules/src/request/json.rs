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
/// Segments that look through everything below, and selectors beside others: each multiplies the work by the body's size, or
/// by their number.
const MAX_DESCENDANTS: usize = 1;
const MAX_BESIDE: usize = 3;

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
        let shape = Shape::of(written);
        for (found, most, what) in [
            (shape.nested, MAX_NESTED, "levels of brackets and negations"),
            (shape.descendants, MAX_DESCENDANTS, "`..`"),
            (shape.beside, MAX_BESIDE, "commas in brackets"),
        ] {
            if found > most {
                return Err(refuse(format!("at most {most} {what} are accepted")));
            }
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

/// What a query costs, seen from outside.
#[derive(Debug, Default)]
struct Shape {
    /// How deep brackets, and negations, which nest in the parser too, stand in each other.
    nested: usize,
    descendants: usize,
    /// Commas in square brackets; those between arguments of a function do not count.
    beside: usize,
}

impl Shape {
    fn of(written: &str) -> Self {
        let mut shape = Self::default();
        let mut open = Vec::new();
        let mut bytes = written.bytes().peekable();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\'' | b'"' => {
                    while let Some(quoted) = bytes.next() {
                        match quoted {
                            b'\\' => drop(bytes.next()),
                            end if end == byte => break,
                            _ => {}
                        }
                    }
                }
                b'!' if bytes.peek() == Some(&b'=') => {}
                b'(' | b'[' | b'!' => {
                    open.push(byte);
                    shape.nested = shape.nested.max(open.len());
                }
                b')' | b']' => while open.pop() == Some(b'!') {},
                b',' if open.iter().rfind(|bracket| **bracket != b'!') == Some(&b'[') => shape.beside += 1,
                b'.' if bytes.peek() == Some(&b'.') => shape.descendants += 1,
                _ => {}
            }
        }
        shape
    }
}

/// The library's own message draws the query over several lines; its last one says what is wrong.
fn first_line(text: &str) -> String {
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    last.trim().trim_start_matches("= ").to_owned()
}
