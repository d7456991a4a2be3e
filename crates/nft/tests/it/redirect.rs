use std::collections::BTreeSet;
use std::time::Duration;

use nft::{Error, Socket, Table, original_destination};

use crate::world::*;

const SHORT: Duration = Duration::from_millis(300);

fn stealing(world: &World, config: &nft::Config) -> Table {
    world.pod.within(|| {
        let mut table = Table::create(&Socket::open().unwrap(), config).unwrap();
        table.set_ports(&BTreeSet::from([APP])).unwrap();
        table
    })
}

#[test]
fn connections_from_outside_arrive_at_the_listener_with_their_destination() {
    let world = World::new();
    let (app, listener) = world.servers();
    let other = world.pod.within(|| listen(APP + 1));
    let _table = stealing(
        &world,
        &nft::Config {
            own_addresses_only: true,
            ..config()
        },
    );
    for ip in POD {
        let mut client = world.peer.within(|| connect(address(ip, APP), From::default()));
        let mut taken = accept(&listener);
        assert_eq!(original_destination(&taken), Ok(address(ip, APP)));
        assert_eq!(peer_of(&taken), client.local_addr().unwrap());
        talk(&mut client, &mut taken);
        let mut client = world.peer.within(|| connect(address(ip, APP + 1), From::default()));
        let mut accepted = accept(&other);
        assert_eq!(original_destination(&accepted), Err(Error::NotRedirected));
        talk(&mut client, &mut accepted);
    }
    assert!(try_accept(&app, Duration::ZERO).is_none());
}

#[test]
fn single_family_listeners_work_too() {
    let world = World::new();
    let (any4, any6) = (address("0.0.0.0", LISTENER), address("::", LISTENER));
    let listeners = world.pod.within(|| {
        let six = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
        six.set_only_v6(true).unwrap();
        six.bind(&any6.into()).unwrap();
        six.listen(8).unwrap();
        [std::net::TcpListener::bind(any4).unwrap(), six.into()]
    });
    let _table = stealing(&world, &config());
    for (ip, listener) in POD.into_iter().zip(&listeners) {
        let mut client = world.peer.within(|| connect(address(ip, APP), From::default()));
        let mut taken = accept(listener);
        assert_eq!(original_destination(&taken), Ok(address(ip, APP)));
        talk(&mut client, &mut taken);
    }
}

#[test]
fn connections_within_the_pod_are_redirected_unless_they_are_ours() {
    let world = World::new();
    let (app, listener) = world.servers();
    let table = stealing(&world, &config());
    for ip in [POD[0], POD[1], "127.0.0.1", "::1"] {
        let mut client = world.pod.within(|| connect(address(ip, APP), From::default()));
        let mut taken = accept(&listener);
        assert_eq!(original_destination(&taken), Ok(address(ip, APP)));
        talk(&mut client, &mut taken);
        let mark = Some(table.own_mark());
        let mut ours = world.pod.within(|| {
            connect(
                address(ip, APP),
                From {
                    mark,
                    ..From::default()
                },
            )
        });
        let mut accepted = accept(&app);
        assert_eq!(peer_of(&accepted), ours.local_addr().unwrap());
        talk(&mut ours, &mut accepted);
    }
}

/// As Istio's and Linkerd's init containers lay it: everything from outside but a few ports.
const MESH: &str = "table inet mesh {
    chain prerouting {
        type nat hook prerouting priority dstnat
        tcp dport != 8081 redirect to :15006
    }
}";

#[test]
fn what_a_mesh_sidecar_takes_is_taken_when_it_hands_it_on() {
    let world = World::new();
    let (_app, listener) = world.servers();
    let sidecar = world.pod.within(|| listen(15006));
    world.pod.load(MESH);
    let mut table = stealing(&world, &config());
    table.set_ports(&BTreeSet::from([APP, 8081])).unwrap();
    for (ip, own) in [(POD[0], "127.0.0.6"), (POD[1], "::1")] {
        let mut outside = world.peer.within(|| connect(address(ip, APP), From::default()));
        talk(&mut outside, &mut accept(&sidecar));
        assert!(try_accept(&listener, Duration::ZERO).is_none());
        let from = From {
            ip: Some(own),
            ..From::default()
        };
        let mut handed_on = world.pod.within(|| connect(address(ip, APP), from));
        talk(&mut handed_on, &mut accept(&listener));
        // A port that the mesh leaves alone.
        let mut outside = world.peer.within(|| connect(address(ip, 8081), From::default()));
        talk(&mut outside, &mut accept(&listener));
    }
}

