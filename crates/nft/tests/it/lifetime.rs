use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nft::{Open, Socket, Spoke, Table, connections, datagram_sockets, local_port, older_connections, open_connections};

use crate::world::*;

/// Something of somebody else's, to see that it stays as it is.
const OTHERS: &str = "table ip others { chain c { type filter hook input priority 0; tcp dport 1 drop; }; }";

fn others(world: &World) {
    run("ip", &["netns", "exec", &world.pod.name, "nft", OTHERS]);
}

/// Not a test: a process that holds a table and echoes nothing, until it is killed.
#[test]
#[ignore = "run by other tests as a process of its own"]
fn holder_process() {
    let Ok(namespace) = std::env::var("NFT_TEST_NAMESPACE") else {
        return;
    };
    enter(&namespace);
    let socket = Socket::open().unwrap();
    let mut table = Table::create(&socket, &config()).unwrap();
    table.set_ports(&BTreeSet::from([APP])).unwrap();
    let listener = listen(LISTENER);
    println!("\nready");
    let _open: Vec<_> = listener.incoming().collect();
}

struct Holder(Child);

impl Holder {
    fn start(world: &World) -> Holder {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["lifetime::holder_process", "--exact", "--ignored", "--nocapture"])
            .env("NFT_TEST_NAMESPACE", &world.pod.name)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        assert!(
            stdout.lines().any(|line| line.unwrap() == "ready"),
            "the holder does not come up"
        );
        Holder(child)
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn killing_the_owner_removes_every_rule_and_no_client_hangs() {
    let world = World::new();
    others(&world);
    let before = world.pod.ruleset();
    let app = world.pod.within(|| listen(APP));
    let mut holder = Holder::start(&world);
    assert_ne!(world.pod.ruleset(), before);
    let mut clients: Vec<_> = POD
        .iter()
        .map(|ip| world.peer.within(|| connect(address(ip, APP), From::default())))
        .collect();
    clients.extend(
        ["127.0.0.1", "::1"]
            .iter()
            .map(|ip| world.pod.within(|| connect(address(ip, APP), From::default()))),
    );
    assert!(try_accept(&app, std::time::Duration::ZERO).is_none());
    holder.kill();
    // The end of each redirected connection reaches its client (it would time out, were it not translated).
    for client in &mut clients {
        match client.read(&mut [0; 1]) {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => panic!("the client of a killed owner sees {other:?}"),
        }
    }
    // The table goes in the background, soon after.
    let deadline = std::time::Instant::now() + PATIENCE;
    while world.pod.ruleset() != before {
        assert!(
            std::time::Instant::now() < deadline,
            "left behind: {}",
            world.pod.ruleset()
        );
        std::thread::yield_now();
    }
    let mut client = world.peer.within(|| connect(address(POD[0], APP), From::default()));
    talk(&mut client, &mut accept(&app));
}

#[test]
fn remove_drop_and_probe_leave_the_ruleset_as_it_was() {
    let world = World::new();
    others(&world);
    let before = world.pod.ruleset();
    world.pod.within(|| {
        let socket = Socket::open().unwrap();
        Table::probe(&socket, &config()).unwrap();
        assert_eq!(world.pod.ruleset(), before);
        for round in 0..3 {
            let mut table = Table::create(&socket, &config()).unwrap();
            table.set_ports(&BTreeSet::from([APP])).unwrap();
            table.add_client(PEER4[0].parse().unwrap()).unwrap();
            table.add_client(PEER6[0].parse().unwrap()).unwrap();
            assert_ne!(world.pod.ruleset(), before);
            if round == 0 {
                drop(table);
            } else {
                table.remove().unwrap();
            }
            assert_eq!(world.pod.ruleset(), before);
        }
    });
}

#[test]
fn connections_older_than_the_table_stay_with_the_app_and_are_counted() {
    let world = World::new();
    let (app, listener) = world.servers();
    let mut older = Vec::new();
    for (namespace, ip) in [
        (&world.peer, POD[0]),
        (&world.peer, POD[1]),
        (&world.pod, "127.0.0.1"),
        (&world.pod, "::1"),
        (&world.pod, POD[0]),
    ] {
        let client = namespace.within(|| connect(address(ip, APP), From::default()));
        older.push((client, accept(&app)));
    }
    let table = world.pod.within(|| {
        assert_eq!(older_connections(APP).unwrap(), older.len());
        assert_eq!(older_connections(APP + 1).unwrap(), 0);
        let found = connections(APP).unwrap();
        for (client, _) in &older {
            let (local, remote) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
            assert!(
                found.contains(&nft::Connection { local, remote }),
                "{remote} in {found:?}"
            );
        }
        let mut table = Table::create(&Socket::open().unwrap(), &config()).unwrap();
        table.set_ports(&BTreeSet::from([APP])).unwrap();
        table
    });
    for (client, accepted) in &mut older {
        talk(client, accepted); // client first
        talk(accepted, client); // server first
    }
    // They survive the end of the table as well, and were never redirected.
    drop(table);
    for (client, accepted) in &mut older {
        talk(accepted, client);
    }
    assert!(try_accept(&listener, Duration::ZERO).is_none());
}

#[test]
fn datagram_sockets_are_listed_while_they_are_open() {
    let world = World::new();
    world.pod.within(|| {
        let v4: SocketAddr = (Ipv4Addr::LOCALHOST, 4000).into();
        let any: SocketAddr = (Ipv6Addr::UNSPECIFIED, 4001).into();
        let (unconnected, connected) = (UdpSocket::bind(v4).unwrap(), UdpSocket::bind(any).unwrap());
        assert_eq!(sorted(datagram_sockets().unwrap()), [v4, any]);
        // What it sends comes from an IPv4 address from now on.
        connected.connect((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 4000)).unwrap();
        let from: SocketAddr = (Ipv4Addr::LOCALHOST, 4001).into();
        let copy = unconnected.try_clone().unwrap();
        drop(unconnected);
        assert_eq!(sorted(datagram_sockets().unwrap()), [v4, from]);
        drop(copy);
        assert_eq!(datagram_sockets().unwrap(), [from]);
    });
}

fn sorted(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort();
    addresses
}

#[test]
fn ending_a_steal_lets_open_connections_go_on() {
    let world = World::new();
    let (app, listener) = world.servers();
    let mut table = world
        .pod
        .within(|| Table::create(&Socket::open().unwrap(), &config()).unwrap());
    table.set_ports(&BTreeSet::from([APP])).unwrap();
    let mut redirected = Vec::new();
    for (namespace, ip) in [(&world.peer, POD[0]), (&world.peer, POD[1]), (&world.pod, "127.0.0.1")] {
        let client = namespace.within(|| connect(address(ip, APP), From::default()));
        redirected.push((client, accept(&listener)));
    }
    table.set_ports(&BTreeSet::new()).unwrap();
    for ip in POD {
        let mut client = world.peer.within(|| connect(address(ip, APP), From::default()));
        talk(&mut client, &mut accept(&app));
    }
    for (client, taken) in &mut redirected {
        talk(client, taken);
    }
    assert!(try_accept(&listener, Duration::ZERO).is_none());
}

#[test]
fn who_spoke_last_on_a_connection_and_its_end_from_outside() {
    let world = World::new();
    let app = world.pod.within(|| listen(APP));
    for ip in POD {
        let mut client = world.peer.within(|| connect(address(ip, APP), From::default()));
        let mut accepted = accept(&app);
        let look = || world.pod.within(|| open_connections(APP).unwrap());
        let pause = || std::thread::sleep(Duration::from_millis(50));
        let only = |found: Vec<Open>| {
            assert_eq!(found.len(), 1, "{found:?}");
            found[0]
        };
        pause();
        let open = only(look());
        assert_eq!(open.connection.remote, client.local_addr().unwrap());
        assert_eq!(open.last, Spoke::Both, "nobody has");
        assert!(open.quiet.as_millis() >= 40, "{open:?}");
        // A request that the app has not read.
        client.write_all(b"?").unwrap();
        pause();
        assert_eq!(only(look()).quiet.as_millis(), 0);
        accepted.read_exact(&mut [0]).unwrap();
        let open = only(look());
        assert_eq!(open.last, Spoke::Remote);
        assert!(open.quiet.as_millis() >= 40, "{open:?}");
        accepted.write_all(b"!").unwrap();
        client.read_exact(&mut [0]).unwrap();
        pause();
        let answered = only(look());
        assert_eq!(answered.last, Spoke::Local);
        assert_eq!(answered.cookie(), open.cookie());
        assert!(answered.quiet.as_millis() >= 40, "{answered:?}");

        let remote = client.local_addr().unwrap();
        world.pod.within(|| {
            assert_eq!(local_port(remote).unwrap(), Some(APP));
            answered.close().unwrap();
            answered.close().unwrap();
            assert_eq!(local_port(remote).unwrap(), None);
        });
        let ended = client.read(&mut [0]).unwrap_err();
        assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(look(), vec![]);
    }
}
