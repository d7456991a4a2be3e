//! What comes to a stolen port: requests that stay with the real app, against haproxy in the same place; and those that are
//! stolen, against the link's round trip. And what a mirror costs an app that is busy.

mod h2load;
mod mirrored;
mod serving;

use serde_json::{Value, json};
use testbed::{FreshPod, Pod};

use super::Bench;
use super::goals::{Table, median, number};
use super::run::listen;
use crate::shell::root;
use h2load::{CLIENTS, Loaded, h2load, quickest};
use serving::{Serving, session};

/// The real app's ports and haproxy's, for HTTP/1 and for HTTP/2 with prior knowledge.
const APP: [u16; 2] = [8080, 8090];
const PROXY: [u16; 2] = [8081, 8091];
/// By which h2load asks them.
const VERSIONS: [&[&str]; 2] = [&["--h1"], &["-p", "h2c", "-m", "10"]];
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
    testbed::install_these(&[h2load::PACKAGE]).map_err(|error| error.to_string())?;
    let admin = bench.testbed()?.admin();
    let client = admin.pod("default", "client").map_err(|error| error.to_string())?;
    for part in [passed_on, stolen, crowded] {
        let pod = fresh(bench, &json!([haproxy("main", REAL), haproxy("proxy", BETWEEN)]))?;
        part(bench, table, &pod, &client)?;
    }
    mirrored::measure(bench, table, &client)
}

/// Each part has a pod and an agent of its own: what one leaves there is not measured with the next.
fn fresh(bench: &Bench, containers: &Value) -> Result<Pod, String> {
    let pod = bench.testbed()?.admin().fresh_pod(&FreshPod {
        spec: json!({"containers": containers}),
        ..FreshPod::default()
    });
    pod.map_err(|error| error.to_string())
}

fn haproxy(name: &str, sections: &str) -> Value {
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
        let proxied = both(client, pod, PROXY)?;
        let session = thief(bench, pod)?;
        let passed = both(client, pod, APP)?;
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

/// Both versions of HTTP, one after the other.
fn both(client: &Pod, pod: &Pod, ports: [u16; 2]) -> Result<[Loaded; 2], String> {
    let ask = |at: usize| quickest(client, VERSIONS[at], &format!("http://{}:{}/", pod.ip, ports[at]));
    Ok([ask(0)?, ask(1)?])
}

/// Steals from both ports what only the bench itself asks for.
fn thief(bench: &Bench, pod: &Pod) -> Result<Serving, String> {
    let shop = shop();
    let script = format!("{shop} http2 0.0.0.0:{} & exec {shop} web 0.0.0.0:{}", APP[1], APP[0]);
    Serving::begin(
        session(bench, pod, &["--steal", "--header", HEADER], &script),
        APP.len(),
    )
}

fn shop() -> String {
    root().join("target/testbed/bin/shop").display().to_string()
}

fn stolen(bench: &Bench, table: &mut Table, pod: &Pod, client: &Pod) -> Result<(), String> {
    let echo = bench.echo()?;
    let (target, address) = (format!("pod/{}/container/tcp", echo.name), format!("{}:7000", echo.ip));
    let round_trip = listen(&mut bench.session(&target, &["echo", &address, "2000"]))?.number("round_trip_us")? / 1e3;
    let _session = thief(bench, pod)?;
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

/// Many clients at a time, each of which asks once a second.
fn crowded(bench: &Bench, table: &mut Table, pod: &Pod, client: &Pod) -> Result<(), String> {
    let _session = thief(bench, pod)?;
    let arguments = ["--h1", "-c", "5000", "-r", "1000", "--rps", "1", "-n", "50000"];
    let loaded = h2load(client, &arguments, &format!("http://{}:{}/", pod.ip, APP[0]))?;
    let memory = most_memory(agent(pod)?)?;
    let note = format!("{} requests/s", number(loaded.rate));
    table.judge("agent's memory with 5 000 connections", memory, note)
}

fn agent(pod: &Pod) -> Result<i32, String> {
    let agent = pod.running("agent").map_err(|error| error.to_string())?;
    agent
        .map(|process| process.pid)
        .ok_or_else(|| "the pod has no agent".to_owned())
}

/// The most memory that a process has had, in MB.
fn most_memory(pid: i32) -> Result<f64, String> {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(|error| format!("the agent: {error}"))?;
    let most = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    most.map(|kib: f64| kib * 1024.0 / 1e6)
        .ok_or_else(|| "no VmHWM of the agent".to_owned())
}
