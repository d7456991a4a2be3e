//! Who wants what of a port's requests. Pure: decided here, done elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http_route::{HttpProbe, ProbeMatcher, RequestHead, SessionId, Upstream};
use rules::{Filter, PatternError};
use wire::message::{Claim, HeaderPattern, Probe};

use crate::counters::Counters;

/// Ports that one session may claim, and patterns and probes of one claim.
const MAX_PORTS: usize = 256;
const MAX_PATTERNS: usize = 32;
const MAX_PROBES: usize = 64;

/// A claim in force.
#[derive(Debug)]
pub(super) struct Held {
    pub session: u64,
    owner: String,
    wanted: Vec<HeaderPattern>,
    filter: Filter,
    http_probes: ProbeMatcher,
    /// The pod's definition has a TCP probe of this port.
    tcp_probe: bool,
    older: u32,
    pub counters: Arc<Counters>,
}

/// All claims by port; a port's are asked in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<u16, Vec<Arc<Held>>>);

impl Held {
    /// # Errors
    /// Why the claim cannot be used, for the person who made it.
    pub(super) fn new(session: u64, owner: &str, claim: &Claim, older: u32) -> Result<Self, String> {
        if claim.port == 0 {
            return Err("port 0 cannot be stolen".to_owned());
        }
        if claim.headers.len() > MAX_PATTERNS || claim.probes.len() > MAX_PROBES {
            return Err(format!(
                "at most {MAX_PATTERNS} header patterns and {MAX_PROBES} probes can be given for a port"
            ));
        }
        let http = claim.probes.iter().filter_map(|probe| match probe {
            Probe::Http { port, path, headers } if *port == claim.port => Some(HttpProbe {
                path: path.clone(),
                headers: headers.clone(),
            }),
            _ => None,
        });
        Ok(Self {
            session,
            owner: owner.to_owned(),
            wanted: claim.headers.clone(),
            filter: filter(&claim.headers).map_err(|error| error.to_string())?,
            http_probes: ProbeMatcher::new(http),
            tcp_probe: claim.probes.contains(&Probe::Tcp { port: claim.port }),
            older,
            counters: Arc::default(),
        })
    }
}

/// # Errors
/// When a pattern cannot be used.
pub(crate) fn filter(patterns: &[HeaderPattern]) -> Result<Filter, PatternError> {
    let headers = patterns.iter().map(|pattern| match pattern {
        HeaderPattern::Exact { name, value } => rules::HeaderPattern::exact(name, value),
        HeaderPattern::Regex(pattern) => rules::HeaderPattern::regex(pattern),
    });
    Ok(Filter {
        headers: headers.collect::<Result<_, _>>()?,
    })
}

impl Claims {
    /// What the session had at this port, or `None`.
    pub(super) fn of(&self, session: u64, port: u16) -> Option<u32> {
        self.0
            .get(&port)?
            .iter()
            .find(|held| held.session == session)
            .map(|held| held.older)
    }

    /// Puts the claim in force, in place of the session's earlier one.
    ///
    /// # Errors
    /// Who is in the way.
    pub(super) fn add(&mut self, port: u16, new: Held) -> Result<(), String> {
        let others = self.0.entry(port).or_default();
        let mine = others.iter().filter(|held| held.session == new.session).count();
        let in_the_way = others
            .iter()
            .filter(|held| held.session != new.session)
            .find(|held| held.filter.is_empty() || new.filter.is_empty() || held.wanted == new.wanted);
        if let Some(holder) = in_the_way {
            let what = if holder.filter.is_empty() {
                "all of port"
            } else {
                "these requests of port"
            };
            return Err(format!(
                "{} already steals {what} {port} (a name that its client gave itself)",
                holder.owner
            ));
        }
        if mine == 0
            && self
                .0
                .values()
                .flatten()
                .filter(|held| held.session == new.session)
                .count()
                >= MAX_PORTS
        {
            return Err(format!("at most {MAX_PORTS} ports can be stolen"));
        }
        let held = self.0.entry(port).or_default();
        match held.iter_mut().find(|held| held.session == new.session) {
            Some(old) => *old = Arc::new(new),
            None => held.push(Arc::new(new)),
        }
        Ok(())
    }

