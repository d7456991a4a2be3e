//! Connections that reach the real app past a steal: something in the pod's network leads them around the packet rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nft::Connection;
use tokio_util::sync::CancellationToken;

use super::Intercept;

/// How often the stolen ports are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// How long after one was found it is looked for once more: one of ours has both its ends by then, or none.
const AGAIN: Duration = Duration::from_millis(100);

/// Looks until the rules are gone.
pub(super) async fn watch(intercept: Arc<Intercept>, stop: CancellationToken) {
    let mut ports: BTreeMap<u16, Seen> = BTreeMap::new();
    let mut ticks = tokio::time::interval(EVERY);
    let mut sockets = None;
    // Whoever was connecting when the rules came is older than the steal.
    ticks.tick().await;
    let mut found = false;
    loop {
        let again = std::mem::take(&mut found);
        let pause = async {
            if again {
                tokio::time::sleep(AGAIN).await;
            } else {
                ticks.tick().await;
            }
        };
        if stop.run_until_cancelled(pause).await.is_none() {
            return;
        }
        let stolen = intercept.lock().claims.ports();
        ports.retain(|port, _| stolen.contains(port));
        // The kernel goes through all sockets of all pods to list those of one port, which takes it a millisecond and more.
        let now = tcp_sockets();
        let is_known = |port| ports.get(port).is_some_and(|seen: &Seen| seen.before.is_empty());
        if now.is_some() && now == sockets && stolen.iter().all(is_known) {
            continue;
        }
        sockets = now;
        for port in stolen {
            // The app's ends first: an end of ours that has been closed meanwhile is looked for once more.
            let (Ok(app), Ok(own)) = (nft::connections(port), nft::connections_to(port)) else {
                return;
            };
            let seen = ports.entry(port).or_default();
            if seen.look(app, &own) {
                intercept.tell(port, &words(port));
            } else if !again {
                found |= !seen.before.is_empty();
            }
        }
    }
}

/// How many TCP sockets the pod has, by family; `None` where the kernel does not say.
fn tcp_sockets() -> Option<[u64; 2]> {
    let read = |file: &str, name| {
        in_use(
            &std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok()?,
            name,
        )
    };
    Some([read("sockstat", "TCP:")?, read("sockstat6", "TCP6:").unwrap_or(0)])
}

/// `TCP: inuse 5 orphan 0 tw 0 alloc 12 mem 3` (proc_pid_net(5)).
fn in_use(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_prefix("inuse ")?.split(' ').next()?.parse().ok()
}

/// What was seen of one port.
#[derive(Debug, Default)]
struct Seen {
    /// Older than the steal; `None` before the first look.
    older: Option<BTreeSet<Connection>>,
    /// At the last look, without another end in the pod.
    before: BTreeSet<Connection>,
}

impl Seen {
    /// Whether a connection has come past the steal. `app` are the ends that have the port, `own` those in the pod that are
    /// connected to it: the agent's, with the client's address in place of its own, and the pod's own clients.
    fn look(&mut self, app: Vec<Connection>, own: &[Connection]) -> bool {
        let Some(older) = &mut self.older else {
            self.older = Some(app.into_iter().collect());
            return false;
        };
        let app: BTreeSet<_> = app.into_iter().collect();
        older.retain(|connection| app.contains(connection));
        let here: BTreeSet<_> = app.iter().map(|connection| connection.local).collect();
        let own = own.iter().filter(|connection| here.contains(&connection.remote));
        let own: BTreeSet<u16> = own.map(|connection| connection.local.port()).collect();
        let known: BTreeSet<u16> = app.iter().map(|connection| connection.remote.port()).collect();
        let strange = app.into_iter();
        let mut strange: BTreeSet<_> = strange
            .filter(|connection| !older.contains(connection) && !own.contains(&connection.remote.port()))
            .collect();
        // Where the kernel had to give one of ours another port, neither of its ends finds the other.
        if strange.len() <= own.difference(&known).count() {
            strange.clear();
        }
        let before = std::mem::replace(&mut self.before, strange);
        !self.before.is_disjoint(&before)
    }
}

fn words(port: u16) -> String {
    format!(
        "port {port}: connections that are younger than the steal are with the real app, past this session: a service mesh or \
         the cluster's network leads them around the pod's packet rules; see docs/check.md"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(local: u16, remote: u16) -> Connection {
        let at = |port| std::net::SocketAddr::from(([10, 0, 0, 1], port));
        Connection {
            local: at(local),
            remote: at(remote),
        }
    }

    #[test]
    fn sockets_are_counted_by_family() {
        let text = "sockets: used 290\nTCP: inuse 7 orphan 0 tw 3 alloc 14 mem 4\nUDP: inuse 2 mem 0\n";
        assert_eq!(in_use(text, "TCP:"), Some(7));
        assert_eq!(in_use("TCP6: inuse 3\nUDP6: inuse 2\n", "TCP6:"), Some(3));
        assert_eq!(in_use("TCP6: inuse 3\n", "TCP:"), None);
        assert!(tcp_sockets().is_some());
    }

    #[test]
    fn who_came_later_and_stays_without_an_end_of_ours() {
        let mut seen = Seen::default();
        let (older, ours, past) = (connection(80, 1), connection(80, 2), connection(80, 3));
        let own = [connection(2, 80)];
        assert!(!seen.look(vec![older], &[]));
        assert!(!seen.look(vec![older, ours], &own));
        assert!(!seen.look(vec![older, ours, past], &own), "it may be over at once");
        assert!(seen.look(vec![older, ours, past], &own));
        // An end of ours is closed before the app's.
        assert!(!seen.look(vec![older, ours], &[]));
        assert!(!seen.look(vec![], &[]));
        assert!(!seen.look(vec![older], &[]));
        assert!(seen.look(vec![older], &[]), "the address is used again");
        let renamed = [connection(5, 80)];
        assert!(!seen.look(vec![connection(80, 4)], &renamed));
        assert!(!seen.look(vec![connection(80, 4)], &renamed));
        assert!(!seen.look(vec![connection(80, 4), past], &renamed));
        assert!(seen.look(vec![connection(80, 4), past], &renamed));
    }
}
