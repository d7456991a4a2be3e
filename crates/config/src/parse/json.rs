//! JSON with comments and trailing commas, by `jsonc-parser`. It bounds its recursion itself.

use jsonc_parser::ast::{Object, Value as Parsed};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::{MAX_DEPTH, Refusal};
use crate::value::{Entry, Node, Value};

const OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

pub(super) fn parse(text: &str) -> Result<Node, Refusal> {
    let parsed = parse_to_ast(text, &CollectOptions::default(), &OPTIONS).map_err(|error| Refusal {
        at: error.range().start,
        message: error.kind().to_string(),
    })?;
    match parsed.value {
        Some(value) => node(value, 1),
        None => Ok(Node {
            value: Value::Null,
            at: 0,
        }),
    }
}

fn node(value: Parsed<'_>, depth: usize) -> Result<Node, Refusal> {
    let at = value.range().start;
    if depth > MAX_DEPTH {
        return Err(Refusal::too_deep(at));
    }
    let value = match value {
        Parsed::NullKeyword(_) => Value::Null,
        Parsed::BooleanLit(literal) => Value::Bool(literal.value),
        Parsed::NumberLit(literal) => literal.value.parse().map_or(Value::Float, Value::Integer),
        Parsed::StringLit(literal) => Value::Text(literal.value.into_owned()),
        Parsed::Array(array) => Value::List(
            array
                .elements
                .into_iter()
                .map(|item| node(item, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        Parsed::Object(object) => Value::Table(entries(object, depth)?),
    };
    Ok(Node { value, at })
}

fn entries(object: Object<'_>, depth: usize) -> Result<Vec<Entry>, Refusal> {
    let mut seen = std::collections::HashSet::new();
    let mut entries = Vec::with_capacity(object.properties.len());
    for property in object.properties {
        let (at, key) = (property.range.start, property.name.into_string());
        // The other two formats forbid it, and which of them counts would be a guess.
        if !seen.insert(key.clone()) {
            return Err(Refusal {
                at,
                message: format!("duplicate key {}", crate::value::quoted(&key)),
            });
        }
        entries.push(Entry {
            at,
            key,
            node: node(property.value, depth + 1)?,
        });
    }
    Ok(entries)
}
