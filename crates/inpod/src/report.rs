//! What is told while a session runs: to a person on stderr, or as JSON lines. Stdout always belongs to the app.
//!
//! Invariant: telling never delays the session. A thread writes; when its reader is slow, what does not fit is counted
//! and dropped.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use guest::event::Event;
use indicatif::ProgressBar;

use crate::error::CliError;
use crate::sys::{duplicate, spawn_without_signals};
use crate::text::plain;

mod render;

use render::{json_error, json_event, least_verbosity, spinner};

/// Lines that wait for a slow reader.
const WAITING: usize = 4096;
/// How long the end waits for a slow reader.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How events are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// On stderr; with progress where that is a terminal.
    Person { verbose: u8 },
    /// One JSON object a line, on an open descriptor (2 is stderr).
    Json { descriptor: i32 },
}

/// Tells events. One for the process; made after the server process was forked, since it has a thread.
#[derive(Debug)]
pub struct Report {
    style: Style,
    /// Lines end with a carriage return too: the app may have set the terminal raw.
    line_end: &'static str,
    spinner: Mutex<Option<ProgressBar>>,
    writer: SyncSender<Order>,
    dropped: AtomicU64,
}

/// What the writing thread is asked.
#[derive(Debug)]
enum Order {
    Line(Vec<u8>),
    /// Answered when everything before it is out.
    Flush(SyncSender<()>),
}

impl Report {
    /// # Errors
    /// When the descriptor is not open for writing.
    pub fn new(style: Style) -> io::Result<Self> {
        let (descriptor, terminal) = match style {
            Style::Person { .. } => (2, io::stderr().is_terminal()),
            Style::Json { descriptor } => (descriptor, false),
        };
        let out = duplicate(descriptor)?;
        Self::to(File::from(out), style, terminal)
    }

    fn to(mut out: impl Write + Send + 'static, style: Style, terminal: bool) -> io::Result<Self> {
        let (writer, orders) = mpsc::sync_channel(WAITING);
        spawn_without_signals("report", move || {
            for order in orders {
                match order {
                    // Where nobody reads any more there is nobody to tell that.
                    Order::Line(line) if out.write_all(&line).is_err() => break,
                    Order::Line(_) => {}
                    Order::Flush(done) => drop(done.try_send(())),
                }
            }
        })?;
        Ok(Self {
            style,
            line_end: if terminal { "\r\n" } else { "\n" },
            spinner: Mutex::new(terminal.then(spinner)),
            writer,
            dropped: AtomicU64::new(0),
        })
    }

    pub fn event(&self, event: &Event) {
        let Style::Person { verbose } = self.style else {
            return self.send(json_event(event));
        };
        if self.progress(event) {
            return;
        }
        if least_verbosity(event).is_some_and(|least| verbose >= least) {
            self.line(&event.to_string());
        }
    }

    /// What ends the session: waits for a slow reader, but not long.
    pub fn error(&self, error: &CliError) {
        self.clear();
        self.flush();
        match self.style {
            Style::Person { .. } => self.line(&error.to_string()),
            Style::Json { .. } => self.send(json_error(error)),
        }
    }

    /// Sees to it that all is out, if somebody reads.
    pub fn finish(&self) {
        self.clear();
        self.flush();
        let lost = self.dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.event(&Event::Warning {
                message: format!("{lost} events were not told: nobody read them in time"),
            });
            self.flush();
        }
    }

    fn flush(&self) {
        let deadline = Instant::now() + LAST_WORDS;
        let (done, answer) = mpsc::sync_channel(1);
        let mut order = Order::Flush(done);
        // The queue has no bounded wait of its own; this is the end, and a millisecond matters to nobody.
        while let Err(TrySendError::Full(back)) = self.writer.try_send(order) {
            if Instant::now() >= deadline {
                return;
            }
            order = back;
            std::thread::sleep(Duration::from_millis(1));
        }
        // Either way the time is up or all is out.
        let _ = answer.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }

    fn line(&self, text: &str) {
        let text = plain(text);
        let lines = text.lines().enumerate();
        let lines = lines.map(|(index, line)| {
            if index == 0 {
                format!("inpod: {line}")
            } else {
                format!("       {line}")
            }
        });
        match &*self.spinner.lock().unwrap_or_else(PoisonError::into_inner) {
            // Above its own line; nothing of the session depends on us this early.
            Some(spinner) => lines.for_each(|line| spinner.println(line)),
            None => self.send(lines.map(|line| line + self.line_end).collect()),
        }
    }

    fn send(&self, text: String) {
        if let Err(TrySendError::Full(_)) = self.writer.try_send(Order::Line(text.into_bytes())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the event has been shown.
    fn progress(&self, event: &Event) -> bool {
        let message = match event {
            Event::Phase {
                name,
                milliseconds: None,
            } => name.clone(),
            Event::Waiting { .. } => event.to_string(),
            Event::Started { .. } | Event::Lost { .. } | Event::Stopped { .. } | Event::Exited { .. } => {
                self.clear();
                return false;
            }
            _ => return false,
        };
        let spinner = self.spinner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(spinner) = &*spinner else { return false };
        spinner.set_message(plain(&message).replace('\n', " "));
        true
    }

    fn clear(&self) {
        if let Some(spinner) = self.spinner.lock().unwrap_or_else(PoisonError::into_inner).take() {
            spinner.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests;
