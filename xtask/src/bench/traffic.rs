//! Through an outgoing connection, against a bare exec in the same pod; `kubectl` for the reader.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::Bench;
use super::goals::{Table, median, number};
use super::run::listen;

/// Bytes of one transfer: about two seconds.
const BYTES: &str = "200000000";
const ROUND_TRIPS: &str = "2000";
/// What has a shell among the pod's containers.
const CONTAINER: &str = "tcp";

/// The three services of `deploy/echo`, what the guest says of each, and which is the direct way to the same.
const KINDS: [Kind; 3] = [
    Kind {
        what: "down",
        port: 7001,
        amount: BYTES,
        number: "down_mb_s",
        unit: "MB/s",
        name: "down / bare exec",
        exec: &["dd", "if=/dev/zero", "bs=256k"],
    },
    Kind {
        what: "up",
        port: 7002,
        amount: BYTES,
        number: "up_mb_s",
        unit: "MB/s",
        name: "up / bare exec",
        exec: &["sh", "-c", "cat >/dev/null; echo read"],
    },
    Kind {
        what: "echo",
        port: 7000,
        amount: ROUND_TRIPS,
        number: "round_trip_us",
        unit: "us",
        name: "round trip / bare exec",
        exec: &["cat"],
    },
];

struct Kind {
    what: &'static str,
    port: u16,
    amount: &'static str,
    number: &'static str,
    unit: &'static str,
    name: &'static str,
    exec: &'static [&'static str],
}

pub(super) fn measure(bench: &Bench, table: &mut Table) -> Result<(), String> {
    let pod = bench.echo()?;
    let target = format!("pod/{}/container/{CONTAINER}", pod.name);
    for kind in &KINDS {
        let address = format!("{}:{}", pod.ip, kind.port);
        let (mut bare, mut session, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.rounds(7) {
            // One after the other, so that both meet the same machine; the first session leaves an agent.
            let direct = listen(&mut bench.bare(&pod, &[CONTAINER, kind.what, kind.amount]))?.number(kind.number)?;
            let words = [kind.what, &address, kind.amount];
            let through = listen(&mut bench.session(&target, &words))?.number(kind.number)?;
            bare.push(direct);
            session.push(through);
            ratios.push(through / direct);
        }
        let shown = |values| number(median(values));
        let note = format!(
            "medians: session {} {unit}, bare kube-rs exec {} {unit}",
            shown(session),
            shown(bare),
            unit = kind.unit
        );
        table.judge(kind.name, median(ratios), note)?;
    }
    for kind in &KINDS {
        let exec = exec(bench, &pod.name, kind)?;
        table.report(format!("kubectl exec, {}", kind.what), exec, kind.unit, "");
    }
    let forward = Forward::start(bench, &pod.name)?;
    // It carries no half-close, which is how the sink learns that everything has come.
    let carried = KINDS.iter().zip(&forward.ports).filter(|(kind, _)| kind.what != "up");
    for (kind, port) in carried {
        let address = format!("127.0.0.1:{port}");
        let mut said = Vec::new();
        for _ in 0..bench.rounds(3) {
            said.push(listen(&mut bench.guest(&[kind.what, &address, kind.amount]))?.number(kind.number)?);
        }
        table.report(
            format!("kubectl port-forward, {}", kind.what),
            median(said),
            kind.unit,
            "",
        );
    }
    Ok(())
}

fn exec(bench: &Bench, pod: &str, kind: &Kind) -> Result<f64, String> {
    let words = [&["exec", "-i", pod, "--container", CONTAINER, "--"], kind.exec].concat();
    let kubectl = bench.testbed()?.user().command(&words);
    let mut said = Vec::new();
    for _ in 0..bench.rounds(3) {
        let mut piped = bench.guest(&[&format!("pipe-{}", kind.what), kind.amount]);
        piped.arg(kubectl.get_program()).args(kubectl.get_args());
        for (name, value) in kubectl.get_envs() {
            piped.env(name, value.unwrap_or_default());
        }
        said.push(listen(&mut piped)?.number(kind.number)?);
    }
    Ok(median(said))
}

/// `kubectl port-forward` to the three services, until it is dropped.
struct Forward {
    kubectl: Child,
    /// On 127.0.0.1, in the order of [`KINDS`].
    ports: Vec<u16>,
}

impl Forward {
    fn start(bench: &Bench, pod: &str) -> Result<Self, String> {
        let wanted: Vec<String> = KINDS.iter().map(|kind| format!(":{}", kind.port)).collect();
        let mut words = vec!["port-forward", "--address", "127.0.0.1", pod];
        words.extend(wanted.iter().map(String::as_str));
        // The plain user has no right to pods/portforward, which no session needs.
        let mut command: Command = bench.testbed()?.admin().kubectl.command(&words);
        let mut kubectl = command
            .stdout(Stdio::piped())
            // It complains of each connection that the client ends.
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot run kubectl port-forward: {error}"))?;
        let lines = kubectl.stdout.take().map(BufReader::new);
        let mut forward = Self {
            kubectl,
            ports: Vec::new(),
        };
        let mut lines = lines.into_iter().flat_map(BufRead::lines);
        while forward.ports.len() < KINDS.len() {
            let line = lines.next().and_then(Result::ok).ok_or("kubectl port-forward ended")?;
            // Forwarding from 127.0.0.1:43210 -> 7001
            let port = line
                .split(" -> ")
                .next()
                .and_then(|from| from.rsplit(':').next()?.parse().ok());
            forward
                .ports
                .push(port.ok_or_else(|| format!("kubectl port-forward said: {line}"))?);
        }
        // It says a line for each connection.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(forward)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
