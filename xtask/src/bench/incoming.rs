//! What comes to a stolen port: requests that stay with the real app, against haproxy in the same place; and those that are
//! stolen, against the link's round trip. And what a mirror costs an app that is busy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::{FreshPod, Pod};

use super::Bench;
use super::goals::{Table, median, number};
use super::idle::Spent;
use super::run::{Running, listen};
use crate::shell::root;

/// h2load, which speaks HTTP/1, too.
const PACKAGE: &str = "nghttp2-client";
const CLIENTS: u32 = 20;
const REQUESTS: u32 = 60_000;
/// The real app's ports and haproxy's, for HTTP/1 and for HTTP/2 with prior knowledge.
const APP: [u16; 2] = [8080, 8090];
const PROXY: [u16; 2] = [8081, 8091];
const HEADER: &str = "X-User=me";
/// The part of its best rate that a busy app is asked for, and for how long, in seconds.
const BUSY: f64 = 0.7;
const PACED: f64 = 5.0;

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
    let client = admin.pod("default", "client").map_err(|error| error.to_string())?;
    // Each with a pod and an agent of its own: what one leaves there is not measured with the next.
    for part in [passed_on, stolen, crowded, mirrored] {
        let pod = admin.fresh_pod(&FreshPod {
            spec: json!({"containers": [haproxy("main", REAL), haproxy("proxy", BETWEEN)]}),
            ..FreshPod::default()
        });
        let pod = pod.map_err(|error| error.to_string())?;
        part(bench, table, &pod, &client)?;
    }
    Ok(())
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
        let proxied = [load(client, pod, PROXY, 0)?, load(client, pod, PROXY, 1)?];
        let session = Serving::thief(bench, pod)?;
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
    let _session = Serving::thief(bench, pod)?;
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
    let _session = Serving::thief(bench, pod)?;
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

/// The real app is asked for 70 % of what it can, with a mirror and without. All share two cores: client, app, agent, session
/// and local app.
fn mirrored(bench: &Bench, table: &mut Table, pod: &Pod, client: &Pod) -> Result<(), String> {
    let url = format!("http://{}:{}/", pod.ip, APP[0]);
    let (mut rates, mut latencies, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    let mut beside = Vec::new();
    let (mut memory, mut notes) = (0.0_f64, Vec::new());
    for _ in 0..bench.rounds(3) {
        let most = load(client, pod, APP, 0)?.rate;
        let each = (most * BUSY / f64::from(CLIENTS)).floor();
        let (each, all) = (each.to_string(), (most * BUSY * PACED).floor());
        let paced = [
            "--h1",
            "-c",
            &CLIENTS.to_string(),
            "--rps",
            &each,
            "-n",
            &all.to_string(),
        ];
        let bare = h2load(client, &paced, &url)?;
        beside.push({
            let _other = Beside::begin(&paced)?;
            h2load(client, &paced, &url)?.at(0.5) / bare.at(0.5)
        });
        let session = Serving::mirror(bench, pod)?;
        let agent = agent(pod)?;
        let mut spent = Spent::default();
        let before = spent.look("agent", agent)?;
        let loaded = h2load(client, &paced, &url)?;
        let processor = spent.look("agent", agent)? - before;
        let took = all / loaded.rate;
        memory = memory.max(most_memory(agent)?);
        let mirrored = answered()?;
        let dropped = session.dropped()?;
        rates.push(loaded.rate / bare.rate);
        latencies.push(loaded.at(0.5) / bare.at(0.5));
        copies.push(mirrored / all);
        notes = vec![
            format!("the last: {} of at most {} requests/s", number(bare.rate), number(most)),
            format!("{:.2} ms, bare {:.2} ms", loaded.at(0.5), bare.at(0.5)),
            format!(
                "{dropped} connections dropped; the agent took {:.0} % of a core",
                100.0 * processor / took
            ),
            String::new(),
        ];
    }
    let rows = [
        ("mirrored at 70 %, requests / bare", median(rates)),
        ("mirrored at 70 %, median latency / bare", median(latencies)),
        ("mirrored at 70 %, copies / requests", median(copies)),
        ("agent's memory under mirrored load", memory),
    ];
    rows.into_iter()
        .zip(notes)
        .try_for_each(|((name, value), note)| table.judge(name, value, note))?;
    table.report(
        "h2load and the local app beside it, median latency / bare",
        median(beside),
        "x",
        "as many requests by somebody else, and no mirror",
    );
    let session = Serving::mirror(bench, pod)?;
    let rate = load(client, pod, APP, 0)?.rate;
    let copies = answered()? / f64::from(REQUESTS);
    let dropped = session.dropped()?;
    let note = format!(
        "{} requests/s, {dropped} of {CLIENTS} connections dropped",
        number(rate)
    );
    table.report("mirrored at saturation, copies / requests", copies, "x", note);
    Ok(())
}

/// How many requests the local app has answered, once it answers no more.
fn answered() -> Result<f64, String> {
    let mut before = f64::NAN;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let count = ask_local("/count").map_err(|error| format!("the local app: {error}"))?;
        let count: f64 = count.trim().parse().map_err(|_| format!("no number: {count}"))?;
        // Each look is a request as well.
        if count <= before + 1.0 {
            return Ok(count);
        }
        before = count;
    }
}

