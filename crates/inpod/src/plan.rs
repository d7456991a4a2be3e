//! `inpod plan`: which paths would be the pod's, and by which rule, before anything starts.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rules::{FileMode, FileRules, Place, Plan, Verdict, normal};
use serde_json::json;
use target::{Connector, TargetError};

use crate::agent::agent_settings;
use crate::cli::PlanArgs;
use crate::error::CliError;
use crate::runtime::block_on;
use crate::text::plain;

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    path: PathBuf,
    verdict: Verdict,
    /// The app may write there, if the target's user may.
    writable: bool,
    /// What the app writes there stays on this machine.
    kept_here: bool,
    /// Where the pod has it, when it is the pod's under another name.
    in_pod: Option<PathBuf>,
}

/// What is known of the target without touching it.
#[derive(Debug, Default)]
struct Known {
    target: Option<String>,
    /// What is said beside the table.
    notes: Vec<String>,
}

/// Prints one line for each path, or for each border between the pod's and this machine's paths where none is given.
///
/// # Errors
/// When the configuration is wrong, or the target cannot be found.
pub fn run(arguments: &PlanArgs) -> Result<(), CliError> {
    let input = config::Input::here(arguments.target.flags())?;
    let resolved = config::load(&input)?;
    let mut plan = with_kept_paths(&resolved.plan, &input, None, []);
    let known = target(arguments, &resolved, &mut plan.files)?;
    let rows = if arguments.paths.is_empty() {
        borders(&plan.files)
    } else {
        let whole = |path: &PathBuf| normal(&input.working_directory.join(path));
        arguments
            .paths
            .iter()
            .map(|path| decided(&plan.files, &whole(path)))
            .collect()
    };
    let text = if arguments.json {
        json(&plan.files, &known, &rows)
    } else {
        table(&rows)
    };
    crate::ls::written(io::stdout().lock().write_all(text.as_bytes()))?;
    let said: String = said(&plan.files, &known, arguments.paths.is_empty()).concat();
    crate::ls::written(io::stderr().lock().write_all(said.as_bytes()))
}

/// The working directory, the user's home and the program's own directory stay this machine's; `own`: what is the
/// session's.
pub(crate) fn with_kept_paths(
    plan: &Plan,
    input: &config::Input,
    program: Option<&Path>,
    own: impl IntoIterator<Item = PathBuf>,
) -> Plan {
    let mut plan = plan.clone();
    let program = program.filter(|program| program.is_absolute());
    let program = program.and_then(Path::parent).map(Path::to_owned);
    let kept = [Some(input.working_directory.clone()), input.home.clone(), program];
    // A program that is started in `/` does not make everything local.
    plan.files.kept.extend(
        kept.into_iter()
            .flatten()
            .filter(|path| path != Path::new("/"))
            .chain(own),
    );
    plan
}

/// Adds the pod's volumes, as its spec has them.
fn target(arguments: &PlanArgs, resolved: &config::Resolved, files: &mut FileRules) -> Result<Known, CliError> {
    let Some(target) = &resolved.target else {
        let note = "no target is given (-t), so the volumes of a pod are not in this".to_owned();
        return Ok(Known {
            notes: vec![note],
            ..Known::default()
        });
    };
    let spec = target.parse().map_err(TargetError::from)?;
    let options = arguments.target.place.kube(resolved);
    let connector = block_on(Connector::resolve(&spec, &options, agent_settings(resolved)?))?;
    let mounts = connector.pod_volume_mounts();
    files.volumes = mounts.into_iter().map(|mount| PathBuf::from(mount.path)).collect();
    let notes = match connector.describe() {
        target::Description::Pod { .. } => Vec::new(),
        target::Description::Process { .. } => {
            vec!["the mounts of a process are not known before a session, so they are not in this".to_owned()]
        }
    };
    Ok(Known {
        target: Some(connector.describe().to_string()),
        notes,
    })
}

fn decided(files: &FileRules, path: &Path) -> Row {
    let verdict = files.decide(path);
    if verdict.place == Place::Local {
        // A link of this machine may lead to the pod.
        let led = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let there = files.decide(&led);
        if there.place != Place::Local {
            let verdict = Verdict {
                place: there.place,
                why: format!("it leads to {}: {}", led.display(), there.why).into(),
            };
            return Row {
                writable: files.is_writable(&led),
                kept_here: files.is_kept_here(&led),
                ..row(files, path, verdict)
            };
        }
    }
    row(files, path, verdict)
}

