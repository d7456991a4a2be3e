//! Who is at this agent, what each holds, and the end of one at another's wish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rules::Term;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::Hello;
use wire::hello::feature;
use wire::message::{
    Claim, ClaimEntry, ClaimMode, ClaimState, Event, MAX_FILTER_TEXT, ReplyBody, SessionEntry, ToSession,
};

use crate::control::failed;
use crate::counters::Counters;
use crate::session::Session;

/// How long a session that is stopped may take to end in order; then its link is closed.
const FAREWELL: Duration = Duration::from_secs(2);
/// Ports whose counts are kept while they are not claimed: an app that restarts goes on counting.
const KEPT: usize = 512;

/// All sessions of an agent.
pub(crate) struct Sessions(Mutex<State>);

struct State {
    present: BTreeMap<u64, Weak<Session>>,
    left: Instant,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State {
            present: BTreeMap::new(),
            left: Instant::now(),
        }))
    }

    /// From now on listed, until [`Self::remove`].
    pub(crate) fn add(&self, session: &Arc<Session>) {
        if !session.standing.visitor {
            self.lock().present.insert(session.id, Arc::downgrade(session));
        }
    }

    pub(crate) fn remove(&self, session: &Session) {
        let mut state = self.lock();
        if state.present.remove(&session.id).is_some() {
            state.left = Instant::now();
        }
    }

    /// When the last session left that was no visitor; at first, when the agent began.
    pub(crate) fn left(&self) -> Instant {
        self.lock().left
    }

    pub(crate) fn list(&self) -> Vec<SessionEntry> {
        self.present().iter().map(|session| entry(session)).collect()
    }

    fn present(&self) -> Vec<Arc<Session>> {
        self.lock().present.values().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What others may know and want of a session.
pub(crate) struct Standing {
    name: [u8; 16],
    visitor: bool,
    since: Instant,
    holdings: Mutex<Vec<Holding>>,
    events: Mutex<Option<mpsc::WeakSender<ToSession>>>,
    warned: Mutex<BTreeSet<String>>,
    /// Cancelled when the session may hold nothing any more; its link may live a little longer.
    over: CancellationToken,
}

/// A claim, or one that was.
struct Holding {
    port: u16,
    mode: ClaimMode,
    counters: Arc<Counters>,
    filter: Option<String>,
    in_force: bool,
    was_in_force: bool,
}

impl Holding {
    fn entry(&self) -> ClaimEntry {
        ClaimEntry {
            port: self.port,
            mode: self.mode,
            filter: self.filter.clone(),
            counts: self.counters.counts(),
        }
    }
}

impl Standing {
    pub(crate) fn new(hello: &Hello, ended: &CancellationToken) -> Self {
        Self {
            name: hello.session,
            visitor: hello.features & feature::VISITOR != 0,
            since: Instant::now(),
            holdings: Mutex::default(),
            events: Mutex::default(),
            warned: Mutex::default(),
            over: ended.child_token(),
        }
    }

    /// As others name it.
    pub(crate) fn name(&self) -> [u8; 16] {
        self.name
    }

    /// The session has ended, or is about to.
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Where the session takes its events.
    pub(crate) fn listens(&self, events: mpsc::WeakSender<ToSession>) {
        *self.events.lock().unwrap_or_else(PoisonError::into_inner) = Some(events);
    }

    /// The counters of a port, the same ones for as long as the session lives.
    pub(crate) fn counters(&self, port: u16, mode: ClaimMode) -> Arc<Counters> {
        let mut holdings = self.holdings();
        if let Some(known) = holdings.iter().find(|held| (held.port, held.mode) == (port, mode)) {
            return Arc::clone(&known.counters);
        }
        let counters = Arc::new(Counters::default());
        holdings.push(Holding {
            port,
            mode,
            counters: Arc::clone(&counters),
            filter: None,
            in_force: false,
            was_in_force: false,
        });
        counters
    }

    /// What the session holds from now on: these of its claims that are in force.
    pub(crate) fn hold(&self, claims: &[Claim], states: &[ClaimState]) {
        let claims = if self.is_over() { &[] } else { claims };
        let mut holdings = self.holdings();
        for held in holdings.iter_mut() {
            let state = claims.iter().zip(states).find(|(claim, state)| {
                (claim.port, claim.mode) == (held.port, held.mode) && matches!(state, ClaimState::Active { .. })
            });
            held.in_force = state.is_some();
            held.was_in_force |= held.in_force;
            held.filter = state.and_then(|(claim, _)| filter_words(claim));
        }
        if holdings.len() > KEPT {
            holdings.retain(|held| held.in_force);
        }
        holdings.sort_by_key(|held| held.port);
    }

    /// In which mode connections to the port are held, if they are.
    pub(crate) fn holds(&self, port: u16) -> Option<ClaimMode> {
        let holdings = self.holdings();
        let held = holdings.iter().filter(|held| held.in_force && held.port == port);
        held.map(|held| held.mode).find(|mode| !mode.is_datagrams())
    }

    /// What the session holds and has held.
    pub(crate) fn held(&self) -> Vec<ClaimEntry> {
        let holdings = self.holdings();
        let held = holdings.iter().filter(|held| held.was_in_force);
        held.map(Holding::entry).collect()
    }

    /// Nothing any more.
    pub(crate) fn release(&self) {
        self.hold(&[], &[]);
    }

    /// Says it once.
    pub(crate) fn warn(&self, text: String) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() < KEPT && !warned.contains(&text) && self.tell(Event::Warning(text.clone())) {
            warned.insert(text);
        }
    }

    /// Whether the session could take it.
    pub(crate) fn tell(&self, event: Event) -> bool {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events
            .as_ref()
            .and_then(mpsc::WeakSender::upgrade)
            .is_some_and(|events| events.try_send(ToSession::Event(event)).is_ok())
    }

    fn holdings(&self) -> MutexGuard<'_, Vec<Holding>> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry(session: &Session) -> SessionEntry {
    let standing = &session.standing;
    let held = standing.holdings();
    let claims = held.iter().filter(|held| held.in_force).map(Holding::entry);
    SessionEntry {
        session: standing.name,
        owner: session.owner.clone(),
        age_ms: u64::try_from(standing.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        claims: claims.collect(),
    }
}

/// The claim's filter as its owner wrote it; `None` for everything.
fn filter_words(claim: &Claim) -> Option<String> {
    let mut text = Term::in_words(&claim.filter);
    text.truncate(text.floor_char_boundary(MAX_FILTER_TEXT));
    (!text.is_empty()).then_some(text)
}

/// Ends the session of this name; `by` is who wants it. Its claims end at once, the rest with its link.
pub(crate) async fn stop(by: &Session, name: [u8; 16]) -> ReplyBody {
    let mut wanted = by.agent.sessions.present();
    wanted.retain(|session| session.standing.name == name);
    if wanted.is_empty() {
        return failed(libc::ESRCH, "looking for the session");
    }
    for session in &wanted {
        tracing::info!(id = session.id, by = by.owner, "a session is stopped");
        session.standing.over.cancel();
        session.release();
    }
    for session in wanted {
        let told = session.standing.tell(Event::Stopped { by: by.owner.clone() });
        let ended = tokio::time::timeout(FAREWELL, session.ended.cancelled());
        if !told || ended.await.is_err() {
            session.link.close();
            session.ended.cancelled().await;
        }
    }
    ReplyBody::Stopped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        Standing::new(&Hello::new([1; 16], [0; 16], "ada"), &CancellationToken::new())
    }

    fn claim(port: u16, filter: &[Term]) -> Claim {
        Claim {
            port,
            mode: ClaimMode::Steal,
            filter: filter.to_vec(),
            probes: Vec::new(),
            reconnect: false,
            tls: None,
        }
    }

    fn in_force(standing: &Standing) -> Vec<(u16, Option<String>)> {
        let held = standing.holdings();
        let held = held.iter().filter(|held| held.in_force);
        held.map(|held| (held.port, held.filter.clone())).collect()
    }

    #[test]
    fn what_is_in_force_is_held_and_counts_outlast_it() {
        let standing = standing();
        let active = ClaimState::Active { older: 0 };
        let refused = ClaimState::Refused("no".to_owned());
        for port in [81, 80] {
            standing.counters(port, ClaimMode::Steal).seen();
        }
        standing.hold(&[claim(80, &[]), claim(81, &[])], &[active.clone(), refused]);
        assert_eq!(in_force(&standing), [(80, None)]);
        standing.release();
        assert_eq!(in_force(&standing), []);
        let counts: Vec<_> = standing
            .held()
            .iter()
            .map(|held| (held.port, held.counts.seen))
            .collect();
        assert_eq!(counts, [(80, 1)], "one that was refused was never held");
        standing.counters(81, ClaimMode::Steal).seen();
        standing.hold(&[claim(81, &[])], &[active]);
        assert_eq!(in_force(&standing), [(81, None)]);
        assert_eq!(standing.counters(81, ClaimMode::Steal).counts().seen, 2);
        assert_eq!(standing.counters(81, ClaimMode::Mirror).counts().seen, 0);
    }

    #[test]
    fn counts_of_ports_that_are_gone_are_bounded() {
        let standing = standing();
        for port in 1..=u16::try_from(KEPT).expect("small") + 1 {
            standing.counters(port, ClaimMode::Steal).seen();
        }
        standing.release();
        assert!(standing.holdings().is_empty());
    }

    #[test]
    fn a_filter_in_words() {
        let exact = Term::Is("X-User=ada".to_owned());
        let regex = Term::Is("re:^x-team: red$".to_owned());
        assert_eq!(filter_words(&claim(80, &[])), None);
        assert_eq!(
            filter_words(&claim(80, &[exact, regex])).as_deref(),
            Some("X-User=ada and re:^x-team: red$")
        );
        let long = Term::Is("ä".repeat(MAX_FILTER_TEXT));
        let text = filter_words(&claim(80, &[long])).expect("a text");
        assert!((MAX_FILTER_TEXT - 1..=MAX_FILTER_TEXT).contains(&text.len()));
    }

    #[test]
    fn a_session_is_over_with_its_end() {
        let ended = CancellationToken::new();
        let standing = Standing::new(&Hello::new([1; 16], [0; 16], "ada"), &ended);
        assert!(!standing.is_over());
        ended.cancel();
        assert!(standing.is_over());
    }
}
