//! Client, listener, upstream, real app: the whole way.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use nft::{Socket, Table, original_destination};

use crate::world::*;

fn stealing(world: &World) -> Table {
    world.pod.within(|| {
        let mut table = Table::create(&Socket::open().unwrap(), &config()).unwrap();
        table.set_ports(&BTreeSet::from([APP])).unwrap();
        table
    })
}

#[test]
fn the_app_sees_each_client_s_own_address_and_port() {
    let world = World::new();
    let (app, listener) = world.servers();
    let mut table = stealing(&world);
    // All at once, so that the marks have to tell them apart.
    let mut open = Vec::new();
    for (pod, peers) in [(POD[0], PEER4), (POD[1], PEER6)] {
        for peer in peers {
            let from = From {
                ip: Some(peer),
                ..From::default()
            };
            let mut client = world.peer.within(|| connect(address(pod, APP), from));
            let mut taken = accept(&listener);
            let mark = table.add_client(peer_of(&taken).ip()).unwrap();
            let from = From {
                mark: Some(mark),
                port: peer_of(&taken).port(),
                ..From::default()
            };
            let original = original_destination(&taken).unwrap();
            let mut upstream = world.pod.within(|| connect(original, from));
            let mut accepted = accept(&app);
            assert_eq!(
                peer_of(&accepted),
                client.local_addr().unwrap(),
                "address and port are the client's"
            );
            assert_eq!(accepted.local_addr().unwrap().port(), APP);
            talk(&mut client, &mut taken);
            talk(&mut upstream, &mut accepted);
            open.push((client, taken, upstream, accepted));
        }
    }
    for (client, taken, upstream, accepted) in &mut open {
        talk(client, taken);
        talk(upstream, accepted);
    }
}

#[test]
fn two_clients_with_the_same_port_both_get_through() {
    let world = World::new();
    let (app, listener) = world.servers();
    let mut table = stealing(&world);
    let mut open = Vec::new();
    for peer in PEER4 {
        let from = From {
            ip: Some(peer),
            port: 40_000,
            ..From::default()
        };
        let client = world.peer.within(|| connect(address(POD[0], APP), from));
        let taken = accept(&listener);
        let mark = Some(table.add_client(peer_of(&taken).ip()).unwrap());
        // The pod can use its own port 40000 only once towards the app: the second takes any.
        let (bound, any) = (
            From {
                mark,
                port: 40_000,
                ..From::default()
            },
            From {
                mark,
                ..From::default()
            },
        );
        let mut upstream = world.pod.within(|| {
            try_connect(address(POD[0], APP), bound, PATIENCE).unwrap_or_else(|_| connect(address(POD[0], APP), any))
        });
        let mut accepted = accept(&app);
        assert_eq!(peer_of(&accepted).ip().to_string(), peer);
        talk(&mut upstream, &mut accepted);
        open.push((client, taken, upstream, accepted));
    }
    assert_eq!(peer_of(&open[0].3).port(), 40_000);
    assert_ne!(peer_of(&open[1].3).port(), 40_000);
}

#[test]
fn a_client_that_is_gone_loses_nothing_that_is_open() {
    let world = World::new();
    let (app, _listener) = world.servers();
    let mut table = stealing(&world);
    let first = table.add_client(PEER4[0].parse().unwrap()).unwrap();
    assert_eq!(
        table
            .add_client(format!("::ffff:{}", PEER4[0]).parse().unwrap())
            .unwrap(),
        first
    );
    let from = From {
        mark: Some(first),
        ..From::default()
    };
    let mut upstream = world.pod.within(|| connect(address(POD[0], APP), from));
    let mut accepted = accept(&app);
    assert_eq!(peer_of(&accepted).ip().to_string(), PEER4[0]);
    table.remove_client(PEER4[0].parse().unwrap());
    table.remove_client(PEER4[0].parse().unwrap());
    // As many others as are kept: the first is evicted from the kernel's map.
    for number in 0..1025u32 {
        let ip = std::net::Ipv4Addr::from_bits(0x0a09_0000 + number).into();
        table.add_client(ip).unwrap();
        table.remove_client(ip);
    }
    let listing = world.pod.ruleset();
    assert!(!listing.contains(PEER4[0]), "evicted: {listing}");
    assert!(listing.contains("10.9.4.0"));
    talk(&mut upstream, &mut accepted);
}

/// Copies both directions until both have ended, as the agent does.
fn pass_on(one: &TcpStream, other: &TcpStream) {
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        std::io::copy(&mut from, &mut to).unwrap();
        to.shutdown(Shutdown::Write).unwrap();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| copy(one.try_clone().unwrap(), other.try_clone().unwrap()));
        scope.spawn(|| copy(other.try_clone().unwrap(), one.try_clone().unwrap()));
    });
}

#[test]
fn megabytes_pass_through_unchanged_and_both_ends_close() {
    let world = World::new();
    let (app, listener) = world.servers();
    let mut table = stealing(&world);
    let sent: Vec<u8> = (0..8_000_000u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for (pod, peer) in [(POD[0], PEER4[0]), (POD[1], PEER6[0])] {
        let client = world.peer.within(|| {
            connect(
                address(pod, APP),
                From {
                    ip: Some(peer),
                    ..From::default()
                },
            )
        });
        let taken = accept(&listener);
        let mark = table.add_client(peer_of(&taken).ip()).unwrap();
        let from = From {
            mark: Some(mark),
            port: peer_of(&taken).port(),
            ..From::default()
        };
        let upstream = world.pod.within(|| connect(address(pod, APP), from));
        let accepted = accept(&app);
        std::thread::scope(|scope| {
            scope.spawn(|| pass_on(&taken, &upstream));
            // The app echoes.
            scope.spawn(|| {
                std::io::copy(&mut &accepted, &mut &accepted).unwrap();
                accepted.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(|| {
                (&client).write_all(&sent).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            });
            let mut back = Vec::new();
            (&client).read_to_end(&mut back).unwrap();
            assert!(back == sent, "{pod}: {} bytes came back of {}", back.len(), sent.len());
        });
    }
}