fn row(files: &FileRules, path: &Path, verdict: Verdict) -> Row {
    let elsewhere = files.in_pod(path);
    let in_pod = (verdict.place == Place::Remote && elsewhere != path).then_some(elsewhere);
    Row {
        path: path.to_owned(),
        verdict,
        writable: files.is_writable(path),
        kept_here: files.is_kept_here(path),
        in_pod,
    }
}

/// The root, what no rule names, the pod's volumes, and each named path below which something else holds than around it.
fn borders(files: &FileRules) -> Vec<Row> {
    let mut named: Vec<PathBuf> = files.named_paths().collect();
    named.sort();
    named.dedup();
    let root = Path::new("/");
    // No rule names such a path.
    let other = Row {
        path: PathBuf::from("/..."),
        ..row(files, root, files.decide(Path::new("/\u{1}")))
    };
    let mut rows = vec![row(files, root, files.decide(root)), other];
    for path in named {
        let row = row(files, &path, files.decide(&path));
        let around = rows[2..].iter().rev().find(|row| path.starts_with(&row.path));
        let around = around.unwrap_or(&rows[1]);
        let other = |row: &Row| (row.verdict.place, row.writable, row.kept_here);
        if other(around) != other(&row) || row.in_pod.is_some() || files.volumes.contains(&path) {
            rows.push(row);
        }
    }
    rows
}

const HEAD: [&str; 3] = ["PATH", "PLACE", "WHY"];

fn place(row: &Row) -> String {
    let mut place = name(row.verdict.place).to_owned();
    if row.writable {
        place += ", writable";
    }
    if row.kept_here {
        place += ", changes kept here";
    }
    if let Some(elsewhere) = &row.in_pod {
        place += &format!(" {}", elsewhere.display());
    }
    place
}

fn name(place: Place) -> &'static str {
    match place {
        Place::Local => "local",
        Place::Remote => "remote",
        Place::Hidden => "hidden",
    }
}

fn table(rows: &[Row]) -> String {
    let cells = rows.iter().map(|row| {
        let cell = |text: String| plain(&text).replace('\n', " ");
        [
            cell(row.path.display().to_string()),
            cell(place(row)),
            cell(row.verdict.why.to_string()),
        ]
    });
    let cells: Vec<[String; 3]> = std::iter::once(HEAD.map(str::to_owned)).chain(cells).collect();
    crate::text::columns(&cells)
}

/// What the table cannot say.
fn said(files: &FileRules, known: &Known, whole: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(target) = &known.target {
        lines.push(format!("target: {target}"));
    }
    if whole {
        let mode = match files.mode {
            FileMode::Local => "files.mode is local: all is this machine's but what files.remote and files.write list",
            FileMode::Read => {
                "files.mode is read: the pod's volumes and every path that is neither the system's nor a developer's are \
                 the pod's, to be read"
            }
            FileMode::Write => {
                "files.mode is write: the pod's volumes and every path that is neither the system's nor a developer's are \
                 the pod's, to be read and written"
            }
            FileMode::WriteLocal => {
                "files.mode is write-local: the pod's volumes and every path that is neither the system's nor a developer's \
                 are the pod's, and what the program changes there is kept on this machine"
            }
        };
        lines.push(mode.to_owned());
        for (list, key) in [
            (&files.hidden, "hidden"),
            (&files.local, "local"),
            (&files.write, "write"),
            (&files.remote, "remote"),
        ] {
            let others = list.iter().filter(|pattern| pattern.prefix().is_none());
            lines.extend(
                others.map(|other| format!("files.{key} also lists {}, wherever that matches", other.source())),
            );
        }
    }
    lines.extend(known.notes.iter().cloned());
    lines.iter().map(|line| format!("inpod: {}\n", plain(line))).collect()
}

/// One object: target, volumes, paths.
fn json(files: &FileRules, known: &Known, rows: &[Row]) -> String {
    let text = |path: &Path| path.display().to_string();
    let row = |row: &Row| {
        json!({
            "path": text(&row.path), "place": name(row.verdict.place), "writable": row.writable, "kept_here": row.kept_here, "why": &*row.verdict.why, "in_pod": row.in_pod.as_deref().map(text),
        })
    };
    let object = json!({
        "target": known.target,
        "volumes": files.volumes.iter().map(|path| text(path)).collect::<Vec<_>>(),
        "paths": rows.iter().map(row).collect::<Vec<_>>(),
        "notes": known.notes,
    });
    format!("{object:#}\n")
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
