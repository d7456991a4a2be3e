//! Numbers, and bounds far beyond them: run with `--nocapture` to see them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nft::{Socket, Table, older_connections};

use crate::world::*;

fn measure(what: &str, rounds: u32, limit: Duration, mut step: impl FnMut(u32)) {
    let start = Instant::now();
    (0..rounds).for_each(&mut step);
    let each = start.elapsed() / rounds;
    println!("{what}: {each:?} each");
    assert!(each < limit, "{what} takes {each:?}");
}

#[test]
fn changes_take_well_under_a_connection_s_round_trip() {
    let world = World::new();
    world.pod.within(|| {
        let socket = Socket::open().unwrap();
        let limit = Duration::from_millis(50);
        measure("probe", 20, limit * 10, |_| Table::probe(&socket, &config()).unwrap());
        measure("create and remove", 20, limit * 10, |_| {
            Table::create(&socket, &config()).unwrap().remove().unwrap();
        });
        let mut table = Table::create(&socket, &config()).unwrap();
        measure("set_ports, one port", 1000, limit, |round| {
            let ports = if round % 2 == 0 {
                BTreeSet::from([APP])
            } else {
                BTreeSet::new()
            };
            table.set_ports(&ports).unwrap();
        });
        let ip = |number: u32| std::net::Ipv4Addr::from_bits(0x0a09_0000 + number).into();
        measure("add_client, new", 5000, limit, |round| {
            table.add_client(ip(round)).unwrap();
        });
        measure("add_client, known", 5000, limit, |round| {
            table.add_client(ip(round)).unwrap();
        });
        measure("older_connections", 200, limit, |_| {
            older_connections(APP).unwrap();
        });
    });
}
