//! What comes to a stolen port, counted for every claim of it.

use http_route::{SessionId, Upstream};

use super::claims::Port;
use super::upstreams::Ends;

impl Port {
    /// A request, or a connection that is not taken apart, went this way.
    pub(super) fn count(&self, upstream: Upstream) {
        for held in &self.0 {
            held.counters.seen();
            match upstream {
                Upstream::Session(session) if session.0 == held.session => held.counters.matched(),
                Upstream::Session(_) => {}
                Upstream::Real => held.counters.passed(),
            }
        }
    }

    /// A session could not take what was counted as its: it went to the real app.
    pub(super) fn count_fallback(&self, session: SessionId) {
        for held in &self.0 {
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
        self.intercept.claims(self.server.port()).count(upstream);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rules::Term;
    use wire::message::{Claim, ClaimMode, Counts};

    use super::super::claims::{Claims, Held};
    use super::*;

    fn counts(port: &Port) -> Vec<(u64, u64, u64)> {
        let count = |Counts {
                         seen, matched, passed, ..
                     }| (seen, matched, passed);
        port.0.iter().map(|held| count(held.counters.counts())).collect()
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
                reconnect: false,
                tls: None,
            };
            claims
                .add(80, Held::new(session, "", &claim, 0, Arc::default()).expect("a claim"))
                .expect("no other");
        }
        let port = claims.at(80);
        port.count(Upstream::Session(SessionId(1)));
        port.count(Upstream::Session(SessionId(2)));
        port.count(Upstream::Session(SessionId(2)));
        port.count(Upstream::Real);
        assert_eq!(counts(&claims.at(80)), [(4, 1, 1), (4, 2, 1)]);
        port.count_fallback(SessionId(2));
        assert_eq!(counts(&claims.at(80)), [(4, 1, 2), (4, 1, 2)]);
        // A port that nobody has.
        claims.at(81).count(Upstream::Real);
    }
}
