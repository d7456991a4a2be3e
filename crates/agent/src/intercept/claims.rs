//! Who wants what of a port's requests. Pure: decided here, done elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use http_route::{Content, RequestHead, SessionId, Upstream};
use rules::Filter;
use wire::message::Claim;

use super::terminator::Terminator;
use crate::counters::Counters;
use crate::probes::Probes;

/// Ports that one session may claim.
const MAX_PORTS: usize = 256;

/// A claim in force.
#[derive(Debug)]
pub(super) struct Held {
    pub session: u64,
    owner: String,
    filter: Filter,
    probes: Probes,
    older: u32,
    pub counters: Arc<Counters>,
    pub tls: Option<Arc<Terminator>>,
}

/// Why a claim is not in force.
#[derive(Debug)]
pub(super) struct InTheWay {
    /// The session that has what is claimed.
    pub holder: Option<u64>,
    pub why: String,
}

impl From<String> for InTheWay {
    fn from(why: String) -> Self {
        Self { holder: None, why }
    }
}

/// Who has all of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole {
    pub session: SessionId,
    /// Who says nothing may be the kubelet.
    pub tcp_probe: bool,
    /// HTTP/2 must be looked into, since the kubelet may be the client.
    pub grpc_probe: bool,
    /// So must HTTP/2 inside of TLS, where the kubelet speaks it.
    pub http_probe: bool,
}

/// All claims by port.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<u16, Arc<Port>>);

/// The claims of one port, asked in the order in which they came. Whoever decides about a request has them as they were at
/// that moment, and holds nobody up: to look into a request takes its time.
#[derive(Debug, Default, Clone)]
pub(super) struct Port(pub(super) Vec<Arc<Held>>);

impl Held {
    /// # Errors
    /// Why the claim cannot be used, for the person who made it.
    pub(super) fn new(
        session: u64,
        owner: &str,
        claim: &Claim,
        older: u32,
        counters: Arc<Counters>,
    ) -> Result<Self, String> {
        if claim.port == 0 {
            return Err("port 0 cannot be stolen".to_owned());
        }
        Ok(Self {
            session,
            owner: owner.to_owned(),
            filter: Filter::new(claim.filter.clone()).map_err(|error| error.to_string())?,
            probes: Probes::of(claim)?,
            older,
            counters,
            tls: None,
        })
    }

    pub(super) fn with_tls(self, tls: Option<Arc<Terminator>>) -> Self {
        Self { tls, ..self }
    }

    pub(super) fn is_filtered(&self) -> bool {
        !self.filter.is_empty()
    }
}

/// A request as filters see it.
pub(crate) fn request<'a>(
    head: &RequestHead<'a>,
    content: Content<'a>,
) -> rules::Request<'a, impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a>> {
    rules::Request {
        method: head.method(),
        path_and_query: head.path_and_query(),
        host: head.host(),
        fields: head.fields(),
        content: match content {
            Content::Coming => rules::Content::Coming,
            Content::Whole(content) => rules::Content::Whole(content),
            Content::Unseen => rules::Content::Unseen,
        },
    }
}

impl Claims {
    /// What the session had at this port, or `None`.
    pub(super) fn of(&self, session: u64, port: u16) -> Option<u32> {
        Some(self.0.get(&port)?.of(session)?.older)
    }

    /// Puts the claim in force, in place of the session's earlier one.
    ///
    /// # Errors
    /// Who is in the way, or what else.
    pub(super) fn add(&mut self, port: u16, new: Held) -> Result<(), InTheWay> {
        let others = &self.at(port).0;
        let mine = others.iter().filter(|held| held.session == new.session).count();
        let in_the_way = others
            .iter()
            .filter(|held| held.session != new.session)
            .find(|held| new.filter.is_empty() || held.filter.includes(&new.filter));
        if let Some(holder) = in_the_way {
            let what = if holder.filter.is_empty() {
                format!("all of port {port}")
            } else {
                format!("requests of port {port} where {}", holder.filter)
            };
            return Err(InTheWay {
                holder: Some(holder.session),
                why: format!(
                    "{} already steals {what} (a name that its client gave itself)",
                    holder.owner
                ),
            });
        }
        if mine == 0
            && self
                .0
                .values()
                .flat_map(|port| &port.0)
                .filter(|held| held.session == new.session)
                .count()
                >= MAX_PORTS
        {
            return Err(format!("at most {MAX_PORTS} ports can be stolen").into());
        }
        let held = &mut Arc::make_mut(self.0.entry(port).or_default()).0;
        match held.iter_mut().find(|held| held.session == new.session) {
            Some(old) => *old = Arc::new(new),
            None => held.push(Arc::new(new)),
        }
        Ok(())
    }

