//! A pod of a test's own, someone in the cluster who calls it, and sessions on it.

use std::net::SocketAddr;

use testbed::{FreshPod, Pod};

use crate::network::Network;
use crate::session::Session;
use crate::{http::Http, processes, shop, testbed, wait_until};

#[derive(Debug)]
pub struct Stage {
    pub pod: Pod,
    /// Of the pod that calls.
    pub client: Network,
    /// The pod's packet rules before any session.
    pub rules: String,
    port: u16,
}

impl Stage {
    /// A shop that calls itself `real`, on port 8080.
    ///
    /// # Panics
    /// When the cluster cannot make the pod.
    #[must_use]
    pub fn new() -> Self {
        Self::of(&FreshPod {
            env: &[("SERVICE", "real")],
            ..FreshPod::default()
        })
    }

    /// # Panics
    /// When the cluster cannot make the pod.
    #[must_use]
    pub fn of(wanted: &FreshPod<'_>) -> Self {
        let admin = testbed().admin();
        let pod = admin.fresh_pod(wanted).unwrap_or_else(|error| panic!("{error}"));
        let client = Network::of(&admin.pod("default", "client").unwrap_or_else(|error| panic!("{error}")));
        let rules = pod.nft_ruleset().unwrap_or_else(|error| panic!("{error}"));
        Self {
            pod,
            client,
            rules,
            port: wanted.port.unwrap_or(8080),
        }
    }

    /// `inpod exec -t pod/...`.
    #[must_use]
    pub fn session(&self, flags: &[&str], program: &[&str]) -> Session {
        Session::start(&format!("pod/{}", self.pod.name), flags, program)
    }

    /// A session whose app is a shop that calls itself `name`; in force when this returns.
    #[must_use]
    pub fn with_local_shop(&self, flags: &[&str], name: &str) -> Session {
        self.with_local(flags, name, "web")
    }

    /// The same with another of the shop's services.
    #[must_use]
    pub fn with_local(&self, flags: &[&str], name: &str, service: &str) -> Session {
        let mut session = self.session(
            flags,
            &[
                "env",
                &format!("SERVICE={name}"),
                &shop().display().to_string(),
                service,
            ],
        );
        session.wait_for_claim(self.port);
        session
    }

    /// # Panics
    /// When the pod has no address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.pod.ip.parse().expect("the pod has an address"), self.port)
    }

    /// A new connection to the pod, for HTTP.
    ///
    /// # Panics
    /// When nobody takes it.
    #[must_use]
    pub fn connect(&self) -> Http {
        Http::connect(&self.client, self.address()).unwrap_or_else(|error| {
            let mut see = self.pod.in_network("sh").expect("the pod has a process");
            see.args(["-c", "ss -Htlnp; ss -Htan | head -50; cat /proc/net/nf_conntrack"]);
            let seen = see
                .output()
                .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            let processes = self.pod.processes();
            panic!(
                "the pod takes no connection: {error}\n{}\n{seen:?}\n{processes:#?}",
                self.rules_now()
            )
        })
    }

    /// Who answers a request over a new connection.
    ///
    /// # Panics
    /// When nobody does.
    #[must_use]
    pub fn who_answers(&self, headers: &[&str]) -> String {
        self.connect()
            .get("/", headers)
            .expect("somebody answers")
            .service()
            .to_owned()
    }

    /// # Panics
    /// When they cannot be read.
    #[must_use]
    pub fn rules_now(&self) -> String {
        self.pod.nft_ruleset().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until the pod's packet rules are as before any session.
    ///
    /// # Panics
    /// When they stay.
    pub fn wait_for_own_rules(&self) {
        wait_until("the pod's own packet rules", || self.rules_now() == self.rules);
    }

    /// The agent, as the machine sees it.
    #[must_use]
    pub fn agent(&self) -> Option<u32> {
        let agent = self.pod.running("agent").ok()??;
        u32::try_from(agent.pid).ok()
    }

    /// What the agent and the session's server have in memory.
    ///
    /// # Panics
    /// When either has ever been as large as 64 MB.
    #[must_use]
    pub fn assert_small(&self, session: &Session) -> String {
        let server = processes::server(session.pid()).expect("a session has a server");
        let agent = self.agent().expect("the pod has an agent");
        let part = |name: &str, pid: u32| {
            let (now, peak) = processes::memory(pid).expect("it runs");
            assert!(peak < 64_000_000 / 1024, "{name} took {peak} KiB");
            format!("{name}: {now} KiB, {peak} KiB at its peak")
        };
        format!("{}; {}", part("server", server), part("agent", agent))
    }

    /// The kubelet finds the pod ready, and has never had to start it again.
    ///
    /// # Panics
    /// When it is not so.
    pub fn assert_well(&self) {
        let container = self.container_status();
        let found = (container["ready"].as_bool(), container["restartCount"].as_u64());
        assert_eq!(found, (Some(true), Some(0)), "{container}");
    }

    /// The kubelet finds the pod ready now.
    ///
    /// # Panics
    /// When there is no pod.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.container_status()["ready"] == true
    }

    fn container_status(&self) -> serde_json::Value {
        let kubectl = crate::testbed().admin().kubectl;
        let place = ["--namespace", &self.pod.namespace];
        let pod = kubectl.json(&[&["get", "pod", &self.pod.name], &place[..]].concat());
        let pod = pod.expect("it is there");
        let all = pod["status"]["containerStatuses"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        // A proxy beside the app is sorted before it.
        let main = all.iter().find(|container| container["name"] == "main");
        main.or(all.first()).cloned().unwrap_or_default()
    }

    /// No zombie in any of the pod's containers.
    #[must_use]
    pub fn zombies(&self) -> Vec<String> {
        let processes = self.pod.processes().unwrap_or_default();
        processes
            .into_iter()
            .filter(|process| process.state == 'Z')
            .map(|process| process.name)
            .collect()
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}
