//! Whether what is sent to the pod reaches the app: tried by the agent, told in words.

use std::net::SocketAddr;

use guest::event::Event;
use wire::ControlClient;
use wire::message::{CheckOutcome, Checked, Fault, ReplyBody, RequestBody};

use crate::guests::Guests;

/// Tries a port that is claimed, and says what became of it.
pub(crate) async fn check(control: ControlClient, port: u16, guests: Guests) {
    let told = match control.call(RequestBody::Check(port)).await {
        Ok(ReplyBody::Checked(checked)) => checked.into_iter().map(words).collect(),
        Ok(ReplyBody::Failed(Fault { what, .. })) => vec![not_tried(&what)],
        Ok(_) => vec![not_tried("the agent answered something else")],
        // The session is ending, which is said elsewhere.
        Err(_) => return,
    };
    for (reached, message) in told {
        guests.event(Event::Checked { port, reached, message });
    }
}

fn not_tried(why: &str) -> (bool, String) {
    (
        false,
        format!("it could not be tried whether connections come through: {why}"),
    )
}

fn words(Checked { address, outcome }: Checked) -> (bool, String) {
    let of = |address: SocketAddr| format!("a connection to the pod's address {}", address.ip());
    match outcome {
        CheckOutcome::Arrived => (
            true,
            format!(
                "{} came through to this session (from inside the pod; its Services were not tried, see docs/check.md)",
                of(address)
            ),
        ),
        CheckOutcome::Missed => (
            false,
            format!(
                "{} was taken by somebody else, past this session: a service mesh or the cluster's network may lead \
                 connections around the pod's packet rules; see docs/check.md",
                of(address)
            ),
        ),
        CheckOutcome::Failed(why) => (
            false,
            format!(
                "{} failed ({why}): does the real app listen on this address?",
                of(address)
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_in_words() {
        let said = |outcome| {
            let address = "10.0.0.1:80".parse().expect("an address");
            words(Checked { address, outcome })
        };
        let (reached, text) = said(CheckOutcome::Arrived);
        assert!(
            reached && text.starts_with("a connection to the pod's address 10.0.0.1 came through"),
            "{text}"
        );
        let (reached, text) = said(CheckOutcome::Missed);
        assert!(!reached && text.contains("past this session"), "{text}");
        let (reached, text) = said(CheckOutcome::Failed("refused".to_owned()));
        assert!(!reached && text.contains("failed (refused)"), "{text}");
    }
}