#[test]
fn what_nobody_listens_on_is_refused_to_the_node_and_to_nobody_else() {
    let world = World::new();
    let listener = world.pod.within(|| listen(LISTENER));
    let mut table = stealing(&world, &config());
    let nodes = BTreeSet::from([PEER4[0], PEER6[0]].map(|ip| ip.parse().unwrap()));
    let from = |ip, hops| From {
        ip: Some(ip),
        hops,
        ..From::default()
    };
    table.set_refused(&BTreeSet::from([APP]), &nodes).unwrap();
    for (pod, own, other) in [(POD[0], PEER4[0], PEER4[1]), (POD[1], PEER6[0], PEER6[1])] {
        let refused = world
            .peer
            .within(|| try_connect(address(pod, APP), from(own, None), PATIENCE));
        assert_eq!(
            refused.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionRefused,
            "{own}"
        );
        // Another pod beside it, and what the node has sent on in its own name.
        for from in [from(other, None), from(own, Some(63))] {
            let mut client = world.peer.within(|| connect(address(pod, APP), from));
            talk(&mut client, &mut accept(&listener));
        }
    }
    table.set_refused(&BTreeSet::new(), &nodes).unwrap();
    for (pod, own) in [(POD[0], PEER4[0]), (POD[1], PEER6[0])] {
        let mut client = world.peer.within(|| connect(address(pod, APP), from(own, None)));
        talk(&mut client, &mut accept(&listener));
    }
    table.set_refused(&BTreeSet::from([APP]), &BTreeSet::new()).unwrap();
    assert!(table.set_refused(&BTreeSet::from([0]), &nodes).is_err());
    let mut client = world
        .peer
        .within(|| connect(address(POD[0], APP), from(PEER4[0], None)));
    talk(&mut client, &mut accept(&listener));
}

#[test]
fn the_listener_is_closed_to_direct_connections() {
    let world = World::new();
    let (_app, listener) = world.servers();
    let table = stealing(&world, &config());
    for (namespace, ip) in [
        (&world.peer, POD[0]),
        (&world.peer, POD[1]),
        (&world.pod, POD[0]),
        (&world.pod, "127.0.0.1"),
        (&world.pod, "::1"),
    ] {
        let result = namespace.within(|| try_connect(address(ip, LISTENER), From::default(), SHORT));
        assert_eq!(
            result.unwrap_err().kind(),
            std::io::ErrorKind::TimedOut,
            "direct to {ip}"
        );
    }
    assert!(try_accept(&listener, Duration::ZERO).is_none());
    // Without the table the same connection succeeds: it was the rule.
    drop(table);
    for ip in POD {
        let mut client = world.peer.within(|| connect(address(ip, LISTENER), From::default()));
        let mut accepted = accept(&listener);
        assert_eq!(original_destination(&accepted), Err(Error::NotRedirected));
        talk(&mut client, &mut accepted);
    }
}

#[test]
fn the_set_of_ports_is_declarative() {
    let world = World::new();
    let (app, listener) = world.servers();
    let mut table = stealing(&world, &config());
    for (ports, redirected) in [
        (BTreeSet::from([1, 2, 3]), false),
        (BTreeSet::from([3, APP]), true),
        (BTreeSet::from([3, APP]), true),
        ((1..=1024).map(|port| port + APP - 1).collect(), true),
        (BTreeSet::new(), false),
    ] {
        table.set_ports(&ports).unwrap();
        assert_eq!(table.ports(), &ports);
        for ip in POD {
            let mut client = world.peer.within(|| connect(address(ip, APP), From::default()));
            let expect = if redirected { &listener } else { &app };
            talk(&mut client, &mut accept(expect));
        }
    }
    let too_many = (1..=1025).collect();
    assert!(matches!(table.set_ports(&too_many), Err(Error::TooMany { .. })));
    assert!(matches!(
        table.set_ports(&BTreeSet::from([LISTENER])),
        Err(Error::Config { .. })
    ));
    assert!(table.ports().is_empty());
}
