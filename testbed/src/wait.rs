//! Waiting on a condition, with a deadline and with what was last seen in the error.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

const PAUSE: Duration = Duration::from_millis(100);

/// Calls `look` until it gives `Ok(value)`; an inner `Err` says what it is like now. An outer error ends the waiting.
pub fn wait_for<T>(
    doing: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<std::result::Result<T, String>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match look()? {
            Ok(value) => return Ok(value),
            Err(state) if start.elapsed() > patience => {
                return Err(Error::Timeout {
                    doing: doing.to_owned(),
                    waited: patience,
                    state,
                });
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
