//! Recognises the kubelet's HTTP and gRPC probes by the pod's own probe definitions.

use crate::RequestHead;

/// One `httpGet` probe of the pod's spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// As in the spec: may be empty, or lack its first slash.
    pub path: String,
    /// The probe's `httpHeaders`, as in the spec.
    pub headers: Vec<(String, String)>,
}

/// The probes of one port. The source address is for the caller to judge: hairpin and NodePort traffic share the node's.
#[derive(Debug, Clone, Default)]
pub struct ProbeMatcher {
    probes: Vec<HttpProbe>,
    grpc: bool,
}

/// What a gRPC probe calls (the gRPC health checking protocol).
const GRPC_CHECK: &str = "/grpc.health.v1.Health/Check";

impl ProbeMatcher {
    #[must_use]
    pub fn new(probes: impl IntoIterator<Item = HttpProbe>, grpc: bool) -> Self {
        // The kubelet builds a URL from the path, and a URL's path begins with a slash.
        let rooted = |mut probe: HttpProbe| {
            if !probe.path.starts_with('/') {
                probe.path.insert(0, '/');
            }
            probe
        };
        Self {
            probes: probes.into_iter().map(rooted).collect(),
            grpc,
        }
    }

    /// Some probe is made by HTTP.
    #[must_use]
    pub fn has_http(&self) -> bool {
        !self.probes.is_empty()
    }

    /// Some probe is made by gRPC.
    #[must_use]
    pub fn has_grpc(&self) -> bool {
        self.grpc
    }

    /// A GET for a probe's path, query included, from a `kube-probe/` user agent (what the kubelet sends unless the probe
    /// names another) or with all of that probe's own headers; or a health check of that user agent.
    #[must_use]
    pub fn matches(&self, head: &RequestHead<'_>) -> bool {
        let has = |name: &str, value: &str| head.values(name).any(|found| found == value.trim().as_bytes());
        let kubelet = || head.values("user-agent").any(|agent| agent.starts_with(b"kube-probe/"));
        if self.grpc && head.path() == GRPC_CHECK {
            return head.method() == "POST" && kubelet();
        }
        head.method() == "GET"
            && self.probes.iter().any(|probe| {
                probe.path == head.target()
                    && (kubelet()
                        || (!probe.headers.is_empty() && probe.headers.iter().all(|(name, value)| has(name, value))))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::FieldStorage;

    #[test]
    fn probes() {
        let probe = |path: &str, headers: &[(&str, &str)]| HttpProbe {
            path: path.into(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        };
        let matcher = ProbeMatcher::new(
            [
                probe("healthz", &[]),
                probe("/ready?deep=1", &[("X-Probe", "yes"), ("Host", "app.local")]),
                probe("/agent", &[("User-Agent", "mine/1")]),
            ],
            true,
        );
        let check = |head: &str, expect: bool| {
            let mut storage = FieldStorage::default();
            let head = RequestHead::parse(head.as_bytes(), &mut storage).unwrap();
            assert_eq!(matcher.matches(&head), expect, "{}", head.bytes().escape_ascii());
        };
        check(
            "GET /healthz HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.34\r\n\r\n",
            true,
        );
        check(
            "GET /healthz HTTP/1.1\r\nHost: a\r\nuser-agent:   kube-probe/1.34  \r\n\r\n",
            true,
        );
        check("GET /healthz HTTP/1.1\r\nHost: a\r\nUser-Agent: curl/8\r\n\r\n", false);
        check(
            "GET /healthz?x HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.34\r\n\r\n",
            false,
        );
        check(
            "POST /healthz HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.34\r\n\r\n",
            false,
        );
        check("GET / HTTP/1.1\r\nUser-Agent: kube-probe/1.34\r\n\r\n", false);
        check(
            "GET /ready?deep=1 HTTP/1.1\r\nHost: app.local\r\nx-probe: yes\r\n\r\n",
            true,
        );
        check("GET /ready?deep=1 HTTP/1.1\r\nHost: app.local\r\n\r\n", false);
        check("GET /ready HTTP/1.1\r\nHost: app.local\r\nx-probe: yes\r\n\r\n", false);
        check("GET /agent HTTP/1.1\r\nUser-Agent: mine/1\r\n\r\n", true);
        check("GET /agent HTTP/1.1\r\nUser-Agent: kube-probe/1\r\n\r\n", true);
        let grpc = |method, path, agent: &'static [u8]| {
            let fields = [httparse::Header {
                name: "user-agent",
                value: agent,
            }];
            matcher.matches(&RequestHead::http2(method, path, None, &fields))
        };
        assert!(grpc(
            "POST",
            "/grpc.health.v1.Health/Check",
            b"kube-probe/1.34 grpc-go/1.72"
        ));
        assert!(!grpc("POST", "/grpc.health.v1.Health/Check", b"grpc-go/1.72"));
        assert!(!grpc("POST", "/grpc.health.v1.Health/Watch", b"kube-probe/1.34"));
    }
}
