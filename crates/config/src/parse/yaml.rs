//! YAML 1.2, by `serde-saphyr`: `yes`, `on` and numbers with leading zeros are text. Aliases are allowed, their expansion is
//! bounded.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess};
use serde_saphyr::{Location, Spanned};

use super::{MAX_DEPTH, Refusal};
use crate::value::{Entry, Node, Value};

/// Values after expansion of aliases: more than any file of [`crate::MAX_FILE_BYTES`] needs.
const MAX_NODES: usize = 200_000;
const MAX_ALIASES: usize = 1000;
const MAX_REPLAYED: usize = 20_000;

pub(super) fn parse(text: &str) -> Result<Node, Refusal> {
    let mut budget = serde_saphyr::budget::Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.max_nodes = MAX_NODES;
    budget.max_events = 2 * MAX_NODES;
    budget.max_aliases = MAX_ALIASES;
    let mut aliases = serde_saphyr::options::AliasLimits::default();
    aliases.max_total_replayed_events = MAX_REPLAYED;
    let options = serde_saphyr::options! {
        budget: Some(budget),
        alias_limits: aliases,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(parsed) => Ok(node(parsed)),
        Err(error) => Err(Refusal {
            at: error.location().map_or(0, |at| offset(text, at)),
            message: message(&error),
        }),
    }
}

fn offset(text: &str, at: Location) -> usize {
    if let Some(offset) = at.span().byte_offset() {
        return usize::try_from(offset).unwrap_or(text.len());
    }
    let line = usize::try_from(at.line()).unwrap_or(1).saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    start + usize::try_from(at.column()).unwrap_or(1).saturating_sub(1)
}

/// Without the position, which is told in one way for all formats.
fn message(error: &serde_saphyr::Error) -> String {
    match error {
        // What these say besides is advice for programmers.
        serde_saphyr::Error::DuplicateMappingKey { .. } => return "duplicate key".to_owned(),
        serde_saphyr::Error::MultipleDocuments { .. } => return "a second document begins; one is read".to_owned(),
        _ => {}
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    line.trim_start_matches("error: ")
        .trim_end_matches([':', ',', ' '])
        .to_owned()
}

fn node(parsed: Spanned<Raw>) -> Node {
    let at = parsed
        .referenced
        .span()
        .byte_offset()
        .and_then(|offset| usize::try_from(offset).ok());
    Node {
        value: parsed.value.0,
        at: at.unwrap_or(0),
    }
}

struct Raw(Value);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Raw;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw(Value::Integer(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw(i64::try_from(value).map_or(Value::Float, Value::Integer)))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw(Value::Float))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw(Value::Text(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw(Value::Text(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Raw>>()? {
            list.push(node(item));
        }
        Ok(Raw(Value::List(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut table = Vec::new();
        while let Some(key) = items.next_key::<Spanned<String>>()? {
            let at = key
                .referenced
                .span()
                .byte_offset()
                .and_then(|offset| usize::try_from(offset).ok());
            let node = node(items.next_value()?);
            table.push(Entry {
                at: at.unwrap_or(node.at),
                key: key.value,
                node,
            });
        }
        Ok(Raw(Value::Table(table)))
    }
}