    /// Ends the session's claims but those of `keep`.
    pub(super) fn retain(&mut self, session: u64, keep: &BTreeSet<u16>) {
        for (port, held) in &mut self.0 {
            Arc::make_mut(held)
                .0
                .retain(|held| held.session != session || keep.contains(port));
        }
        self.0.retain(|_, port| !port.0.is_empty());
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn ports(&self) -> BTreeSet<u16> {
        self.0.keys().copied().collect()
    }

    /// The ports that have a TCP probe, and where these come from.
    pub(super) fn tcp_probes(&self) -> (BTreeSet<u16>, BTreeSet<IpAddr>) {
        let (mut ports, mut nodes) = (BTreeSet::new(), BTreeSet::new());
        for (port, held) in &self.0 {
            for probe in held.0.iter().filter_map(|held| held.probes.tcp.as_ref()) {
                ports.insert(*port);
                nodes.extend(probe);
            }
        }
        (ports, nodes)
    }

    /// The claims of a port.
    pub(super) fn at(&self, port: u16) -> Arc<Port> {
        self.0.get(&port).cloned().unwrap_or_default()
    }

    pub(super) fn whole(&self, port: u16) -> Option<Whole> {
        match self.0.get(&port)?.0.as_slice() {
            [held] if !held.is_filtered() => Some(Whole {
                session: SessionId(held.session),
                tcp_probe: held.probes.tcp.is_some(),
                grpc_probe: held.probes.requests.has_grpc(),
                http_probe: held.probes.requests.has_http(),
            }),
            _ => None,
        }
    }
}

impl Port {
    pub(super) fn of(&self, session: u64) -> Option<&Held> {
        self.0.iter().map(Arc::as_ref).find(|held| held.session == session)
    }

    /// Who terminates the port's TLS, and with what: the first that wants to.
    pub(super) fn terminator(&self) -> Option<(u64, &Arc<Terminator>)> {
        self.0.iter().find_map(|held| Some((held.session, held.tls.as_ref()?)))
    }

    /// Whose TLS is used in place of the session's, where they differ.
    pub(super) fn overrules(&self, session: u64) -> Option<&str> {
        let own = self.of(session)?.tls.as_ref()?;
        let (first, used) = self.terminator()?;
        (used.wanted() != own.wanted()).then(|| self.of(first).map(|held| held.owner.as_str()))?
    }

    /// Where a request goes; `None` when that depends on content that may still come. What was `terminated` is theirs alone
    /// who have asked for that.
    pub(super) fn decide(&self, head: &RequestHead<'_>, content: Content<'_>, terminated: bool) -> Option<Upstream> {
        if self.0.iter().any(|held| held.probes.requests.matches(head)) {
            return Some(Upstream::Real);
        }
        let request = request(head, content);
        for held in self.0.iter().filter(|held| held.tls.is_some() || !terminated) {
            if held.filter.matches(&request)? {
                return Some(Upstream::Session(SessionId(held.session)));
            }
        }
        Some(Upstream::Real)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_route::http1::FieldStorage;
    use rules::Term;
    use wire::message::{ClaimMode, Probe};

    fn claim(port: u16, header: Option<&str>) -> Claim {
        let exact = |value: &str| Term::Is(format!("X-User={value}"));
        let probes = vec![
            Probe::Http {
                port: 80,
                path: "/healthz".to_owned(),
                headers: vec![],
            },
            Probe::Tcp {
                port: 81,
                nodes: vec![[10, 0, 0, 1].into()],
            },
        ];
        Claim {
            port,
            mode: ClaimMode::Steal,
            filter: header.map(exact).into_iter().collect(),
            probes,
            reconnect: false,
            tls: None,
        }
    }

    fn held(session: u64, owner: &str, claim: &Claim) -> Result<Held, String> {
        Held::new(session, owner, claim, 0, Arc::default())
    }

    fn add(claims: &mut Claims, session: u64, port: u16, header: Option<&str>) -> Result<(), InTheWay> {
        claims.add(
            port,
            held(session, &format!("owner{session}"), &claim(port, header)).unwrap(),
        )
    }

    fn decide(claims: &Claims, head: &str) -> Upstream {
        let mut storage = FieldStorage::default();
        let head = RequestHead::parse(head.as_bytes(), &mut storage).unwrap();
        claims.at(80).decide(&head, Content::Whole(&[]), false).unwrap()
    }

    #[test]
    fn overlapping_claims_name_their_holder() {
        let mut claims = Claims::default();
        add(&mut claims, 1, 80, None).unwrap();
        add(&mut claims, 1, 80, None).unwrap();
        assert!(
            add(&mut claims, 2, 80, None)
                .unwrap_err()
                .why
                .starts_with("owner1 already steals all of port 80")
        );
        assert!(add(&mut claims, 2, 80, Some("b")).is_err());
        add(&mut claims, 2, 81, Some("b")).unwrap();
        add(&mut claims, 3, 81, Some("c")).unwrap();
        assert!(
            add(&mut claims, 4, 81, Some("c"))
                .unwrap_err()
                .why
                .starts_with("owner3 already steals requests of port 81 where X-User=c ")
        );
        assert!(add(&mut claims, 4, 81, None).is_err());
        claims.retain(1, &BTreeSet::new());
        add(&mut claims, 2, 80, None).unwrap();
        assert_eq!(claims.ports(), BTreeSet::from([80, 81]));
        assert_eq!(claims.whole(80).map(|whole| whole.session), Some(SessionId(2)));
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
        assert!(held(1, "", &claim(0, None)).is_err());
        let bad = Claim {
            filter: Term::read("re:("),
            ..claim(80, None)
        };
        assert!(held(1, "", &bad).unwrap_err().contains("not a regular expression"));
        let many = Claim {
            filter: vec![Term::Is("re:a".to_owned()); 33],
            ..claim(80, None)
        };
        assert!(held(1, "", &many).is_err());
    }
}
