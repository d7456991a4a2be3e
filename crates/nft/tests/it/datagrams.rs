use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use nft::{DatagramTable, Error, Socket};

use crate::world::*;

fn create(world: &World) -> Result<DatagramTable, Error> {
    world.pod.within(|| DatagramTable::create(&Socket::open().unwrap()))
}

/// Whether the app's socket gets what is sent there; another port's datagram says that it was waited for long enough.
fn arrives(client: &UdpSocket, app: &UdpSocket, to: SocketAddr, other: &UdpSocket) -> bool {
    let other_port = other.local_addr().unwrap().port();
    client.send_to(b"question", to).unwrap();
    client.send_to(b"after", SocketAddr::new(to.ip(), other_port)).unwrap();
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    other.recv_from(&mut [0; 99]).unwrap();
    app.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    app.recv_from(&mut [0; 99]).is_ok()
}

#[test]
fn datagrams_are_kept_from_the_app_while_a_port_is_in_the_table() {
    let world = World::new();
    let before = world.pod.ruleset();
    let bind = |port| world.pod.within(|| UdpSocket::bind(("::", port)).unwrap());
    let (app, other) = (bind(APP), bind(0));
    let client = |namespace: &Namespace| namespace.within(|| UdpSocket::bind("[::]:0").unwrap());
    let (outside, inside) = (client(&world.peer), client(&world.pod));
    let ways = [
        (&outside, format!("::ffff:{}", POD[0])),
        (&outside, POD[1].to_owned()),
        (&inside, "::ffff:127.0.0.1".to_owned()),
        (&inside, "::1".to_owned()),
        (&inside, format!("::ffff:{}", POD[0])),
        (&inside, POD[1].to_owned()),
    ];
    let check = |expect: bool| {
        for (client, ip) in &ways {
            assert_eq!(arrives(client, &app, address(ip, APP), &other), expect, "{ip}");
        }
    };
    check(true);
    let mut table = create(&world).unwrap();
    check(true);
    table.set_ports(&BTreeSet::from([APP])).unwrap();
    check(false);
    // What carries a mark of ours is not taken.
    let marked = client(&world.pod);
    socket2::SockRef::from(&marked).set_mark(0x1d0d_0000).unwrap();
    assert!(arrives(&marked, &app, address("::1", APP), &other));
    table.set_ports(&BTreeSet::from([APP + 1])).unwrap();
    check(true);
    table.set_ports(&BTreeSet::from([APP])).unwrap();
    check(false);
    let connections = world
        .pod
        .within(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack"));
    assert_eq!(connections.unwrap_or_default(), "", "nothing is tracked");
    drop(table);
    check(true);
    assert_eq!(world.pod.ruleset(), before);
}

#[test]
fn one_holder_at_a_time_and_connections_have_their_own_table() {
    let world = World::new();
    let socket = world.pod.within(|| Socket::open().unwrap());
    let _connections = nft::Table::create(&socket, &config()).unwrap();
    let mut table = DatagramTable::create(&socket).unwrap();
    assert!(matches!(
        table.set_ports(&BTreeSet::from([0])),
        Err(Error::Config { .. })
    ));
    let Err(Error::Held {
        table: name, holder, ..
    }) = create(&world)
    else {
        panic!("a second one is refused")
    };
    assert_eq!((name.as_str(), holder), (DatagramTable::NAME, Some(std::process::id())));
}
