//! `inpod dump`: what comes to a target, as it comes.

mod client;
mod print;
mod render;
mod streams;

use std::time::Duration;

use guest::event::Event;
use rules::IncomingRules;
use session::{Watch, watch};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use wire::message::Incoming;
use wire::{Hello, Stream};

use crate::agent::target_to_look_at;
use crate::cli::DumpArgs;
use crate::error::{CliError, Kind};
use crate::exec::{owner, random};
use crate::report::{Report, Style};
use crate::runtime::block_on;
use client::{Client, Sent};
use print::{Lines, Printer};
use render::{End, Form};

/// A request whose body has not come is shown without waiting for it any longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is read of a connection at once.
const READ: usize = 16 << 10;

/// Shows until it is asked to end, or nobody reads any more.
///
/// # Errors
/// When the configuration is wrong, the target cannot be reached, nothing can be seen of it, or it is lost.
pub fn run(arguments: &DumpArgs) -> Result<(), CliError> {
    let report = Report::new(Style::Person { verbose: 0 }).map_err(|error| CliError::new(Kind::Machine, &error))?;
    let ended = block_on(dump(arguments, &report));
    report.finish();
    ended
}

async fn dump(arguments: &DumpArgs, report: &Report) -> Result<(), CliError> {
    let asked_to_end = asked_to_end();
    tokio::pin!(asked_to_end);
    let mut watched = tokio::select! {
        begun = begin(arguments, report) => begun?,
        ended = &mut asked_to_end => return ended,
    };
    let form = Form {
        json: arguments.json,
        bytes: arguments.bytes,
    };
    let mut printer = Printer::start()?;
    let lines = printer.lines();
    let ended = tokio::select! {
        ended = show(&mut watched, form, lines, report) => ended,
        ended = &mut asked_to_end => ended,
        ended = printer.unread() => ended,
    };
    watched.end().await;
    printer.finish().await;
    ended
}

async fn begin(arguments: &DumpArgs, report: &Report) -> Result<Watch, CliError> {
    let input = config::Input::here(arguments.flags())?;
    let resolved = config::load(&input)?;
    let connector = target_to_look_at(&resolved, &arguments.target.place).await?;
    let hello = Hello::new(random()?, random()?, &owner(&input.variables));
    let mut rules: IncomingRules = resolved.plan.incoming;
    if !arguments.ports.is_empty() {
        rules.ports.clone_from(&arguments.ports);
    }
    Ok(watch(&connector, &hello, &rules, |event| report.event(&event)).await?)
}

/// Ctrl-C, or the like: the usual end.
async fn asked_to_end() -> Result<(), CliError> {
    let listen = |kind| signal(kind).map_err(|error| CliError::new(Kind::Machine, &error));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

async fn show(watched: &mut Watch, form: Form, lines: Lines, report: &Report) -> Result<(), CliError> {
    let mut connections = JoinSet::new();
    loop {
        let (incoming, stream) = watched.next(|event: Event| report.event(&event)).await?;
        connections.spawn(connection(incoming, stream, form, lines.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Ends with the connection, or when nothing is printed any more.
async fn connection(incoming: Incoming, mut stream: Stream, form: Form, lines: Lines) {
    let mut client = Client::new(form.bytes);
    let mut shown = render::Shown::new(form, &incoming);
    let mut buffer = vec![0; READ];
    let mut until: Option<Instant> = None;
    let end = loop {
        let mut sent: Vec<Sent> = Vec::new();
        if !client.waits() {
            until = None;
        }
        let read = match client.waits() {
            true => {
                let until = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
                timeout_at(until, stream.read(&mut buffer)).await
            }
            false => Ok(stream.read(&mut buffer).await),
        };
        let end = match read {
            Ok(Ok(0)) => Some(End::Finished),
            Ok(Err(_)) => Some(End::Broken),
            Ok(Ok(count)) => {
                client.feed(&buffer[..count], &mut |part| sent.push(part));
                None
            }
            Err(_) => {
                client.hurry(&mut |part| sent.push(part));
                None
            }
        };
        if end.is_some() {
            client.finish(&mut |part| sent.push(part));
        }
        if lines.print(shown.texts(sent)).await.is_err() {
            return;
        }
        if let Some(end) = end {
            break end;
        }
    };
    let _ = lines.print(shown.end(end)).await;
}
