//! What asks the apps: h2load, which speaks HTTP/1, too.

use std::process::Command;

use testbed::Pod;

use crate::shell::root;

pub(super) const PACKAGE: &str = "nghttp2-client";
pub(super) const CLIENTS: u32 = 20;
pub(super) const REQUESTS: u32 = 60_000;

/// What h2load has seen.
pub(super) struct Loaded {
    /// Requests a second.
    pub(super) rate: f64,
    /// Of each request, in milliseconds, in ascending order.
    times: Vec<f64>,
}

impl Loaded {
    pub(super) fn at(&self, part: f64) -> f64 {
        let last = self.times.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let at = (part * last as f64) as usize;
        self.times.get(at).copied().unwrap_or(f64::NAN)
    }
}

/// As quickly as it goes.
pub(super) fn quickest(client: &Pod, flags: &[&str], url: &str) -> Result<Loaded, String> {
    let (clients, requests) = (CLIENTS.to_string(), REQUESTS.to_string());
    let arguments = [flags, &["-c", &clients, "-n", &requests]].concat();
    h2load(client, &arguments, url)
}

pub(super) fn h2load(client: &Pod, arguments: &[&str], url: &str) -> Result<Loaded, String> {
    let directory = root().join("target/bench");
    std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let log = directory.join("h2load.log");
    let _ = std::fs::remove_file(&log);
    let mut command: Command = client.in_network("prlimit").map_err(|error| error.to_string())?;
    let said = command
        .args(["--nofile=20000", "h2load"])
        .args(arguments)
        .arg(format!("--log-file={}", log.display()))
        .arg(url)
        .output();
    let said = said.map_err(|error| format!("h2load: {error}"))?;
    let said = [said.stdout, said.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let rate = said.lines().find_map(|line| {
        let (_, rate) = line.strip_prefix("finished in ")?.split_once(", ")?;
        rate.split_once(" req/s")?.0.parse().ok()
    });
    if !said.contains(" 0 failed, 0 errored, 0 timeout") {
        return Err(format!("not every request of {url} was answered:\n{said}"));
    }
    let log = std::fs::read_to_string(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    // When it began, its status, how long it took: microseconds.
    let took = |line: &str| Some(line.split('\t').nth(2)?.parse::<f64>().ok()? / 1e3);
    let mut times: Vec<f64> = log.lines().filter_map(took).collect();
    times.sort_by(f64::total_cmp);
    let rate = rate.ok_or_else(|| format!("h2load says no rate:\n{said}"))?;
    Ok(Loaded { rate, times })
}
