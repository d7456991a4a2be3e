//! What comes to a stolen port, counted for every claim of it.

use http_route::{SessionId, Upstream};

use super::claims::Claims;
use super::upstreams::Ends;

impl Claims {
    /// A request, or a connection that is not taken apart, went this way.
    pub(super) fn count(&self, port: u16, upstream: Upstream) {
        for held in self.at(port) {
            held.counters.seen();
            match upstream {
                Upstream::Session(session) if session.0 == held.session => held.counters.matched(),
                Upstream::Session(_) => {}
                Upstream::Real => held.counters.passed(),
            }
        }
    }

    /// A session could not take what was counted as its: it went to the real app.
    pub(super) fn count_fallback(&self, port: u16, session: SessionId) {
        for held in self.at(port) {
            held.counters.passed();
            if held.session == session.0 {
                held.counters.unmatched();
            }
        }
    }
}

impl Ends {
    /// The whole connection went this way.
    pub(super) fn count(&self, upstream: Upstream) {
        self.intercept.lock().claims.count(self.server.port(), upstream);
    }
}

#[cfg(test)]
mod tests {
    use rules::Term;
    use wire::message::{Claim, ClaimMode, Counts};

    use super::super::claims::Held;
    use super::*;

    fn counts(claims: &Claims) -> Vec<(u64, u64, u64)> {
        let count = |Counts {
                         seen, matched, passed, ..
                     }| (seen, matched, passed);
        claims.at(80).iter().map(|held| count(held.counters.counts())).collect()
    }

    #[test]
    fn each_claim_of_the_port_sees_all_of_it() {
        let mut claims = Claims::default();
        for session in [1, 2] {
            let claim = Claim {
                port: 80,
                mode: ClaimMode::Steal,
                filter: Term::read(&format!("re:{session}")),
                probes: Vec::new(),
            };
            claims
                .add(80, Held::new(session, "", &claim, 0).expect("a claim"))
                .expect("no other");
        }
        claims.count(80, Upstream::Session(SessionId(1)));
        claims.count(80, Upstream::Session(SessionId(2)));
        claims.count(80, Upstream::Session(SessionId(2)));
        claims.count(80, Upstream::Real);
        assert_eq!(counts(&claims), [(4, 1, 1), (4, 2, 1)]);
        claims.count_fallback(80, SessionId(2));
        assert_eq!(counts(&claims), [(4, 1, 2), (4, 1, 2)]);
        // A port that nobody has.
        claims.count(81, Upstream::Real);
    }
}
