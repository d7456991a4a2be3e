//! The control stream: requests answered in any order, events in between.

use std::sync::Arc;

use tokio::sync::mpsc;
use wire::message::{Bytes, ClaimMode, ClaimState, Fault, Reply, ReplyBody, Request, RequestBody, ToSession};
use wire::{LinkError, Stream, frame};

use crate::session::Session;
use crate::{facts, intercept, reconnect, sessions};

/// Answers and events that may wait for the link.
const QUEUE: usize = 256;
/// Requests under way at a time; more wait.
const REQUESTS: usize = 64;

pub(crate) async fn serve(session: &Arc<Session>, stream: Stream) {
    let (mut reader, mut writer) = stream.split();
    let (send, mut queue) = mpsc::channel::<ToSession>(QUEUE);
    session.standing.listens(send.downgrade());
    let write = async {
        while let Some(message) = queue.recv().await {
            if frame::write_message(&mut writer, &message).await.is_err() {
                return;
            }
        }
    };
    let read = async {
        if let Err(error) = read(session, &mut reader, send).await {
            tracing::debug!(%error, "the control stream");
        }
    };
    tokio::join!(read, write);
}

async fn read(
    session: &Arc<Session>,
    reader: &mut (impl tokio::io::AsyncRead + Unpin),
    send: mpsc::Sender<ToSession>,
) -> Result<(), LinkError> {
    let slots = Arc::new(tokio::sync::Semaphore::new(REQUESTS));
    // Claims are applied in the order in which they were sent.
    let order = Arc::new(tokio::sync::Mutex::new(()));
    while let Some(Request { id, body }) = frame::next_message(reader).await? {
        if body == RequestBody::Ping {
            let _ = send
                .send(ToSession::Reply(Reply {
                    id,
                    body: ReplyBody::Pong,
                }))
                .await;
            continue;
        }
        let turn = match &body {
            RequestBody::Claims(_) | RequestBody::Goodbye => Some(Arc::clone(&order).lock_owned().await),
            _ => None,
        };
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            break;
        };
        let (session, send) = (Arc::clone(session), send.clone());
        tokio::spawn(async move {
            let body = answer(&session, body, &send).await;
            let _ = send
                .send(ToSession::Reply(Reply {
                    id,
                    body: bounded(body),
                }))
                .await;
            drop((slot, turn));
        });
    }
    Ok(())
}

async fn answer(session: &Arc<Session>, body: RequestBody, events: &mpsc::Sender<ToSession>) -> ReplyBody {
    match body {
        RequestBody::Facts => {
            let agent = Arc::clone(&session.agent);
            match tokio::task::spawn_blocking(move || facts::gather(&agent)).await {
                Ok(facts) => ReplyBody::Facts(facts),
                Err(error) => failed(libc::EIO, &error.to_string()),
            }
        }
        RequestBody::Env => environment(session).await,
        RequestBody::Claims(claims) => {
            let of = |wanted: fn(ClaimMode) -> bool| -> Vec<_> {
                claims.iter().filter(|claim| wanted(claim.mode)).cloned().collect()
            };
            let (steal, mirror) = (
                of(|mode| mode == ClaimMode::Steal),
                of(|mode| mode == ClaimMode::Mirror),
            );
            let datagrams = of(ClaimMode::is_datagrams);
            let terminators = intercept::terminators(session, &steal).await;
            let mut stolen = session.agent.intercept.claim(session, &steal, terminators).into_iter();
            let mut mirrored = session.agent.mirror.claim(session, &mirror, events).into_iter();
            let mut datagrams = session.agent.datagrams.claim(session, &datagrams).into_iter();
            let states = claims.iter().map(|claim| match claim.mode {
                ClaimMode::Steal => stolen.next(),
                ClaimMode::Mirror => mirrored.next(),
                ClaimMode::StealDatagrams | ClaimMode::MirrorDatagrams => datagrams.next(),
            });
            let lost = || ClaimState::Refused("the agent lost the claim".to_owned());
            let states: Vec<_> = states.map(|state| state.unwrap_or_else(lost)).collect();
            session.standing.hold(&claims, &states);
            reconnect::keep(session, &claims, &states);
            ReplyBody::Claims(states)
        }
        RequestBody::Resolve(question) => session.agent.names.resolve(&session.agent, &question).await,
        RequestBody::Ping => ReplyBody::Pong,
        RequestBody::Goodbye => {
            session.release();
            ReplyBody::Pong
        }
        RequestBody::Sessions => ReplyBody::Sessions(session.agent.sessions.list()),
        RequestBody::StopSession(name) => sessions::stop(session, name).await,
        RequestBody::Check(check) => match session.standing.holds(check.port) {
            Some(mode) => ReplyBody::Checked(session.agent.checks.check(check, mode).await),
            None => failed(libc::ENOENT, "looking for the claim"),
        },
        RequestBody::Heard => {
            let left = session.unheard.arrived().await;
            ReplyBody::Heard(u32::try_from(left).unwrap_or(u32::MAX))
        }
        RequestBody::Held => ReplyBody::Held(session.standing.held()),
        RequestBody::Listening => match session.agent.intercept.listening() {
            Ok(ports) => ReplyBody::Listening(ports),
            Err(error) => failed(libc::EOPNOTSUPP, &error.to_string()),
        },
    }
}

async fn environment(session: &Arc<Session>) -> ReplyBody {
    let path = session.agent.target.proc("environ");
    match tokio::task::spawn_blocking(move || std::fs::read(path)).await {
        Ok(Ok(bytes)) => ReplyBody::Env(variables(&bytes)),
        Ok(Err(error)) => failed(
            error.raw_os_error().unwrap_or(libc::EIO),
            "reading the target's environment",
        ),
        Err(error) => failed(libc::EIO, &error.to_string()),
    }
}

/// proc_pid_environ(5): `name=value` strings, each ended by a zero byte. What has no `=` is no variable.
fn variables(bytes: &[u8]) -> Vec<(Bytes, Bytes)> {
    let pair = |entry: &[u8]| {
        let at = entry.iter().skip(1).position(|&byte| byte == b'=')? + 1;
        Some((Bytes(entry[..at].to_vec()), Bytes(entry[at + 1..].to_vec())))
    };
    bytes.split(|&byte| byte == 0).filter_map(pair).collect()
}

pub(crate) fn failed(errno: i32, what: &str) -> ReplyBody {
    ReplyBody::Failed(Fault {
        errno,
        what: what.to_owned(),
    })
}

/// An answer that no message can carry becomes an error with a reason.
fn bounded(body: ReplyBody) -> ReplyBody {
    match frame::encode(&body) {
        Ok(bytes) if bytes.len() + 64 < wire::message::MAX_MESSAGE => body,
        _ => failed(libc::E2BIG, "the answer is too long for a message"),
    }
}

/// The decoder of this file, on foreign bytes.
pub(crate) fn fuzz(data: &[u8]) {
    let _ = variables(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_an_environment() {
        let text = |pairs: Vec<(Bytes, Bytes)>| -> Vec<String> {
            let show = |bytes: &Bytes| String::from_utf8_lossy(&bytes.0).into_owned();
            pairs
                .iter()
                .map(|(name, value)| format!("{}|{}", show(name), show(value)))
                .collect()
        };
        assert_eq!(
            text(variables(b"A=1\0B=x=y\0\0junk\0=odd=1\0C=\0")),
            ["A|1", "B|x=y", "=odd|1", "C|"]
        );
        assert!(variables(b"").is_empty());
    }
}
