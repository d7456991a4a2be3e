//! `inpod sessions`: who holds what at a target, and the end of one of them.

use std::io::{self, Write};

use serde_json::{Value, json};
use session::{Visit, transport, visit};
use wire::message::{ClaimEntry, ClaimMode, SessionEntry};

use crate::agent::target_to_look_at;
use crate::cli::{SessionsAction, SessionsArgs, StopArgs, TargetArgs};
use crate::error::{CliError, Kind};
use crate::exec::{owner, random};
use crate::ls::written;
use crate::runtime::block_on;
use crate::text::{columns, plain};

/// Digits of a session's name that are shown.
const SHOWN: usize = 8;

/// Lists on stdout, or ends one; what is missing is told on stderr.
///
/// # Errors
/// When the configuration is wrong, the target cannot be asked, or there is no such session.
pub fn run(arguments: &SessionsArgs) -> Result<(), CliError> {
    block_on(async {
        match &arguments.action {
            None => list(arguments).await,
            Some(SessionsAction::Stop(stop)) => end(stop).await,
        }
    })
}

async fn list(arguments: &SessionsArgs) -> Result<(), CliError> {
    let (target, visit) = reach(&arguments.target).await?;
    let sessions = visit.sessions().await?;
    let text = match arguments.json {
        true => json(&target, &visit, &sessions),
        false => table(&sessions),
    };
    written(io::stdout().lock().write_all(text.as_bytes()))?;
    let notes = notes(&target, visit.agents(), &visit.others, &sessions);
    written(io::stderr().lock().write_all(notes.as_bytes()))
}

async fn end(arguments: &StopArgs) -> Result<(), CliError> {
    let (target, visit) = reach(&arguments.target).await?;
    let sessions = visit.sessions().await?;
    let session = find(&sessions, &arguments.session, &target)?;
    let said = match visit.stop(session.session).await? {
        true => "stopped",
        false => "had ended already:",
    };
    let text = format!("{said} {} ({})\n", short(session), cell(&session.owner));
    written(io::stdout().lock().write_all(text.as_bytes()))
}

/// The target in words, and a link to each agent there.
async fn reach(arguments: &TargetArgs) -> Result<(String, Visit), CliError> {
    let input = config::Input::here(arguments.flags())?;
    let resolved = config::load(&input)?;
    let connector = target_to_look_at(&resolved, &arguments.place).await?;
    let visit = visit(&connector, random()?, &owner(&input.variables)).await?;
    Ok((connector.describe().to_string(), visit))
}

/// The one whose name begins so.
fn find<'a>(sessions: &'a [SessionEntry], wanted: &str, target: &str) -> Result<&'a SessionEntry, CliError> {
    let wanted = wanted.to_lowercase();
    let mut found = sessions
        .iter()
        .filter(|session| !wanted.is_empty() && name(session).starts_with(&wanted));
    let (message, name): (_, fn(&SessionEntry) -> String) = match (found.next(), found.next()) {
        (Some(session), None) => return Ok(session),
        (None, _) => (
            format!("there is no session `{wanted}` at {target}{}", nobody(sessions)),
            short,
        ),
        (Some(_), Some(_)) => (format!("several sessions at {target} begin with `{wanted}`"), name),
    };
    let known: Vec<String> = sessions
        .iter()
        .map(|session| format!("{} ({})", name(session), session.owner))
        .collect();
    let hint = (!known.is_empty()).then(|| format!("one of those there: {}", known.join(", ")));
    Err(CliError {
        kind: Kind::Usage,
        message,
        causes: Vec::new(),
        hints: hint.into_iter().collect(),
    })
}

fn nobody(sessions: &[SessionEntry]) -> &'static str {
    if sessions.is_empty() {
        ": nobody holds anything there"
    } else {
        ""
    }
}

const HEAD: [&str; 11] = [
    "SESSION",
    "OWNER (SELF-NAMED)",
    "SINCE",
    "PORT",
    "MODE",
    "SEEN",
    "MATCHED",
    "PASSED",
    "MIRRORED",
    "DROPPED",
    "FILTER",
];

