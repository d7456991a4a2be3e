//! Connections through Services that lead back to the pod: the client's side translates addresses as a node does.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use common::{CLIENT, POD, Session, Spawned, World, in_time, world};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::message::{
    Check, CheckOutcome, Checked, ClaimMode, ClaimState, MAX_CONNECTIONS, Open, ReplyBody, RequestBody, ServiceAddress,
};

const PORT: u16 = 8080;

/// As a node's: a Service's address becomes an endpoint's, and where that is the client itself, the client's becomes the
/// node's, with another port.
const NODE: &str = "
table inet services {
    chain prerouting {
        type nat hook prerouting priority -100
        ip daddr 10.99.0.1 tcp dport 80 dnat ip to 10.77.0.2:8080
        ip6 daddr fd99::1 tcp dport 80 dnat ip6 to [fd77::2]:8080
        ip daddr 10.99.0.2 tcp dport 80 dnat ip to numgen inc mod 3 map { 0 : 10.77.0.1, 1 : 10.77.0.1, 2 : 10.77.0.2 }:8080
        ip daddr 10.99.0.3 tcp dport 80 dnat ip to 10.77.0.1:8080
        ip daddr 10.99.0.4 tcp dport 80 dnat ip to 10.77.0.1:9
    }
    chain postrouting {
        type nat hook postrouting priority 100
        ip saddr 10.77.0.2 ip daddr 10.77.0.2 masquerade fully-random
        ip6 saddr fd77::2 ip6 daddr fd77::2 masquerade fully-random
    }
}";

/// The pod's way out is a node with Services; pod and node each have an app.
fn node() -> World {
    let world = world();
    for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
        world.client.run(&["sysctl", "-qw", setting]);
    }
    let route = world.client.run(&["ip", "-4", "route", "show", "10.77.0.0/24"]);
    let device = route.split_whitespace().nth(2).unwrap();
    world
        .client
        .run(&["ip", "addr", "add", "fd77::1/64", "dev", device, "nodad"]);
    world.client.run(&["nft", NODE]);
    world
        .pod
        .run(&["ip", "addr", "add", "fd77::2/64", "dev", "eth0", "nodad"]);
    world.pod.run(&["ip", "route", "add", "default", "via", CLIENT]);
    world.pod.run(&["ip", "route", "add", "default", "via", "fd77::1"]);
    app(&world.client);
    app(&world.pod);
    world
}

/// Takes what comes and keeps it.
fn app(at: &Spawned) {
    let listener = at.listen(&format!("[::]:{PORT}"));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
            });
        }
    });
}

async fn holding(world: &World, mode: ClaimMode) -> Session {
    let session = common::direct(world.pod.pid).await;
    let states = session.claims(vec![common::claim(PORT, mode)]).await;
    assert_eq!(states, [ClaimState::Active { older: 0 }]);
    session
}

async fn check(session: &Session, services: &[&str]) -> Vec<Checked> {
    let service = |address: &&str| ServiceAddress {
        name: format!("of {address}"),
        address: address.parse().unwrap(),
    };
    let services = services.iter().map(service).collect();
    match session.call(RequestBody::Check(Check { port: PORT, services })).await {
        ReplyBody::Checked(checked) => checked,
        other => panic!("{other:?}"),
    }
}

async fn what_comes_back(mode: ClaimMode) {
    let world = node();
    let mut session = holding(&world, mode).await;
    let found = check(
        &session,
        &[
            "10.99.0.1:80",
            "[fd99::1]:80",
            "10.99.0.2:80",
            "10.99.0.3:80",
            "10.99.0.4:80",
        ],
    )
    .await;
    let (own, through): (Vec<_>, Vec<_>) = found.into_iter().partition(|checked| checked.service.is_none());
    let own: Vec<_> = own
        .iter()
        .map(|one| (one.address.to_string(), one.outcome.clone()))
        .collect();
    let arrived = CheckOutcome::Arrived(1);
    assert_eq!(
        own,
        [
            (format!("{POD}:{PORT}"), arrived.clone()),
            (format!("[fd77::2]:{PORT}"), arrived.clone())
        ]
    );
    for one in &through {
        assert_eq!(one.service, Some(format!("of {}", one.address)));
    }
    let mut outcomes: Vec<_> = through.into_iter().map(|one| one.outcome).collect();
    let refused = outcomes.pop();
    assert!(
        matches!(&refused, Some(CheckOutcome::Failed(why)) if why.contains("refused")),
        "{refused:?}"
    );
    assert_eq!(
        outcomes,
        [
            arrived.clone(),
            arrived,
            CheckOutcome::Arrived(3),
            CheckOutcome::Missed(MAX_CONNECTIONS)
        ]
    );
    // Nobody has seen them: the first that comes to the session is the first of a client.
    let mut client = world.client.connect(&format!("{POD}:{PORT}")).unwrap();
    client.write_all(b"hello").await.unwrap();
    let (open, mut stream) = in_time(session.acceptor.next()).await.unwrap().unwrap();
    let Open::Incoming(incoming) = open else {
        panic!("{open:?}")
    };
    assert_eq!(incoming.client, client.local_addr().unwrap());
    let mut said = [0; 5];
    in_time(stream.read_exact(&mut said)).await.unwrap();
    assert_eq!(&said, b"hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_through_a_service_comes_to_a_steal() {
    what_comes_back(ClaimMode::Steal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_through_a_service_comes_to_a_mirror() {
    what_comes_back(ClaimMode::Mirror).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_known_without_timestamps_too() {
    let world = node();
    world.pod.run(&["sysctl", "-qw", "net.ipv4.tcp_timestamps=0"]);
    let session = holding(&world, ClaimMode::Steal).await;
    let found = check(&session, &["10.99.0.1:80"; 20]).await;
    let through = found.iter().filter(|checked| checked.service.is_some());
    let outcomes: Vec<_> = through.map(|checked| &checked.outcome).collect();
    assert_eq!(
        outcomes,
        [&CheckOutcome::Arrived(1); wire::message::MAX_SERVICES],
        "and no more"
    );
}

/// What is led around the packet rules is nobody's but the real app's, through a Service as without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_led_around_a_steal_is_missed() {
    let world = node();
    let session = holding(&world, ClaimMode::Steal).await;
    world.pod.run(&[
        "nft",
        "table inet around { chain in { type filter hook prerouting priority -300; tcp dport 8080 notrack; }; }",
    ]);
    let found = check(&session, &["10.99.0.1:80"]).await;
    let missed = found.iter().find(|checked| checked.service.is_some());
    assert_eq!(
        missed.map(|checked| &checked.outcome),
        Some(&CheckOutcome::Missed(MAX_CONNECTIONS))
    );
}
