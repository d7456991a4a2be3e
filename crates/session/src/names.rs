//! Names in the app's own DNS traffic: which are answered by this machine, and which address came from which name.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use rules::{NameRules, Place};
use tokio::net::UdpSocket;

/// Addresses remembered, at most; the oldest half goes when it is reached.
const MAX_ADDRESSES: usize = 16_384;
/// Names remembered for one address, newest first.
const MAX_NAMES: usize = 8;
/// How long the machine's resolver may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the session learned from DNS answers.
pub(crate) struct Names {
    rules: NameRules,
    /// The machine's own name servers, read before the app's view of /etc/resolv.conf changed.
    machine: Vec<SocketAddr>,
    learned: Mutex<HashMap<IpAddr, Vec<String>>>,
}

impl Names {
    pub(crate) fn new(rules: NameRules, resolv_conf: &str) -> Self {
        Self {
            rules,
            machine: name_servers(resolv_conf),
            learned: Mutex::default(),
        }
    }

    /// Whether this datagram asks for a name that is the machine's to answer.
    pub(crate) fn is_local_question(&self, datagram: &[u8]) -> bool {
        if self.rules.on && self.rules.local.is_empty() && self.rules.remote.is_empty() {
            return false;
        }
        let Ok(message) = Message::from_vec(datagram) else {
            return false;
        };
        message
            .queries
            .first()
            .is_some_and(|query| self.rules.decide(&query.name().to_utf8()).place == Place::Local)
    }

    /// Remembers the addresses of an answer under the name that was asked, CNAMEs included.
    pub(crate) fn learn(&self, datagram: &[u8]) {
        let Ok(message) = Message::from_vec(datagram) else {
            return;
        };
        let Some(query) = message.queries.first() else { return };
        let name = query.name().to_utf8().trim_end_matches('.').to_owned();
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        for record in &message.answers {
            let address = match &record.data {
                RData::A(a) => IpAddr::V4(a.0),
                RData::AAAA(aaaa) => IpAddr::V6(aaaa.0),
                _ => continue,
            };
            remember(&mut learned, address, &name);
        }
    }

    /// Whether the session asks the pod for this name.
    pub(crate) fn is_remote(&self, name: &str) -> bool {
        self.rules.decide(name).place == Place::Remote
    }

    /// Remembers addresses under the name that was asked.
    pub(crate) fn learn_addresses(&self, name: &str, addresses: &[IpAddr]) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        for address in addresses {
            remember(&mut learned, *address, name);
        }
    }

    /// Names under which `address` was resolved, newest first.
    pub(crate) fn of(&self, address: IpAddr) -> Vec<String> {
        self.learned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&address)
            .cloned()
            .unwrap_or_default()
    }

    /// Puts the question as it is to the machine's name servers, one after the other.
    pub(crate) async fn ask_machine(&self, question: &[u8]) -> io::Result<Vec<u8>> {
        let mut last = io::Error::other("this machine has no name server in /etc/resolv.conf");
        for server in &self.machine {
            match tokio::time::timeout(PATIENCE, ask(*server, question)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(_) => {
                    let what = format!("no answer from {server} within {PATIENCE:?}");
                    last = io::Error::new(io::ErrorKind::TimedOut, what);
                }
            }
        }
        Err(last)
    }
}

fn remember(learned: &mut HashMap<IpAddr, Vec<String>>, address: IpAddr, name: &str) {
    if learned.len() >= MAX_ADDRESSES {
        learned.clear();
    }
    let names = learned.entry(address).or_default();
    names.retain(|known| known != name);
    names.insert(0, name.to_owned());
    names.truncate(MAX_NAMES);
}

async fn ask(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; wire::message::MAX_DATAGRAM];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

/// The `nameserver` lines of a resolv.conf(5).
fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, 53))
        .collect()
}

/// Any bytes, as the app or a name server may send them.
pub fn fuzz(data: &[u8]) {
    let names = Names::new(
        NameRules {
            on: true,
            local: vec![rules::NamePattern::new("*.local")],
            remote: Vec::new(),
        },
        &String::from_utf8_lossy(data),
    );
    names.is_local_question(data);
    names.learn(data);
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode, Query};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, Record, RecordType};
    use rules::NamePattern;

    use super::*;

    fn question(name: &str) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        message
    }

    #[test]
    fn listed_names_are_the_machines() {
        let names = Names::new(
            NameRules {
                on: true,
                local: vec![NamePattern::new("*.corp")],
                remote: Vec::new(),
            },
            "",
        );
        for (name, local) in [
            ("git.corp.", true),
            ("GIT.Corp.", true),
            ("corp.", false),
            ("web.default.svc.cluster.local.", false),
        ] {
            assert_eq!(
                names.is_local_question(&question(name).to_vec().unwrap()),
                local,
                "{name}"
            );
        }
    }

    #[test]
    fn an_answer_names_its_addresses() {
        let names = Names::new(NameRules::default(), "");
        let mut answer = question("db.default.svc.");
        answer.add_answer(Record::from_rdata(
            Name::from_ascii("x.").unwrap(),
            5,
            RData::A(A::new(10, 1, 2, 3)),
        ));
        names.learn(&answer.to_vec().unwrap());
        assert_eq!(names.of([10, 1, 2, 3].into()), ["db.default.svc"]);
        names.learn(b"not dns");
    }

    #[test]
    fn name_servers_of_a_resolv_conf() {
        let text = "# comment\nnameserver 10.96.0.10\nsearch a b\nnameserver ::1\nnameserver nonsense\n";
        assert_eq!(
            name_servers(text),
            [SocketAddr::from(([10, 96, 0, 10], 53)), "[::1]:53".parse().unwrap()]
        );
    }
}
