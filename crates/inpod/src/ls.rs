//! `inpod ls`: what can be a target.

use std::io::{self, Write};

use serde_json::json;
use target::{Listed, Listing};

use crate::cli::LsArgs;
use crate::error::{CliError, Kind};
use crate::runtime::block_on;
use crate::text::plain;

/// Lists one namespace on stdout; what is missing is told on stderr.
///
/// # Errors
/// When the configuration is wrong, or the cluster does not answer.
pub fn run(arguments: &LsArgs) -> Result<(), CliError> {
    let input = config::Input::here(arguments.place.flags())?;
    let resolved = config::load(&input)?;
    let listing = block_on(target::list(&arguments.place.kube(&resolved)))?;
    let text = if arguments.json {
        json(&listing)
    } else {
        table(&listing)
    };
    written(io::stdout().lock().write_all(text.as_bytes()))?;
    written(io::stderr().lock().write_all(notes(&listing).as_bytes()))
}

/// A reader that has seen enough (`inpod ls | head`) is no failure.
pub(crate) fn written(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::new(Kind::Machine, &error)),
        _ => Ok(()),
    }
}

const HEAD: [&str; 4] = ["TARGET", "READY", "STATE", "CONTAINERS"];

/// Aligned columns; the container that is taken when none is named comes first.
#[must_use]
pub fn table(listing: &Listing) -> String {
    if listing.targets.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = std::iter::once(HEAD.map(str::to_owned))
        .chain(listing.targets.iter().map(row))
        .collect();
    crate::text::columns(&rows)
}

fn row(listed: &Listed) -> [String; 4] {
    let (ready, wanted) = listed.ready;
    let containers: Vec<_> = listed
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    let cell = |text: &str| plain(text).replace('\n', " ");
    [
        cell(&listed.target),
        format!("{ready}/{wanted}"),
        cell(&listed.state),
        cell(&containers.join(", ")),
    ]
}

/// What the table cannot say.
#[must_use]
pub fn notes(listing: &Listing) -> String {
    let namespace = plain(&listing.namespace);
    let mut notes = String::new();
    if listing.targets.is_empty() {
        notes.push_str(&format!("inpod: nothing in namespace {namespace} can be a target\n"));
    }
    for (kind, reason) in &listing.missing {
        notes.push_str(&format!(
            "inpod: {kind} are missing: {}\n",
            plain(reason).replace('\n', " ")
        ));
    }
    notes
}

/// One object: context, namespace, targets, missing.
#[must_use]
pub fn json(listing: &Listing) -> String {
    let target = |listed: &Listed| {
        let containers = listed.containers.iter();
        let containers: Vec<_> = containers
            .map(|container| json!({"name": container.name, "image": container.image}))
            .collect();
        let (ready, wanted) = listed.ready;
        json!({
            "target": listed.target, "ready": ready, "wanted": wanted, "state": listed.state, "containers": containers,
        })
    };
    let missing = listing
        .missing
        .iter()
        .map(|(kind, reason)| json!({"kind": kind, "reason": reason}));
    let object = json!({
        "context": listing.context,
        "namespace": listing.namespace,
        "targets": listing.targets.iter().map(target).collect::<Vec<_>>(),
        "missing": missing.collect::<Vec<_>>(),
    });
    format!("{object:#}\n")
}

#[cfg(test)]
#[path = "ls_tests.rs"]
mod tests;
