//! What a session says while it runs: typed, on one bus, to the terminal, to `--json`, later to a dashboard.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::protocol::Transport;

/// One thing that happened. Append-only names: scripts read the JSON form, `{"event": "claimed", "port": 8080, ...}`, which
/// the terminal's side makes (an internally tagged enum could not pass through postcard).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A phase of the start began or ended.
    Phase { name: String, milliseconds: Option<u64> },
    /// The app is about to start.
    Started { target: String, summary: String },
    /// A port of the pod is now mirrored or stolen.
    Claimed {
        port: u16,
        transport: Transport,
        mode: String,
        older_connections: u32,
    },
    /// A claim is not in force, and why.
    ClaimRefused {
        port: u16,
        transport: Transport,
        reason: String,
    },
    /// The app's port had to be another one on this machine.
    PortMoved { asked: u16, actual: SocketAddr },
    /// A process of the app's tree and how it is intercepted.
    Process { pid: u32, executable: String, mode: String },
    /// A program that cannot be served, and why.
    ProgramRefused {
        pid: u32,
        executable: String,
        reason: String,
    },
    /// One decision, for `-vv`.
    Decision { what: String, place: String, why: String },
    /// Something a person should know.
    Warning { message: String },
    /// The link or the agent is lost.
    Lost { reason: String },
    /// Changes of the pod's files that were kept on this machine.
    Kept {
        directory: String,
        changed: u64,
        removed: u64,
    },
    /// The app ended with this status (128+n for a signal).
    Exited { status: i32 },
    /// Someone else has ended the session; what they call themselves.
    Stopped { by: String },
    /// Of the connections that were open before a claim: so many were closed since, because they were idle.
    Reconnected { port: u16, closed: u32, left: u32 },
    /// What came to a port while it was held, at the session's end.
    Counted {
        port: u16,
        transport: Transport,
        mode: String,
        seen: u64,
        matched: u64,
        passed: u64,
        mirrored: u64,
        dropped: u64,
        /// Mirrored requests that did not reach the app whole.
        lost: u64,
    },
    /// What became of connections that tried whether a port's traffic reaches the app: to the pod's own address, or to that of a
    /// Service. Without an address nothing could be tried.
    Checked {
        port: u16,
        service: Option<String>,
        address: Option<SocketAddr>,
        reached: bool,
        message: String,
    },
    /// A phase of the start lasts: what is waited for, since when, and in bytes how far it is, where that is known.
    Waiting {
        name: String,
        what: String,
        milliseconds: u64,
        sent: Option<u64>,
        of: Option<u64>,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phase {
                name,
                milliseconds: Some(took),
            } => write!(out, "{name} ({took} ms)"),
            Self::Phase {
                name,
                milliseconds: None,
            } => write!(out, "{name} ..."),
            Self::Waiting {
                what,
                milliseconds,
                sent,
                of,
                ..
            } => {
                let seconds = milliseconds / 1000;
                match sent.zip(*of) {
                    Some((sent, of)) => write!(out, "{what}: {} of {} kB ({seconds} s)", sent / 1000, of / 1000),
                    None => write!(out, "{what} ({seconds} s)"),
                }
            }
            Self::Started { target, summary } => write!(out, "{target}: {summary}"),
            Self::Claimed {
                port,
                transport,
                mode,
                older_connections: 0,
            } => write!(out, "port {port}{transport}: {mode}"),
            Self::Claimed {
                port,
                transport,
                mode,
                older_connections,
            } => write!(
                out,
                "port {port}{transport}: {mode}; {older_connections} connections that were open before stay with the real app until they close"
            ),
            Self::ClaimRefused {
                port,
                transport,
                reason,
            } => write!(out, "port {port}{transport} receives nothing: {reason}"),
            Self::PortMoved { asked, actual } => {
                write!(
                    out,
                    "port {asked} is taken or not allowed on this machine: the app listens at {actual} instead"
                )
            }
            Self::Process { pid, executable, mode } => write!(out, "process {pid} {executable}: {mode}"),
            Self::ProgramRefused {
                pid,
                executable,
                reason,
            } => {
                write!(out, "process {pid} {executable} was refused: {reason}")
            }
            Self::Decision { what, place, why } => write!(out, "{what}: {place} ({why})"),
            Self::Warning { message } => out.write_str(message),
            Self::Kept {
                directory,
                changed,
                removed,
            } => {
                write!(
                    out,
                    "changes of the pod's files were kept here, in {directory}/files ({changed} changed, {removed} removed); \
                     `rm -r {directory}` discards them"
                )
            }
            Self::Lost { reason } => write!(out, "the connection to the target is lost: {reason}"),
            Self::Exited { status } => write!(out, "the app ended with status {status}"),
            Self::Stopped { by } => write!(
                out,
                "stopped by {by} (`inpod sessions stop`, or `--take-over`): the app is ended"
            ),
            Self::Reconnected { port, closed, left } => write!(
                out,
                "port {port}: of the connections that were open before, {closed} were idle and have been closed, so that their \
                 clients come back through inpod; {left} still stay with the real app"
            ),
            Self::Checked { port, message, .. } => write!(out, "port {port}: {message}"),
            Self::Counted {
                port,
                transport,
                mode,
                seen: 0,
                ..
            } => write!(
                out,
                "port {port}{transport}: nothing came to it while it was {mode}; clients may call another pod or port, stay on \
                 connections from before, or be led around inpod (`inpod exec --check` tries)"
            ),
            Self::Counted {
                port,
                transport,
                mode,
                seen,
                matched,
                passed,
                mirrored,
                dropped,
                lost,
            } => {
                write!(
                    out,
                    "port {port}{transport}, {mode}: requests and connections seen: {seen}"
                )?;
                let counts = [
                    (*matched, "matched"),
                    (*passed, "passed to the real app"),
                    (*mirrored, "mirrored"),
                    (*dropped, "not mirrored whole"),
                    (*lost, "not taken whole by the app"),
                ];
                let mut counts = counts.iter().filter(|(count, _)| *count > 0);
                counts.try_for_each(|(count, what)| write!(out, ", {what}: {count}"))
            }
        }
    }
}