fn ask_local(path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, APP[0]))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
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
    let (clients, requests) = (CLIENTS.to_string(), REQUESTS.to_string());
    let arguments = [flags, &["-c", &clients, "-n", &requests]].concat();
    h2load(client, &arguments, &format!("http://{}:{}/", pod.ip, ports[version]))
}

fn h2load(client: &Pod, arguments: &[&str], url: &str) -> Result<Loaded, String> {
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

/// The local app and who asks it, in the place of a mirror's session: what that work costs the real app, whoever does it.
struct Beside {
    _app: Running,
    _client: Running,
}

impl Beside {
    fn begin(paced: &[&str]) -> Result<Self, String> {
        let begin = |command: &mut Command| {
            let mut last = behind_all(command);
            last.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = last.spawn();
            child.map(Running).map_err(|error| format!("cannot run chrt: {error}"))
        };
        let app = begin(Command::new(shop()).args(["web", &format!("0.0.0.0:{}", APP[0])]))?;
        let begun = std::time::Instant::now();
        while ask_local("/count").is_err() {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err("waited 30 s for the local app to listen".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let url = format!("http://{}:{}/", Ipv4Addr::LOCALHOST, APP[0]);
        let client = begin(Command::new("h2load").args(paced).arg(url))?;
        Ok(Self {
            _app: app,
            _client: client,
        })
    }
}

/// A session that takes from the app's ports.
struct Serving {
    inpod: Running,
    /// What it says from its claims on.
    said: std::thread::JoinHandle<Vec<String>>,
}

impl Serving {
    /// Steals from both ports what only the bench itself asks for.
    fn thief(bench: &Bench, pod: &Pod) -> Result<Self, String> {
        let shop = shop();
        let script = format!("{shop} http2 0.0.0.0:{} & exec {shop} web 0.0.0.0:{}", APP[1], APP[0]);
        Self::begin(
            command(bench, pod, &["--steal", "--header", HEADER], &script),
            APP.len(),
        )
    }

    /// Behind everybody else: elsewhere it has a machine of its own.
    fn mirror(bench: &Bench, pod: &Pod) -> Result<Self, String> {
        let script = format!("exec {} web 0.0.0.0:{}", shop(), APP[0]);
        let command = command(bench, pod, &[], &script);
        Self::begin(behind_all(&command), 1)
    }

    fn begin(mut command: Command, ports: usize) -> Result<Self, String> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut inpod = Running(child.map_err(|error| format!("cannot run inpod: {error}"))?);
        let mut said = BufReader::new(inpod.0.stderr.take().ok_or("inpod has no stderr")?).lines();
        let mut claimed = 0;
        let mut words = Vec::new();
        while claimed < ports {
            let Some(Ok(line)) = said.next() else {
                return Err(format!(
                    "the session ended before it had its ports:\n{}",
                    words.join("\n")
                ));
            };
            claimed += usize::from(line.contains(r#""event":"claimed""#));
            words.push(line);
        }
        // Nobody may wait for a reader.
        let said = std::thread::spawn(move || said.map_while(Result::ok).collect());
        Ok(Self { inpod, said })
    }

    /// Ends it; how many connections were not mirrored to their ends.
    fn dropped(self) -> Result<f64, String> {
        drop(self.inpod);
        let said = self.said.join().map_err(|_| "nobody has read what inpod said")?;
        let counted = said.iter().find(|line| line.contains(r#""event":"counted""#));
        let counted: Option<Value> = counted.and_then(|line| serde_json::from_str(line).ok());
        let dropped = counted.and_then(|counted| counted["dropped"].as_f64());
        dropped.ok_or_else(|| format!("inpod has not counted:\n{}", said.join("\n")))
    }
}

/// The same command with what nobody else wants of the processors (SCHED_IDLE).
fn behind_all(command: &Command) -> Command {
    let mut last = Command::new("chrt");
    last.args(["--idle", "0"])
        .arg(command.get_program())
        .args(command.get_args());
    last.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    last
}

fn command(bench: &Bench, pod: &Pod, flags: &[&str], script: &str) -> Command {
    bench.server(&format!("pod/{}/container/main", pod.name), flags, script)
}

fn shop() -> String {
    root().join("target/testbed/bin/shop").display().to_string()
}
