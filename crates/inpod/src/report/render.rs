//! Events as text, as JSON and as progress.

use std::time::Duration;

use guest::event::Event;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value};

use crate::error::CliError;

/// How often `-v` must be said for a person to see the event; `None` where it is only progress.
pub(super) fn least_verbosity(event: &Event) -> Option<u8> {
    match event {
        Event::Phase { milliseconds: None, .. } => None,
        Event::Phase { .. } | Event::Process { .. } | Event::Exited { .. } => Some(1),
        Event::Decision { .. } => Some(2),
        _ => Some(0),
    }
}

/// `{"event": "claimed", "port": 8080, ...}` and a line feed.
pub(super) fn json_event(event: &Event) -> String {
    line(serde_json::to_value(event))
}

pub(super) fn json_error(error: &CliError) -> String {
    line(serde_json::to_value(error).map(|fields| Value::Object(Map::from_iter([("error".to_owned(), fields)]))))
}

/// Serde's form of an enum, `{"claimed": {"port": 8080}}`, with its name as a field beside the others.
fn line(value: serde_json::Result<Value>) -> String {
    let mut fields = Map::new();
    match value {
        Ok(Value::Object(outer)) => {
            for (name, inner) in outer {
                fields.insert("event".to_owned(), Value::String(name));
                match inner {
                    Value::Object(inner) => fields.extend(inner),
                    inner => drop(fields.insert("value".to_owned(), inner)),
                }
            }
        }
        Ok(name) => drop(fields.insert("event".to_owned(), name)),
        Err(error) => {
            fields.insert("event".to_owned(), "untold".into());
            fields.insert("message".to_owned(), error.to_string().into());
        }
    }
    format!("{}\n", Value::Object(fields))
}

/// Moves on by itself, so that a long phase is seen to be alive.
pub(super) fn spinner() -> ProgressBar {
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} inpod: {wide_msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
