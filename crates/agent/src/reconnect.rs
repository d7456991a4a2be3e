//! Connections that are older than a claim stay with the real app. A session that wants their clients back has them closed
//! once they are idle, as the real app itself closes those that were idle too long: HTTP clients then open another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nft::{Open, Spoke};
use tokio_util::sync::{CancellationToken, DropGuard};
use wire::message::{Claim, ClaimState, Event};

use crate::session::Session;

/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Nothing has come or gone for so long, and the app spoke last: no request is under way.
const IDLE: Duration = Duration::from_secs(2);
/// The same where the kernel's clock does not tell who spoke last: no request should take so long to be answered.
const IDLE_UNSURE: Duration = Duration::from_secs(30);

/// The ports whose older connections are being closed, until their claims end.
pub(crate) type Reconnecting = BTreeMap<u16, DropGuard>;

/// For the claims that want it and are in force from now on; for others no longer.
pub(crate) fn keep(session: &Arc<Session>, claims: &[Claim], states: &[ClaimState]) {
    let wanted = claims.iter().zip(states).filter(|(claim, state)| {
        claim.reconnect && !claim.mode.is_datagrams() && matches!(state, ClaimState::Active { .. })
    });
    let wanted: BTreeSet<u16> = wanted.map(|(claim, _)| claim.port).collect();
    let mut running = running(session);
    running.retain(|port, _| wanted.contains(port));
    for port in wanted {
        running.entry(port).or_insert_with(|| begin(session, port));
    }
}

pub(crate) fn end(session: &Session) {
    running(session).clear();
}

fn running(session: &Session) -> MutexGuard<'_, Reconnecting> {
    session.reconnecting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn begin(session: &Arc<Session>, port: u16) -> DropGuard {
    let older = session.agent.intercept.older(port);
    let closing = until_closed(Arc::downgrade(session), port, older);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move { stopped.run_until_cancelled(closing).await });
    stop.drop_guard()
}

/// Until all are closed, or cannot be.
async fn until_closed(session: Weak<Session>, port: u16, mut older: BTreeSet<u64>) {
    let mut closed = 0;
    while !older.is_empty() {
        tokio::time::sleep(LOOK).await;
        let looked = tokio::task::spawn_blocking(move || close_idle(port, &older));
        let found = looked.await.map_err(|error| error.to_string());
        let found = found.and_then(|found| found.map_err(|error| error.to_string()));
        let Some(session) = session.upgrade() else { return };
        let (left, now) = match found {
            Ok(found) => found,
            Err(why) => {
                let words = format!("port {port}: connections that were open before cannot be closed: {why}");
                return session.standing.warn(words);
            }
        };
        older = left;
        closed += now;
        if now > 0 {
            let left = u32::try_from(older.len()).unwrap_or(u32::MAX);
            session.standing.tell(Event::Reconnected { port, closed, left });
        }
    }
}

/// Closes those that are idle; gives what is left open, and how many were closed.
fn close_idle(port: u16, older: &BTreeSet<u64>) -> Result<(BTreeSet<u64>, u32), nft::Error> {
    let (mut left, mut closed) = (BTreeSet::new(), 0);
    for open in nft::open_connections(port)? {
        if !older.contains(&open.cookie()) {
            continue;
        }
        if is_idle(&open) {
            open.close()?;
            closed += 1;
        } else {
            left.insert(open.cookie());
        }
    }
    Ok((left, closed))
}

fn is_idle(open: &Open) -> bool {
    match open.last {
        Spoke::Local => open.quiet >= IDLE,
        Spoke::Both => open.quiet >= IDLE_UNSURE,
        Spoke::Remote => false,
    }
}
