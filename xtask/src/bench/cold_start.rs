//! From the command to the app's main.

use std::collections::BTreeMap;
use std::time::Duration;

use testbed::FreshPod;

use super::Bench;
use super::goals::{Table, median};
use super::run::{Said, listen, now};

/// Kubernetes is busy with a pod for a while after it has called it ready.
const REST: Duration = Duration::from_secs(10);

pub(super) fn measure(bench: &Bench, table: &mut Table) -> Result<(), String> {
    let admin = bench.testbed()?.admin();
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds(7) {
        let pod = admin
            .fresh_pod(&FreshPod::default())
            .map_err(|error| error.to_string())?;
        std::thread::sleep(REST);
        let target = format!("pod/{}", pod.name);
        cold.push(once(bench, &target)?);
        // What the first session left is let come to rest.
        std::thread::sleep(REST / 5);
        warm.push(once(bench, &target)?);
    }
    for (name, runs) in [("start, no agent yet", cold), ("start, agent there", warm)] {
        let (spread, note) = (spread(&runs), phases(&runs));
        let middle = median(runs.iter().map(|(took, _)| *took).collect());
        table.judge(name, middle, format!("{spread}; {note}"))?;
    }
    Ok(())
}

fn once(bench: &Bench, target: &str) -> Result<(f64, Said), String> {
    let begun = now();
    let said = listen(&mut bench.session(target, &["clock"]))?;
    Ok((said.number("main")? - begun, said))
}

fn spread(runs: &[(f64, Said)]) -> String {
    let times = runs.iter().map(|(took, _)| *took);
    let (least, most) = times.fold((f64::INFINITY, 0.0_f64), |(least, most), took| {
        (least.min(took), most.max(took))
    });
    format!("{} runs, {least:.2} to {most:.2} s", runs.len())
}

/// The median of each phase, and of what no phase covers.
fn phases(runs: &[(f64, Said)]) -> String {
    let mut order: Vec<&str> = Vec::new();
    let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (took, said) in runs {
        let mut rest = took * 1e3;
        for (name, milliseconds) in &said.phases {
            rest -= milliseconds;
            all.entry(name).or_default().push(*milliseconds);
            if !order.contains(&name.as_str()) {
                order.push(name);
            }
        }
        all.entry("the rest").or_default().push(rest);
    }
    order.push("the rest");
    let shown = order
        .iter()
        .map(|name| format!("{name} {:.0}", median(all.get(name).cloned().unwrap_or_default())));
    format!("ms: {}", shown.collect::<Vec<_>>().join(", "))
}
