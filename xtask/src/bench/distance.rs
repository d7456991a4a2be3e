//! With 40 ms added to every round trip to the API server.

use std::time::Duration;

use super::Bench;
use super::goals::{Table, median};
use super::run::listen;

const ADDED: Duration = Duration::from_millis(40);

pub(super) fn measure(bench: &Bench, table: &mut Table) -> Result<(), String> {
    let pod = bench.echo()?;
    let target = format!("pod/{}/container/tcp", pod.name);
    let proxy = testbed::delay_proxy(ADDED).map_err(|error| error.to_string())?;
    let (open, refused) = (format!("{}:7000", pod.ip), format!("{}:9", pod.ip));
    let session = |words: &[&str]| listen(bench.session(&target, words).env("KUBECONFIG", proxy.kubeconfig()));
    let (mut one, mut together, mut wrong) = (Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..bench.rounds(3) {
        one.push(session(&["connect", &open, "9"])?.number("connect_us")? / 1e3);
        let said = session(&["connects", &open, &refused, "50"])?;
        together.push(said.number("together_us")? / 1e3);
        wrong += said.number("wrong")?;
    }
    let echo = session(&["echo", &open, "50"])?.number("round_trip_us")? / 1e3;
    table.judge(
        "connect at 40 ms",
        median(one),
        format!("a byte there and back takes {echo:.1} ms"),
    )?;
    table.judge(
        "50 connects at 40 ms",
        median(together),
        "not blocking, half of them refused",
    )?;
    table.judge("wrong results of 50 connects", wrong, "")
}
