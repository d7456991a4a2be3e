//! Filters of requests: a list of conditions, and of tables that combine them.

use rules::{Condition, Filter, Term};

use super::{Reader, one_of};
use crate::suggest::nearest;
use crate::value::{Node, Value, quoted};

const OPERATORS: [&str; 3] = ["all", "any", "not"];

impl Reader<'_> {
    /// All of a list must be fulfilled.
    pub(crate) fn filter(&mut self, node: &Node) -> Filter {
        let mut terms = Vec::new();
        let read = self.list(node, |reader, item| Some(reader.terms(item, &mut terms)));
        if read.contains(&None) {
            return Filter::default();
        }
        Filter::new(terms).unwrap_or_else(|error| {
            self.refuse(node.at, &error.to_string(), None);
            Filter::default()
        })
    }

    /// A condition, or a table with one operator. `None` when something is wrong, which has been said.
    fn terms(&mut self, node: &Node, out: &mut Vec<Term>) -> Option<()> {
        if out.len() > rules::MAX_TERMS {
            // Said once, of the whole.
            return Some(());
        }
        let entry = match &node.value {
            Value::Text(_) => return self.condition(node, out),
            Value::Table(entries) if entries.len() == 1 => &entries[0],
            _ => {
                self.expected("text, or a table with one of `all`, `any` and `not`", node);
                return None;
            }
        };
        match (entry.key.as_str(), &entry.node.value) {
            ("not", _) => {
                out.push(Term::Not);
                self.terms(&entry.node, out)
            }
            ("all" | "any", Value::List(items)) if !items.is_empty() && items.len() <= rules::MAX_TERMS => {
                let count = u16::try_from(items.len()).ok()?;
                out.push(if entry.key == "all" {
                    Term::All(count)
                } else {
                    Term::Any(count)
                });
                let read: Vec<_> = items.iter().map(|item| self.terms(item, out)).collect();
                read.into_iter().collect()
            }
            ("all" | "any", _) => {
                let expected = format!("a list of 1 to {} conditions", rules::MAX_TERMS);
                self.expected(&expected, &entry.node);
                None
            }
            (key, _) => {
                let near = nearest(key, OPERATORS.into_iter()).map(|name| format!("did you mean \"{name}\"?"));
                let found = format!("expected {}, found {}", one_of(&OPERATORS), quoted(key));
                self.refuse(entry.at, &found, near);
                None
            }
        }
    }

    fn condition(&mut self, node: &Node, out: &mut Vec<Term>) -> Option<()> {
        let terms = Term::read(&self.text(node)?);
        for term in &terms {
            if let Term::Is(written) = term
                && let Err(error) = written.parse::<Condition>()
            {
                self.refuse(node.at, &error.to_string(), None);
                return None;
            }
        }
        out.extend(terms);
        Some(())
    }
}
