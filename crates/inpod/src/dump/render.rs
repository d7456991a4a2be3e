//! What is shown of it: text for a person, or a JSON object a line. Nothing that a client sends reaches the terminal as a
//! control character.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use wire::message::Incoming;

use super::client::{Request, Sent};
use crate::sessions::cell;
use crate::text::plain;

/// Bytes in a line of a hexadecimal excerpt.
const ROW: usize = 16;

#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) json: bool,
    /// Most bytes that are shown of a body, or of other bytes of a connection.
    pub(super) bytes: usize,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its client has sent everything.
    Finished,
    /// It was reset, or its copy was not whole.
    Broken,
}

/// One connection, as it is shown.
pub(super) struct Shown {
    form: Form,
    client: String,
    server: String,
    port: u16,
    requests: u64,
    /// That were not taken apart.
    bytes: u64,
    raw: bool,
}

impl Shown {
    pub(super) fn new(form: Form, incoming: &Incoming) -> Self {
        Self {
            form,
            client: incoming.client.to_string(),
            server: incoming.server.to_string(),
            port: incoming.port,
            requests: 0,
            bytes: 0,
            raw: false,
        }
    }

    /// All of it, now.
    pub(super) fn texts(&mut self, sent: impl IntoIterator<Item = Sent>) -> String {
        sent.into_iter().map(|sent| self.text(&sent, now())).collect()
    }

    /// What the connection's end has to say.
    pub(super) fn end(&self, end: End) -> String {
        self.ended(end, now())
    }

    fn text(&mut self, sent: &Sent, at: u64) -> String {
        match sent {
            Sent::Request(request) => {
                self.requests += 1;
                match self.form.json {
                    true => self.object(at, "request", request_json(request)),
                    false => self.line(at, &request_text(request)),
                }
            }
            Sent::Raw(reason) => {
                self.raw = true;
                match self.form.json {
                    true => self.object(at, "opened", json!({"protocol": reason.to_string()})),
                    false => self.line(at, &format!("opened; not taken apart into requests: {reason}\n")),
                }
            }
            Sent::Bytes(bytes) => {
                let before = usize::try_from(self.bytes).unwrap_or(usize::MAX);
                self.bytes += bytes.len() as u64;
                let shown = &bytes[..bytes.len().min(self.form.bytes.saturating_sub(before))];
                if shown.is_empty() {
                    return String::new();
                }
                match self.form.json {
                    true => self.object(at, "bytes", excerpt_json(shown, Some(bytes.len() as u64))),
                    false => self.line(
                        at,
                        &format!(
                            "{}\n{}",
                            bytes_in_words(bytes.len() as u64),
                            excerpt(shown, Some(bytes.len() as u64))
                        ),
                    ),
                }
            }
        }
    }

    fn ended(&self, end: End, at: u64) -> String {
        if !self.raw && self.requests > 0 {
            return String::new();
        }
        if self.form.json {
            return self.object(at, "closed", json!({"bytes": self.bytes, "broken": end == End::Broken}));
        }
        let how = match (end, self.raw) {
            (End::Finished, true) => "closed",
            (End::Finished, false) => "opened and closed",
            (End::Broken, true) => "reset",
            (End::Broken, false) => "opened and reset",
        };
        self.line(at, &format!("{how}, {}\n", bytes_in_words(self.bytes)))
    }

    fn line(&self, at: u64, text: &str) -> String {
        format!("{} {} > :{} {text}", clock(at), self.client, self.port)
    }

    fn object(&self, at: u64, event: &str, more: Value) -> String {
        let mut object = json!({
            "event": event, "unix_milliseconds": at, "client": self.client, "server": self.server, "port": self.port,
        });
        if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
            object.extend(more);
        }
        // JSON leaves the control characters behind ASCII as they are.
        let escaped = |character: char| match character {
            '\u{7f}'..='\u{9f}' => format!("\\u{:04x}", u32::from(character)),
            character => character.to_string(),
        };
        let text: String = object.to_string().chars().map(escaped).collect();
        format!("{text}\n")
    }
}

fn request_text(request: &Request) -> String {
    let Request {
        method,
        target,
        version,
        ..
    } = request;
    let mut text = format!("{} {} {version}\n", cell(method), cell(target));
    for (name, value) in &request.fields {
        let field = format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        let _ = writeln!(text, "    {}", cell(&field));
    }
    if request.length != Some(0) {
        text.push('\n');
        text.push_str(&excerpt(&request.body, request.length));
    }
    text
}

fn request_json(request: &Request) -> Value {
    let field = |(name, value): &(Vec<u8>, Vec<u8>)| json!({"name": String::from_utf8_lossy(name), "value": String::from_utf8_lossy(value)});
    json!({
        "method": request.method,
        "target": request.target,
        "version": request.version,
        "headers": request.fields.iter().map(field).collect::<Vec<_>>(),
        "body": excerpt_json(&request.body, request.length),
    })
}

/// The beginning of `length` bytes, indented, as text where it is text.
fn excerpt(shown: &[u8], length: Option<u64>) -> String {
    let mut text = String::new();
    match readable(shown) {
        Some(readable) => plain(readable).lines().for_each(|line| {
            let _ = writeln!(text, "    {line}");
        }),
        None => shown.chunks(ROW).enumerate().for_each(|(row, bytes)| {
            let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let ascii = bytes.iter().map(|&byte| match byte {
                b' '..=b'~' => char::from(byte),
                _ => '.',
            });
            let ascii: String = ascii.collect();
            let _ = writeln!(text, "    {:04x}  {:47}  {ascii}", row * ROW, hex.join(" "));
        }),
    }
    let shown = shown.len() as u64;
    match length {
        Some(length) if length == shown => {}
        Some(length) => {
            let _ = writeln!(text, "    ({shown} of {} shown)", bytes_in_words(length));
        }
        None => {
            let _ = writeln!(text, "    ({} shown, more may follow)", bytes_in_words(shown));
        }
    }
    text
}

fn excerpt_json(shown: &[u8], length: Option<u64>) -> Value {
    let (form, content) = match readable(shown) {
        Some(text) => ("text", text.to_owned()),
        None => ("hex", shown.iter().map(|byte| format!("{byte:02x}")).collect()),
    };
    json!({"length": length, "shown": shown.len(), form: content})
}

/// As text, where a person would call it that; a character that was cut at the end is left out.
fn readable(bytes: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let odd = |character: char| character.is_control() && !matches!(character, '\n' | '\r' | '\t');
    (!text.contains(odd)).then_some(text)
}

fn bytes_in_words(bytes: u64) -> String {
    match bytes {
        1 => "1 byte".to_owned(),
        bytes => format!("{bytes} bytes"),
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time of day, UTC as in the logs of most pods.
fn clock(at: u64) -> String {
    let (seconds, milliseconds) = (at / 1000 % 86_400, at % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}Z")
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
