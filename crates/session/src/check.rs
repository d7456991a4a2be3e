//! Whether what is sent to the pod reaches the app: tried by the agent, told in words.

use std::net::SocketAddr;

use guest::event::Event;
use target::{Connector, PodServices, TargetError};
use tokio::sync::OnceCell;
use wire::ControlClient;
use wire::message::{Check, CheckOutcome, Checked, Fault, MAX_SERVICES, ReplyBody, RequestBody, ServiceAddress};

use crate::guests::Guests;

/// Tries ports, and knows the Services that lead to them.
pub(crate) struct Checker {
    connector: Connector,
    /// Listed when the first port is tried; `None` where the target is no pod.
    services: OnceCell<Option<PodServices>>,
}

impl Checker {
    pub(crate) fn new(connector: Connector) -> Self {
        Self {
            connector,
            services: OnceCell::new(),
        }
    }

    /// Tries a port that is claimed, and says what became of it.
    pub(crate) async fn check(&self, control: ControlClient, port: u16, guests: Guests) {
        let listed = self.services.get_or_try_init(|| self.connector.services()).await;
        let leading = listed.map(|services| services.as_ref().map(|services| services.leading_to(port)));
        let (services, note) = choose(leading);
        let told = match control.call(RequestBody::Check(Check { port, services })).await {
            Ok(ReplyBody::Checked(checked)) => tell(port, checked, note.as_deref()),
            Ok(ReplyBody::Failed(Fault { what, .. })) => vec![not_tried(port, &what)],
            Ok(_) => vec![not_tried(port, "the agent answered something else")],
            // The session is ending, which is said elsewhere.
            Err(_) => return,
        };
        for event in told {
            guests.event(event);
        }
    }
}

/// The Services to try, and what is to be said of those that are not.
fn choose(leading: Result<Option<Vec<target::ServiceAddress>>, TargetError>) -> (Vec<ServiceAddress>, Option<String>) {
    let leading = match leading {
        Ok(Some(leading)) => leading,
        Ok(None) => return (Vec::new(), None),
        Err(TargetError::Forbidden {
            verb,
            resource,
            namespace,
            ..
        }) => {
            let note = format!(
                "Services were not tried: that needs the right to `{verb}` `{resource}` in namespace `{namespace}`, see \
                 docs/check.md"
            );
            return (Vec::new(), Some(note));
        }
        Err(error) => return (Vec::new(), Some(format!("Services were not tried: {error}"))),
    };
    let note = match leading.len() {
        0 => Some("no Service of the namespace leads to it".to_owned()),
        many if many > MAX_SERVICES => Some(format!("of {many} addresses of Services {MAX_SERVICES} were tried")),
        _ => None,
    };
    let services = leading.into_iter().take(MAX_SERVICES);
    let services =
        services.map(|target::ServiceAddress { service, address }| ServiceAddress { name: service, address });
    (services.collect(), note)
}

/// An event for each address; the note goes with the last of the pod's own.
fn tell(port: u16, checked: Vec<Checked>, note: Option<&str>) -> Vec<Event> {
    let last = checked.iter().rposition(|checked| checked.service.is_none());
    let events = checked.into_iter().enumerate().map(|(place, checked)| {
        let (reached, mut message) = words(&checked);
        if let Some(note) = note.filter(|_| last == Some(place)) {
            message = format!("{message}; {note}");
        }
        Event::Checked {
            port,
            service: checked.service,
            address: Some(checked.address),
            reached,
            message,
        }
    });
    events.collect()
}

fn not_tried(port: u16, why: &str) -> Event {
    Event::Checked {
        port,
        service: None,
        address: None,
        reached: false,
        message: format!("it could not be tried whether connections come through: {why}"),
    }
}

fn words(checked: &Checked) -> (bool, String) {
    let message = match &checked.service {
        None => of_the_pod(checked.address, &checked.outcome),
        Some(service) => through(service, checked.address, &checked.outcome),
    };
    (matches!(checked.outcome, CheckOutcome::Arrived(_)), message)
}

fn of_the_pod(address: SocketAddr, outcome: &CheckOutcome) -> String {
    let connection = format!("a connection to the pod's address {}", address.ip());
    match outcome {
        CheckOutcome::Arrived(_) => format!("{connection} came through to this session (from inside the pod)"),
        CheckOutcome::Missed(_) => format!(
            "{connection} was taken by somebody else, past this session: a service mesh or the cluster's network may lead \
             connections around the pod's packet rules; see docs/check.md"
        ),
        CheckOutcome::Failed(why) => {
            format!("{connection} failed ({why}): does the real app listen on this address?")
        }
    }
}

