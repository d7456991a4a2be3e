use std::collections::BTreeSet;

use nft::{Error, Socket, Table, holder};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::world::*;

#[test]
fn a_second_holder_is_refused_and_told_who_has_it() {
    let world = World::new();
    world.pod.within(|| {
        let (one, other) = (Socket::open().unwrap(), Socket::open().unwrap());
        let table = Table::create(&one, &config()).unwrap();
        for result in [
            Table::probe(&other, &config()),
            Table::create(&other, &config()).map(drop),
        ] {
            let error = result.unwrap_err();
            let Error::Held {
                table,
                holder: Some(port),
                ..
            } = &error
            else {
                panic!("{error:?}")
            };
            assert_eq!((table.as_str(), *port), ("inpod", std::process::id()));
            assert!(error.to_string().contains("held by another process"), "{error}");
        }
        // The same socket cannot take it twice either, and the refusal did not harm the first.
        assert!(matches!(Table::create(&one, &config()), Err(Error::Held { .. })));
        assert_eq!(holder(&other, "inpod"), Ok(Some(std::process::id())));
        assert_eq!(holder(&other, "nobody"), Ok(None));
        drop(table);
        assert_eq!(holder(&other, "inpod"), Ok(None));
        drop(Table::create(&other, &config()).unwrap());
    });
}

#[test]
fn an_other_s_table_without_owner_is_left_alone() {
    let world = World::new();
    run("ip", &["netns", "exec", &world.pod.name, "nft", "add table inet inpod"]);
    let before = world.pod.ruleset();
    world.pod.within(|| {
        let error = Table::create(&Socket::open().unwrap(), &config()).unwrap_err();
        assert!(matches!(error, Error::Held { holder: None, .. }), "{error:?}");
    });
    assert_eq!(world.pod.ruleset(), before);
}

#[test]
fn without_net_admin_the_reason_is_named() {
    let world = World::new();
    let result = world.pod.within(|| {
        let none = CapabilitySet::empty();
        // Capabilities belong to the thread, and this one ends here.
        set_capabilities(
            None,
            CapabilitySets {
                effective: none,
                permitted: none,
                inheritable: none,
            },
        )
        .unwrap();
        Table::probe(&Socket::open().unwrap(), &config())
    });
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Permission { .. }), "{error:?}");
    assert!(error.to_string().contains("lacks NET_ADMIN"), "{error}");
}

#[test]
fn refused_clients_and_a_vanished_table_are_errors_that_change_nothing() {
    let world = World::new();
    world.pod.within(|| {
        let socket = Socket::open().unwrap();
        let mut table = Table::create(&socket, &config()).unwrap();
        for ip in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1"] {
            assert!(
                matches!(table.add_client(ip.parse().unwrap()), Err(Error::Address(_))),
                "{ip}"
            );
        }
        // Two tables of different names coexist.
        let other = nft::Config {
            name: "inpod2".into(),
            listener: LISTENER + 1,
            mark: 0x1d0e_0000,
            ..config()
        };
        let mut second = Table::create(&socket, &other).unwrap();
        second.set_ports(&BTreeSet::from([9])).unwrap();
        table.set_ports(&BTreeSet::from([APP])).unwrap();
        second.remove().unwrap();
        table.set_ports(&BTreeSet::from([APP, 9])).unwrap();
        assert_eq!(table.ports().len(), 2);
    });
}

#[test]
fn decoders_take_anything() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..200_000 {
        let bytes: Vec<u8> = (0..state % 160)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Small numbers make plausible lengths and types.
                if state & 0x300 == 0 {
                    (state >> 32) as u8
                } else {
                    (state >> 32) as u8 % 32
                }
            })
            .collect();
        nft::fuzz(&bytes);
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15) | 1;
    }
}