    /// Ends the session's claims but those of `keep`.
    pub(super) fn retain(&mut self, session: u64, keep: &BTreeSet<u16>) {
        for (port, held) in &mut self.0 {
            held.retain(|held| held.session != session || keep.contains(port));
        }
        self.0.retain(|_, held| !held.is_empty());
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn ports(&self) -> BTreeSet<u16> {
        self.0
            .iter()
            .filter(|(_, held)| !held.is_empty())
            .map(|(port, _)| *port)
            .collect()
    }

    /// The claims of a port.
    pub(super) fn at(&self, port: u16) -> &[Arc<Held>] {
        self.0.get(&port).map(Vec::as_slice).unwrap_or_default()
    }

    /// Who has all of the port, and whether the real app is to be asked first whether it takes connections.
    pub(super) fn whole(&self, port: u16) -> Option<(SessionId, bool)> {
        match self.0.get(&port)?.as_slice() {
            [held] if held.filter.is_empty() => Some((SessionId(held.session), held.tcp_probe)),
            _ => None,
        }
    }

    /// Where a request to the port goes now.
    pub(super) fn decide(&self, port: u16, head: &RequestHead<'_>) -> Upstream {
        let Some(held) = self.0.get(&port) else {
            return Upstream::Real;
        };
        if held.iter().any(|held| held.http_probes.matches(head)) {
            return Upstream::Real;
        }
        held.iter()
            .find(|held| held.filter.matches(head.fields()))
            .map_or(Upstream::Real, |held| Upstream::Session(SessionId(held.session)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_route::http1::FieldStorage;
    use wire::message::ClaimMode;

    fn claim(port: u16, header: Option<&str>) -> Claim {
        let exact = |value: &str| HeaderPattern::Exact {
            name: "X-User".to_owned(),
            value: value.to_owned(),
        };
        let probes = vec![
            Probe::Http {
                port: 80,
                path: "/healthz".to_owned(),
                headers: vec![],
            },
            Probe::Tcp { port: 81 },
        ];
        Claim {
            port,
            mode: ClaimMode::Steal,
            headers: header.map(exact).into_iter().collect(),
            probes,
        }
    }

    fn add(claims: &mut Claims, session: u64, port: u16, header: Option<&str>) -> Result<(), String> {
        claims.add(
            port,
            Held::new(session, &format!("owner{session}"), &claim(port, header), 0).unwrap(),
        )
    }

    fn decide(claims: &Claims, head: &str) -> Upstream {
        let mut storage = FieldStorage::default();
        claims.decide(80, &RequestHead::parse(head.as_bytes(), &mut storage).unwrap())
    }

    #[test]
    fn overlapping_claims_name_their_holder() {
        let mut claims = Claims::default();
        add(&mut claims, 1, 80, None).unwrap();
        add(&mut claims, 1, 80, None).unwrap();
        assert!(
            add(&mut claims, 2, 80, None)
                .unwrap_err()
                .starts_with("owner1 already steals all of port 80")
        );
        assert!(add(&mut claims, 2, 80, Some("b")).is_err());
        add(&mut claims, 2, 81, Some("b")).unwrap();
        add(&mut claims, 3, 81, Some("c")).unwrap();
        assert!(
            add(&mut claims, 4, 81, Some("c"))
                .unwrap_err()
                .starts_with("owner3 already steals these requests")
        );
        assert!(add(&mut claims, 4, 81, None).is_err());
        claims.retain(1, &BTreeSet::new());
        add(&mut claims, 2, 80, None).unwrap();
        assert_eq!(claims.ports(), BTreeSet::from([80, 81]));
        assert_eq!(claims.whole(80), Some((SessionId(2), false)));
        assert_eq!(claims.whole(81), None);
        claims.clear();
        assert!(claims.ports().is_empty());
    }

    #[test]
    fn requests_go_to_whom_they_match_and_probes_to_the_app() {
        let mut claims = Claims::default();
        add(&mut claims, 2, 80, Some("b")).unwrap();
        add(&mut claims, 3, 80, Some("c")).unwrap();
        assert_eq!(
            decide(&claims, "GET / HTTP/1.1\r\nx-user: c\r\n\r\n"),
            Upstream::Session(SessionId(3))
        );
        assert_eq!(
            decide(&claims, "GET / HTTP/1.1\r\nx-user: b\r\n\r\n"),
            Upstream::Session(SessionId(2))
        );
        assert_eq!(decide(&claims, "GET / HTTP/1.1\r\nx-user: d\r\n\r\n"), Upstream::Real);
        claims.retain(2, &BTreeSet::new());
        assert_eq!(decide(&claims, "GET / HTTP/1.1\r\nx-user: b\r\n\r\n"), Upstream::Real);
        let mut claims = Claims::default();
        add(&mut claims, 1, 80, None).unwrap();
        assert_eq!(
            decide(&claims, "GET / HTTP/1.1\r\n\r\n"),
            Upstream::Session(SessionId(1))
        );
        assert_eq!(
            decide(&claims, "GET /healthz HTTP/1.1\r\nuser-agent: kube-probe/1.34\r\n\r\n"),
            Upstream::Real
        );
    }

    #[test]
    fn claims_that_cannot_be_used_are_refused() {
        assert!(Held::new(1, "", &claim(0, None), 0).is_err());
        let bad = Claim {
            headers: vec![HeaderPattern::Regex("(".to_owned())],
            ..claim(80, None)
        };
        assert!(
            Held::new(1, "", &bad, 0)
                .unwrap_err()
                .contains("not a regular expression")
        );
        let many = Claim {
            headers: vec![HeaderPattern::Regex("a".to_owned()); 33],
            ..claim(80, None)
        };
        assert!(Held::new(1, "", &many, 0).is_err());
        assert!(Held::new(1, "", &claim(81, None), 0).unwrap().tcp_probe);
        assert!(!Held::new(1, "", &claim(80, None), 0).unwrap().tcp_probe);
    }
}
