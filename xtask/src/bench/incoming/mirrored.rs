//! What a mirror costs an app that is busy. All share two cores: client, app, agent, cluster, session and local app. The last
//! two have a machine of their own elsewhere, and get here what nobody else wants (SCHED_IDLE).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::Pod;

use super::super::Bench;
use super::super::goals::{Table, median, number};
use super::super::idle::Spent;
use super::super::run::Running;
use super::h2load::{CLIENTS, REQUESTS, h2load, quickest};
use super::serving::{Serving, session};
use super::{APP, agent, fresh, haproxy, most_memory, shop};

const PORT: u16 = APP[0];
/// The part of its best rate that a busy app is asked for, and for how long, in seconds.
const BUSY: f64 = 0.7;
const PACED: f64 = 5.0;

const ANSWER: &str = "
frontend app
    bind :8080
    http-request return status 200 content-type text/plain string \"an answer of the real app, as short as those of small services\"
";
const PAGE: &str = include_str!("../../../../LICENSE-APACHE");

/// A real app; the local one only counts.
struct App {
    container: Value,
    /// What h2load asks it with.
    flags: &'static [&'static str],
}

/// Has something to do for each request: nginx, one worker, which compresses a page of 11 KB.
fn page() -> App {
    let configuration = format!(
        "daemon off; master_process off; pid /tmp/pid; error_log stderr; events {{}}\n\
         http {{ access_log off; gzip on; gzip_types text/plain; default_type text/plain;\n\
           server {{ listen {PORT}; root /tmp/page; keepalive_requests 1000000000; }} }}\n"
    );
    let script = "mkdir /tmp/page && printf '%s' \"$PAGE\" > /tmp/page/index.html &&
        printf '%s' \"$CONFIG\" > /tmp/cfg && exec nginx -c /tmp/cfg";
    App {
        container: json!({
            "name": "main", "image": "inpod.test/nginx:1", "imagePullPolicy": "Never",
            "command": ["/bin/sh", "-c", script],
            "env": [{"name": "CONFIG", "value": configuration}, {"name": "PAGE", "value": PAGE}],
        }),
        flags: &["--h1", "-H", "Accept-Encoding: gzip"],
    }
}

/// Has nothing to do: the most requests that there can be.
fn answer() -> App {
    App {
        container: haproxy("main", ANSWER),
        flags: &["--h1"],
    }
}

pub(super) fn measure(bench: &Bench, table: &mut Table, client: &Pod) -> Result<(), String> {
    let page = busy(bench, client, &page())?;
    for (name, (value, note)) in BUSY_ROWS.into_iter().zip(page.rows) {
        table.judge(name, value, note)?;
    }
    let answer = busy(bench, client, &answer())?;
    let memory = page.memory.max(answer.memory);
    table.judge("agent's memory under mirrored load", memory, "the most under both apps")?;
    for (name, (value, note)) in FREE_ROWS.into_iter().zip(page.free) {
        table.report(name, value, "x", note);
    }
    let names = BUSY_ROWS.into_iter().chain(FREE_ROWS);
    for (name, (value, note)) in names.zip(answer.rows.into_iter().chain(answer.free)) {
        table.report(format!("app without work, {name}"), value, "x", note);
    }
    Ok(())
}

const BUSY_ROWS: [&str; 3] = [
    "mirrored at 70 %, requests / bare",
    "mirrored at 70 %, median latency / bare",
    "mirrored at 70 %, copies / requests",
];
const FREE_ROWS: [&str; 2] = [
    "h2load and the local app beside it, median latency / bare",
    "mirrored at saturation, copies / requests",
];

/// What was measured of one app, each with what it was made of.
struct Busy {
    /// As [`BUSY_ROWS`] are.
    rows: [(f64, String); 3],
    /// As [`FREE_ROWS`] are.
    free: [(f64, String); 2],
    /// The agent's, in MB.
    memory: f64,
}

/// The app is asked for 70 % of what it can: bare, with the local app asked as often by somebody else,
/// and with a mirror.
fn busy(bench: &Bench, client: &Pod, app: &App) -> Result<Busy, String> {
    let pod = fresh(bench, &json!([app.container]))?;
    let url = format!("http://{}:{PORT}/", pod.ip);
    let mirror = || Serving::begin(behind_all(&session(bench, &pod, &[], &local())), 1);
    let (mut rates, mut latencies, mut copies, mut beside) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut memory, mut notes) = (0.0_f64, [const { String::new() }; 3]);
    for _ in 0..bench.rounds(3) {
        let most = quickest(client, app.flags, &url)?.rate;
        let each = (most * BUSY / f64::from(CLIENTS)).floor().to_string();
        let all = (most * BUSY * PACED).floor();
        let (clients, requests) = (CLIENTS.to_string(), all.to_string());
        let paced = [app.flags, &["-c", &clients, "--rps", &each, "-n", &requests]].concat();
        let bare = h2load(client, &paced, &url)?;
        beside.push({
            let _other = Beside::begin(&paced)?;
            h2load(client, &paced, &url)?.at(0.5) / bare.at(0.5)
        });
        let session = mirror()?;
        let agent = agent(&pod)?;
        let mut spent = Spent::default();
        let before = spent.look("agent", agent)?;
        let loaded = h2load(client, &paced, &url)?;
        let processor = (spent.look("agent", agent)? - before) * loaded.rate / all;
        memory = memory.max(most_memory(agent)?);
        copies.push(answered()? / all);
        let dropped = session.dropped()?;
        rates.push(loaded.rate / bare.rate);
        latencies.push(loaded.at(0.5) / bare.at(0.5));
        notes = [
            format!("the last: {} of at most {} requests/s", number(bare.rate), number(most)),
            format!("{:.2} ms, bare {:.2} ms", loaded.at(0.5), bare.at(0.5)),
            format!(
                "{dropped} connections dropped; the agent took {:.0} % of a core",
                100.0 * processor
            ),
        ];
    }
    let session = mirror()?;
    let rate = quickest(client, app.flags, &url)?.rate;
    let most = answered()? / f64::from(REQUESTS);
    let dropped = session.dropped()?;
    let other = "as many requests by somebody else, and no mirror".to_owned();
    let saturated = format!(
        "{} requests/s, {dropped} of {CLIENTS} connections dropped",
        number(rate)
    );
    let [rate_note, latency_note, copies_note] = notes;
    Ok(Busy {
        rows: [
            (median(rates), rate_note),
            (median(latencies), latency_note),
            (median(copies), copies_note),
        ],
        free: [(median(beside), other), (most, saturated)],
        memory,
    })
}

/// What a shell runs here.
fn local() -> String {
    format!("exec {} web 0.0.0.0:{PORT}", shop())
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
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
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
        let app = begin(Command::new("sh").args(["-c", &local()]))?;
        let begun = Instant::now();
        while ask_local("/count").is_err() {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err("waited 30 s for the local app to listen".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let url = format!("http://{}:{PORT}/", Ipv4Addr::LOCALHOST);
        let client = begin(Command::new("h2load").args(paced).arg(url))?;
        Ok(Self {
            _app: app,
            _client: client,
        })
    }
}

/// The same command with what nobody else wants of the processors.
fn behind_all(command: &Command) -> Command {
    let mut last = Command::new("chrt");
    last.args(["--idle", "0"])
        .arg(command.get_program())
        .args(command.get_args());
    last.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    last
}