/// A line for each claim, and one for a session without any.
fn table(sessions: &[SessionEntry]) -> String {
    if sessions.is_empty() {
        return String::new();
    }
    let mut rows = vec![HEAD.map(str::to_owned)];
    for session in sessions {
        let begin = || [short(session), cell(&session.owner), since(session.age_ms)];
        let claims = session.claims.iter().map(claim_cells);
        let none = session
            .claims
            .is_empty()
            .then(|| std::array::from_fn(|_| "-".to_owned()));
        for rest in claims.chain(none) {
            let mut cells = begin().into_iter().chain(rest);
            rows.push(std::array::from_fn(|_| cells.next().unwrap_or_default()));
        }
    }
    columns(&rows)
}

fn claim_cells(claim: &ClaimEntry) -> [String; 8] {
    let counts = &claim.counts;
    let of = |applies: bool, count: u64| match applies {
        true => count.to_string(),
        false => "-".to_owned(),
    };
    let (datagrams, steals) = (claim.mode.is_datagrams(), claim.mode.steals());
    [
        format!("{}{}", claim.port, transport(claim.mode)),
        mode(claim.mode).to_owned(),
        counts.seen.to_string(),
        of(steals, counts.matched),
        of(steals && !datagrams, counts.passed),
        of(!steals, counts.mirrored),
        of(!steals || datagrams, counts.dropped),
        claim.filter.as_deref().map_or_else(|| "all".to_owned(), cell),
    ]
}

/// What the table cannot say.
fn notes(target: &str, agents: usize, others: &[String], sessions: &[SessionEntry]) -> String {
    let mut lines = Vec::new();
    if !sessions.is_empty() {
        lines.push(format!(
            "target: {target}; owners are names that their clients gave themselves"
        ));
    } else if agents == 0 && others.is_empty() {
        lines.push(format!("nobody holds anything at {target}: no agent runs there"));
    } else if agents == 0 {
        lines.push(format!("nobody who is known here holds anything at {target}"));
    } else {
        lines.push(format!("nobody holds anything at {target}: its agent has no session"));
    }
    if !others.is_empty() {
        lines.push(format!(
            "other agents run there (of another build of inpod, or for a container that has restarted since), whose sessions \
             are not listed: {}",
            others.join(", ")
        ));
    }
    lines.iter().map(|line| format!("inpod: {}\n", cell(line))).collect()
}

/// One object: target, agents, sessions.
fn json(target: &str, visit: &Visit, sessions: &[SessionEntry]) -> String {
    let object = json!({
        "target": target,
        "agents": visit.agents(),
        "other_agents": visit.others,
        "sessions": sessions.iter().map(session_json).collect::<Vec<_>>(),
    });
    format!("{object:#}\n")
}

fn session_json(session: &SessionEntry) -> Value {
    let claims = session.claims.iter().map(|claim| {
        let counts = &claim.counts;
        json!({
            "port": claim.port, "transport": transport(claim.mode), "mode": mode(claim.mode), "filter": claim.filter,
            "seen": counts.seen, "matched": counts.matched, "passed": counts.passed, "mirrored": counts.mirrored, "dropped": counts.dropped,
        })
    });
    json!({
        "session": name(session),
        "owner_self_named": session.owner,
        "age_milliseconds": session.age_ms,
        "claims": claims.collect::<Vec<_>>(),
    })
}

fn mode(mode: ClaimMode) -> &'static str {
    if mode.steals() { "steal" } else { "mirror" }
}

fn name(session: &SessionEntry) -> String {
    session.session.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn short(session: &SessionEntry) -> String {
    name(session)[..SHOWN].to_owned()
}

/// Text of others in one line.
pub(crate) fn cell(text: &str) -> String {
    plain(text).replace('\n', " ")
}

fn since(age_ms: u64) -> String {
    let seconds = age_ms / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
