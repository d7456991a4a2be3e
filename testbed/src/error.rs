//! What can go wrong: each message says what was being done, why it failed, and where there is one, what to do.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {doing}: {source}")]
    Io { doing: String, source: io::Error },

    #[error("cannot {doing}: `{command}` {outcome}\n{output}")]
    Command {
        doing: String,
        command: String,
        outcome: String,
        output: String,
    },

    #[error("cannot {doing}: {why}\n  {hint}")]
    Unmet { doing: String, why: String, hint: String },

    #[error("cannot {doing}: {why}")]
    Unexpected { doing: String, why: String },

    #[error("gave up after {} s to {doing}: {state}", waited.as_secs())]
    Timeout {
        doing: String,
        waited: Duration,
        state: String,
    },
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn unexpected(doing: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unexpected {
            doing: doing.into(),
            why: why.into(),
        }
    }
}

/// Says which file an I/O error is about.
pub(crate) trait At<T> {
    fn at(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, doing: &str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io {
            doing: format!("{doing} {}", path.display()),
            source,
        })
    }
}

/// Runs to the end and gives what it printed; anything but success is an error that shows both outputs.
pub(crate) fn run(doing: &str, command: &mut Command) -> Result<String> {
    let shown = || {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    };
    let text = shown();
    let failed = |outcome: String, output: String| Error::Command {
        doing: doing.to_owned(),
        command: text.clone(),
        outcome,
        output,
    };
    match command.output() {
        Err(problem) => Err(failed(format!("could not start: {problem}"), String::new())),
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            let both = [output.stderr, output.stdout].concat();
            Err(failed(
                format!("ended with {}", output.status),
                String::from_utf8_lossy(&both).trim().to_owned(),
            ))
        }
    }
}
