//! The tree that all three formats, variables and flags become.

/// A value and the byte offset in its source where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) at: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    /// A number that is no `i64`; kept out of configuration, so its value is not.
    Float,
    Date,
    Text(String),
    List(Vec<Node>),
    /// In the order of the source, where the parser keeps it.
    Table(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: usize,
    pub(crate) node: Node,
}

/// The longest text that a message repeats, in characters.
const QUOTED: usize = 40;

impl Node {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self {
            value: Value::Text(text.into()),
            at: 0,
        }
    }

    pub(crate) fn switch(on: bool) -> Self {
        Self {
            value: Value::Bool(on),
            at: 0,
        }
    }

    pub(crate) fn list(items: impl Iterator<Item = String>) -> Self {
        Self {
            value: Value::List(items.map(Self::text).collect()),
            at: 0,
        }
    }

    pub(crate) fn table<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let entry = |(key, text): (&str, &str)| Entry {
            key: key.to_owned(),
            at: 0,
            node: Self::text(text),
        };
        Self {
            value: Value::Table(entries.map(entry).collect()),
            at: 0,
        }
    }

    /// What it is, in words that fit behind "found".
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => format!("the number {value}"),
            Value::Float => "a number with a fraction, an exponent or too many digits".to_owned(),
            Value::Date => "a date".to_owned(),
            Value::Text(text) => format!("the text {}", quoted(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
        }
    }
}

/// `text` in double quotes, cut and without control characters.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    let mut shown: String = text.chars().take(QUOTED).map(plain).collect();
    if text.chars().nth(QUOTED).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}