fn through(service: &str, address: SocketAddr, outcome: &CheckOutcome) -> String {
    let way = format!("through Service {service} ({address})");
    match outcome {
        CheckOutcome::Arrived(1) => format!("a connection {way} came through to this session (from inside the pod)"),
        CheckOutcome::Arrived(number) => format!(
            "connection number {number} {way} came through to this session (from inside the pod), those before did not: the \
             Service leads to other pods, too, and not all that its clients send comes to this one"
        ),
        CheckOutcome::Missed(1) => {
            format!("a connection {way} was taken by somebody else, past this session{ELSEWHERE}")
        }
        CheckOutcome::Missed(count) => format!("none of {count} connections {way} came to this session{ELSEWHERE}"),
        CheckOutcome::Failed(why) => format!(
            "connections {way} failed ({why}): is the pod ready, and does the cluster's network lead a pod's connections back \
             to itself? See docs/check.md"
        ),
    }
}

const ELSEWHERE: &str = ": it may lead to other pods, or a service mesh, a proxy or the cluster's network takes them on the \
     way; see docs/check.md";

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(service: Option<&str>, outcome: CheckOutcome) -> Checked {
        Checked {
            service: service.map(str::to_owned),
            address: "10.0.0.1:80".parse().expect("an address"),
            outcome,
        }
    }

    #[test]
    fn each_outcome_in_words() {
        let failed = || CheckOutcome::Failed("refused".to_owned());
        for (service, outcome, reached, expect) in [
            (
                None,
                CheckOutcome::Arrived(1),
                true,
                "a connection to the pod's address 10.0.0.1 came through to this",
            ),
            (
                None,
                CheckOutcome::Missed(1),
                false,
                "address 10.0.0.1 was taken by somebody else, past this session:",
            ),
            (
                None,
                failed(),
                false,
                "a connection to the pod's address 10.0.0.1 failed (refused): does",
            ),
            (
                Some("web"),
                CheckOutcome::Arrived(1),
                true,
                "a connection through Service web (10.0.0.1:80) came through to",
            ),
            (
                Some("web"),
                CheckOutcome::Arrived(3),
                true,
                "connection number 3 through Service web (10.0.0.1:80) came through to",
            ),
            (
                Some("web"),
                CheckOutcome::Missed(16),
                false,
                "none of 16 connections through Service web (10.0.0.1:80) came",
            ),
            (
                Some("web"),
                CheckOutcome::Missed(1),
                false,
                "through Service web (10.0.0.1:80) was taken by somebody else",
            ),
            (
                Some("web"),
                failed(),
                false,
                "connections through Service web (10.0.0.1:80) failed (refused): is",
            ),
        ] {
            let (said, text) = words(&checked(service, outcome));
            assert!(said == reached && text.contains(expect), "{text}");
        }
    }

    #[test]
    fn what_is_not_tried_is_said_once_with_the_pods_addresses() {
        let arrived = |service| checked(service, CheckOutcome::Arrived(1));
        let all = vec![arrived(None), arrived(None), arrived(Some("web"))];
        let told = tell(80, all, Some("a note"));
        let noted: Vec<bool> = told
            .iter()
            .map(|event| event.to_string().ends_with("; a note"))
            .collect();
        assert_eq!(noted, [false, true, false]);
        let whose: Vec<_> = told
            .iter()
            .map(|event| match event {
                Event::Checked { service, reached, .. } => (service.as_deref(), *reached),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(whose, [(None, true), (None, true), (Some("web"), true)]);
    }

    #[test]
    fn which_services_are_tried() {
        let address = |number| target::ServiceAddress {
            service: format!("s{number}"),
            address: SocketAddr::from(([10, 0, 0, number], 80)),
        };
        let some = |count| Ok(Some((0..count).map(address).collect()));
        let refused = Err(TargetError::Forbidden {
            verb: "list",
            resource: "services",
            namespace: "shop".to_owned(),
            message: "services is forbidden".to_owned(),
        });
        let broken = Err(TargetError::Api {
            what: "list services".to_owned(),
            message: "no etcd".to_owned(),
        });
        for (leading, count, note) in [
            (some(2), 2, None),
            (some(16), 16, None),
            (some(17), 16, Some("of 17 addresses of Services 16 were tried")),
            (some(0), 0, Some("no Service of the namespace leads to it")),
            (Ok(None), 0, None),
            (refused, 0, Some("the right to `list` `services` in namespace `shop`")),
            (broken, 0, Some("Services were not tried: list services: no etcd")),
        ] {
            let (services, said) = choose(leading);
            assert_eq!(services.len(), count);
            assert_eq!(said.is_some(), note.is_some(), "{said:?}");
            assert!(said.unwrap_or_default().contains(note.unwrap_or_default()), "{note:?}");
        }
    }
}
