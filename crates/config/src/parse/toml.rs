//! TOML 1.1, by the `toml` crate. It bounds its recursion itself.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{MAX_DEPTH, Refusal};
use crate::value::{Entry, Node, Value};

pub(super) fn parse(text: &str) -> Result<Node, Refusal> {
    let table = DeTable::parse(text).map_err(|error| Refusal {
        at: error.span().map_or(0, |span| span.start),
        message: error.message().replace('\n', ", "),
    })?;
    let at = table.span().start;
    Ok(Node {
        value: Value::Table(entries(table.into_inner(), 0)?),
        at,
    })
}

fn entries(table: DeTable<'_>, depth: usize) -> Result<Vec<Entry>, Refusal> {
    let entry = |(key, value): (Spanned<std::borrow::Cow<'_, str>>, Spanned<DeValue<'_>>)| {
        Ok(Entry {
            at: key.span().start,
            key: key.into_inner().into_owned(),
            node: node(value, depth + 1)?,
        })
    };
    let mut entries = table.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(|entry| entry.at);
    Ok(entries)
}

fn node(value: Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Refusal> {
    let at = value.span().start;
    if depth > MAX_DEPTH {
        return Err(Refusal::too_deep(at));
    }
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Integer(digits) => {
            i64::from_str_radix(digits.as_str(), digits.radix()).map_or(Value::Float, Value::Integer)
        }
        DeValue::Float(_) => Value::Float,
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| node(item, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => Value::Table(entries(table, depth)?),
    };
    Ok(Node { value, at })
}
