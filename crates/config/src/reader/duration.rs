//! Durations as people write them: `90s`, `10m`, `1h30m`.

use std::time::Duration;

/// The longest that is accepted.
const MAX: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DurationError {
    #[error("{} is not a duration; write numbers with units, such as `90s`, `10m` or `1h30m`", crate::value::quoted(.0))]
    Form(String),
    #[error("{} is longer than 24h", crate::value::quoted(.0))]
    TooLong(String),
}

/// Reads whole numbers, each with `h`, `m`, `s` or `ms`.
pub(super) fn parse(text: &str) -> Result<Duration, DurationError> {
    let form = || DurationError::Form(text.to_owned());
    let long = || DurationError::TooLong(text.to_owned());
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(form());
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(form)?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        if number.is_empty() {
            return Err(form());
        }
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(form()),
        };
        let part = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(milliseconds))
            .ok_or_else(long)?;
        total = total
            .checked_add(Duration::from_millis(part))
            .filter(|total| *total <= MAX)
            .ok_or_else(long)?;
        rest = after;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_needed_and_add_up() {
        let read = |text| {
            parse(text)
                .map(|duration| duration.as_millis())
                .map_err(|error| error.to_string())
        };
        for (text, milliseconds) in [
            ("90s", 90_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("0s", 0),
            ("24h", 86_400_000),
        ] {
            assert_eq!(read(text), Ok(milliseconds), "{text}");
        }
        for text in ["", "10", "m", "10 m", "1.5h", "-1s", "1d", "10m5", "١s"] {
            assert!(read(text).unwrap_err().contains("is not a duration"), "{text}");
        }
        for text in ["24h1ms", "25h", "99999999999999999999s", "18446744073709551615h"] {
            assert!(read(text).unwrap_err().contains("longer than 24h"), "{text}");
        }
    }
}
