//! How both programs say what they measured: `name value` a line, which `cargo xtask bench` reads.
#![allow(clippy::print_stdout, reason = "the output is what these programs are for")]

use std::time::{Duration, Instant};

pub fn say(name: &str, value: f64) {
    println!("{name} {value}");
}

/// The middle one, in microseconds.
pub fn median_us(times: &mut [Duration]) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(f64::NAN, |middle| micros(*middle))
}

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// 10^6 bytes a second since then.
#[allow(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
pub fn rate(bytes: usize, since: Instant) -> f64 {
    bytes as f64 / since.elapsed().as_secs_f64() / 1e6
}
