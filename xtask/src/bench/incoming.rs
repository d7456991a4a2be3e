//! What comes to a stolen port: requests that stay with the real app, against haproxy in the same place; and those that are
//! stolen, against the link's round trip.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;
use testbed::{FreshPod, Pod};

use super::Bench;
use super::goals::{Table, median, number};
use super::run::{Running, listen};
use crate::shell::root;

/// h2load, which speaks HTTP/1, too.
const PACKAGE: &str = "nghttp2-client";
const CLIENTS: &str = "20";
const REQUESTS: &str = "60000";
/// The real app's ports and haproxy's, for HTTP/1 and for HTTP/2 with prior knowledge.
const APP: [u16; 2] = [8080, 8090];
const PROXY: [u16; 2] = [8081, 8091];
const HEADER: &str = "X-User=me";

const REAL: &str = "
frontend app
    bind :8080
    bind :8090 proto h2
    http-request return status 200 content-type text/plain string \"an answer of the real app, as short as those of small services\"
";
const BETWEEN: &str = "
frontend one
    bind :8081
    default_backend app1
backend app1
    server app 127.0.0.1:8080
frontend two
    bind :8091 proto h2
    default_backend app2
backend app2
    server app 127.0.0.1:8090 proto h2
";

pub(super) fn measure(bench: &Bench, table: &mut Table) -> Result<(), String> {
    testbed::install_these(&[PACKAGE]).map_err(|error| error.to_string())?;
    let admin = bench.testbed()?.admin();
    let pod = admin.fresh_pod(&FreshPod {
        spec: json!({"containers": [haproxy("main", REAL), haproxy("proxy", BETWEEN)]}),
        ..FreshPod::default()
    });
    let pod = pod.map_err(|error| error.to_string())?;
    let client = admin.pod("default", "client").map_err(|error| error.to_string())?;
    passed_on(bench, table, &pod, &client)?;
    stolen(bench, table, &pod, &client)
}

fn haproxy(name: &str, sections: &str) -> serde_json::Value {
    let times = "timeout connect 5s\n    timeout client 1h\n    timeout server 1h";
    let text = format!("defaults\n    mode http\n    {times}\n{sections}");
    json!({
        "name": name, "image": "inpod.test/mesh:1", "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", "printf '%s' \"$CONFIG\" > /tmp/cfg; exec haproxy -db -f /tmp/cfg"],
        "env": [{"name": "CONFIG", "value": text}],
    })
}

/// One after the other, so that both meet the same machine: while a port is stolen, haproxy is stolen from as well.
fn passed_on(bench: &Bench, table: &mut Table, pod: &Pod, client: &Pod) -> Result<(), String> {
    let (mut rates, mut latencies) = ([Vec::new(), Vec::new()], Vec::new());
    let mut notes = [String::new(), String::new()];
    for _ in 0..bench.rounds(5) {
        let proxied = [load(client, pod, PROXY, 0)?, load(client, pod, PROXY, 1)?];
        let session = Thief::begin(bench, pod)?;
        let passed = [load(client, pod, APP, 0)?, load(client, pod, APP, 1)?];
        drop(session);
        for (at, (passed, proxied)) in passed.iter().zip(&proxied).enumerate() {
            rates[at].push(passed.rate / proxied.rate);
            notes[at] = format!(
                "the last: {} requests/s, haproxy {}",
                number(passed.rate),
                number(proxied.rate)
            );
        }
        latencies.push(passed[0].at(0.5) / proxied[0].at(0.5));
    }
    let [one, two] = rates;
    let [note_one, note_two] = notes;
    table.judge("HTTP/1 passed on / haproxy", median(one), note_one)?;
    let note = format!("{CLIENTS} clients");
    table.judge("HTTP/1 passed on, median latency / haproxy", median(latencies), note)?;
    table.judge("HTTP/2 passed on / haproxy", median(two), note_two)
}

fn stolen(bench: &Bench, table: &mut Table, pod: &Pod, client: &Pod) -> Result<(), String> {
    let echo = bench.echo()?;
    let (target, address) = (format!("pod/{}/container/tcp", echo.name), format!("{}:7000", echo.ip));
    let round_trip = listen(&mut bench.session(&target, &["echo", &address, "2000"]))?.number("round_trip_us")? / 1e3;
    let _session = Thief::begin(bench, pod)?;
    let arguments = ["--h1", "-c", "1", "-n", "3000", "-H", "X-User: me"];
    let loaded = h2load(client, &arguments, &format!("http://{}:{}/", pod.ip, APP[0]))?;
    let note = |what| format!("{what}; the link's round trip is {round_trip:.2} ms");
    let (middle, most) = (loaded.at(0.5), loaded.at(0.99));
    table.judge(
        "stolen request, median, added",
        middle - round_trip,
        note(format!("{middle:.2} ms")),
    )?;
    table.judge(
        "stolen request, p99, added",
        most - round_trip,
        note(format!("{most:.2} ms")),
    )
}

/// What h2load has seen.
struct Loaded {
    /// Requests a second.
    rate: f64,
    /// Of each request, in milliseconds, in ascending order.
    times: Vec<f64>,
}

impl Loaded {
    fn at(&self, part: f64) -> f64 {
        let last = self.times.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let at = (part * last as f64) as usize;
        self.times.get(at).copied().unwrap_or(f64::NAN)
    }
}

/// `version` 0 is HTTP/1, 1 is HTTP/2.
fn load(client: &Pod, pod: &Pod, ports: [u16; 2], version: usize) -> Result<Loaded, String> {
    let flags: &[&str] = [&["--h1"][..], &["-p", "h2c", "-m", "10"]][version];
    let arguments = [flags, &["-c", CLIENTS, "-n", REQUESTS]].concat();
    h2load(client, &arguments, &format!("http://{}:{}/", pod.ip, ports[version]))
}

fn h2load(client: &Pod, arguments: &[&str], url: &str) -> Result<Loaded, String> {
    let log = root().join("target/bench/h2load.log");
    let _ = std::fs::remove_file(&log);
    let mut command: Command = client.in_network("h2load").map_err(|error| error.to_string())?;
    let said = command
        .args(arguments)
        .arg(format!("--log-file={}", log.display()))
        .arg(url)
        .output();
    let said = said.map_err(|error| format!("h2load: {error}"))?;
    let said = String::from_utf8_lossy(&said.stdout);
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

/// A session that steals from both ports what only the bench itself asks for.
struct Thief(Running);

impl Thief {
    fn begin(bench: &Bench, pod: &Pod) -> Result<Self, String> {
        let shop: PathBuf = root().join("target/testbed/bin/shop");
        let shop = shop.display();
        let script = format!("{shop} http2 0.0.0.0:{} & exec {shop} web 0.0.0.0:{}", APP[1], APP[0]);
        let mut command = bench.thief(&format!("pod/{}/container/main", pod.name), HEADER, &script);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut session = Self(Running(child.map_err(|error| format!("cannot run inpod: {error}"))?));
        let mut said = BufReader::new(session.0.0.stderr.take().ok_or("inpod has no stderr")?).lines();
        let mut claimed = 0;
        let mut words = Vec::new();
        while claimed < APP.len() {
            let Some(Ok(line)) = said.next() else {
                return Err(format!(
                    "the session ended before it stole anything:\n{}",
                    words.join("\n")
                ));
            };
            claimed += usize::from(line.contains(r#""event":"claimed""#));
            words.push(line);
        }
        // Nobody may wait for a reader.
        std::thread::spawn(move || said.for_each(drop));
        Ok(session)
    }
}
