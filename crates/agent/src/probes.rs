//! The pod's own probes of a claim's port: they are the real app's to answer, and nobody's traffic.

use std::collections::BTreeSet;
use std::net::IpAddr;

use http_route::{HttpProbe, ProbeMatcher};
use wire::message::{Claim, Probe};

const MAX_PROBES: usize = 64;
/// Addresses of the pod's node, in all probes of one claim.
const MAX_NODES: usize = 16;

#[derive(Debug)]
pub(crate) struct Probes {
    /// HTTP and gRPC probes, which are told by what they ask.
    pub requests: ProbeMatcher,
    /// The pod's definition has a TCP probe of the port; it comes from one of these addresses, or a router's.
    pub tcp: Option<BTreeSet<IpAddr>>,
}

impl Probes {
    /// # Errors
    /// When there are too many, for the person who made the claim.
    pub(crate) fn of(claim: &Claim) -> Result<Self, String> {
        let port = claim.port;
        if claim.probes.len() > MAX_PROBES {
            return Err(format!("at most {MAX_PROBES} probes can be given for port {port}"));
        }
        let (mut http, mut grpc, mut tcp) = (Vec::new(), false, None);
        for probe in &claim.probes {
            match probe {
                Probe::Http {
                    port: at,
                    path,
                    headers,
                } if *at == port => http.push(HttpProbe {
                    path: path.clone(),
                    headers: headers.clone(),
                }),
                Probe::Grpc { port: at } if *at == port => grpc = true,
                Probe::Tcp { port: at, nodes } if *at == port => {
                    tcp.get_or_insert_with(BTreeSet::new).extend(nodes);
                }
                _ => {}
            }
        }
        if tcp.as_ref().is_some_and(|nodes| nodes.len() > MAX_NODES) {
            return Err(format!(
                "at most {MAX_NODES} addresses of a node can be given for port {port}"
            ));
        }
        Ok(Self {
            requests: ProbeMatcher::new(http, grpc),
            tcp,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::message::ClaimMode;

    fn of(port: u16, probes: Vec<Probe>) -> Result<Probes, String> {
        Probes::of(&Claim {
            port,
            mode: ClaimMode::Mirror,
            filter: Vec::new(),
            probes,
            reconnect: false,
            tls: None,
        })
    }

    fn tcp(port: u16, nodes: std::ops::Range<u8>) -> Probe {
        let nodes = nodes.map(|node| [10, 0, 0, node].into()).collect();
        Probe::Tcp { port, nodes }
    }

    #[test]
    fn probes_are_those_of_the_port() {
        let all = || {
            vec![
                Probe::Http {
                    port: 80,
                    path: "/healthz".to_owned(),
                    headers: vec![],
                },
                tcp(81, 1..3),
                tcp(81, 2..4),
                Probe::Grpc { port: 82 },
            ]
        };
        let found = |port| {
            let probes = of(port, all()).unwrap();
            let requests = (probes.requests.has_http(), probes.requests.has_grpc());
            (requests, probes.tcp.map(|nodes| nodes.len()))
        };
        assert_eq!(found(80), ((true, false), None));
        assert_eq!(found(81), ((false, false), Some(3)));
        assert_eq!(found(82), ((false, true), None));
        assert_eq!(found(83), ((false, false), None));
    }

    #[test]
    fn too_many_probes_are_refused() {
        assert!(of(80, vec![Probe::Grpc { port: 81 }; 64]).is_ok());
        assert!(of(80, vec![Probe::Grpc { port: 81 }; 65]).is_err());
        assert!(of(81, vec![tcp(81, 0..8), tcp(81, 8..16)]).is_ok());
        assert!(of(81, vec![tcp(81, 0..8), tcp(81, 8..17)]).is_err());
        assert!(of(80, vec![tcp(81, 0..17)]).is_ok());
    }
}
