use super::*;

fn config() -> Config {
    Config {
        ports: [80].into(),
        max_connections: 3,
        reorder_bytes: 2000,
        total_reorder_bytes: 3000,
        ..Config::default()
    }
}

/// A small language: each step is one segment or something else that happens.
enum Step {
    /// Client's port, offset from its SYN, flags, payload.
    Client(u16, u32, u8, &'static str),
    Server(u16, u8),
    /// FIN and ACK of everything up to an offset.
    ServerEnd(u16, u32),
    Lost,
    Cut(u16, u32),
    /// Seconds.
    Wait(u64),
    Ports(&'static [u16]),
    Abandon(u64),
}
use Step::{Abandon, Client, Cut, Lost, Ports, Server, ServerEnd, Wait};

const ISN: u32 = u32::MAX - 1;

fn run(steps: &[Step]) -> (String, Flows) {
    let mut flows = Flows::new(&config());
    let mut now = Duration::from_secs(1);
    let server = SocketAddr::from(([10, 0, 0, 1], 80));
    for step in steps {
        let mut acknowledged = 0;
        let (port, offset, flags, payload, cut) = match *step {
            Client(port, offset, flags, payload) => (port, offset, flags, payload, false),
            Server(port, flags) => (port, 0, flags, "", false),
            Cut(port, offset) => (port, offset, ACK, "cut", true),
            ServerEnd(port, offset) => {
                acknowledged = ISN.wrapping_add(offset);
                (port, 0, FIN | ACK, "", false)
            }
            Lost => {
                flows.lost(now);
                continue;
            }
            Wait(seconds) => {
                now += Duration::from_secs(seconds);
                flows.tick(now);
                continue;
            }
            Ports(ports) => {
                flows.set_ports(&ports.iter().copied().collect(), now);
                continue;
            }
            Abandon(id) => {
                flows.abandon(ConnectionId(id), now);
                continue;
            }
        };
        let client = SocketAddr::from(([10, 0, 0, 2], port));
        let (source, destination) = if matches!(step, Server(..) | ServerEnd(..)) {
            (server, client)
        } else {
            (client, server)
        };
        let payload = payload.as_bytes();
        let segment = Segment {
            source,
            destination,
            sequence: ISN.wrapping_add(offset),
            acknowledged,
            flags,
            mss: Some(1000 + port),
            payload,
            cut,
        };
        if matches!(step, Server(..) | ServerEnd(..)) {
            flows.server_sent(&segment, now);
        } else {
            flows.client_sent(&segment, false, now);
        }
    }
    let mut events = Vec::new();
    flows.take_events(&mut events);
    let text = events.iter().map(|event| match event {
        Event::Opened { id, client, mss, .. } => {
            assert_eq!(*mss, Some(1000 + client.port()));
            format!("{}:open {}", id.0, client.port())
        }
        Event::Data { id, bytes } => format!("{}:{}", id.0, String::from_utf8_lossy(bytes)),
        Event::Closed { id, how } => format!("{}:{how:?}", id.0),
    });
    (text.collect::<Vec<_>>().join(", "), flows)
}

const BIG: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn connections_become_events() {
    let cases: &[(&str, &[Step], &str)] = &[
        (
            "a request",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, ""),
                Client(1, 1, ACK, "GET"),
                Client(1, 4, FIN | ACK, ""),
            ],
            "1:open 1, 1:GET, 1:Finished",
        ),
        ("only a SYN", &[Client(1, 0, SYN, "")], ""),
        ("refused", &[Client(1, 0, SYN, ""), Server(1, RST | ACK)], ""),
        (
            "repeated SYN",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Client(1, 0, SYN, ""),
            ],
            "1:open 1, 1:a",
        ),
        (
            "handshake ACK lost",
            &[Client(1, 0, SYN, ""), Client(1, 1, ACK, "a")],
            "1:open 1, 1:a",
        ),
        (
            "data with SYN",
            &[Client(1, 0, SYN, "ab"), Client(1, 3, ACK, ""), Client(1, 3, ACK, "c")],
            "1:open 1, 1:abc",
        ),
        (
            "data with SYN, repeated",
            &[Client(1, 0, SYN, "ab"), Client(1, 1, ACK, "abc")],
            "1:open 1, 1:abc",
        ),
        (
            "client resets",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Client(1, 2, RST, ""),
                Client(1, 2, ACK, ""),
            ],
            "1:open 1, 1:a, 1:Reset",
        ),
        (
            "server resets",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Server(1, RST),
                Server(1, RST),
            ],
            "1:open 1, 1:a, 1:Reset",
        ),
        (
            "server closes first",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Server(1, FIN),
                Client(1, 2, FIN, "b"),
            ],
            "1:open 1, 1:ab, 1:Finished",
        ),
        (
            "client vanishes after the server's end",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Server(1, FIN),
                Wait(119),
                Wait(1),
            ],
            "1:open 1, 1:a, 1:Dropped(Idle)",
        ),
        (
            "silent and open is no reason",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Wait(9999),
                Client(1, 2, ACK, "b"),
            ],
            "1:open 1, 1:ab",
        ),
        (
            "late segments after the end",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, FIN, "a"),
                Client(1, 1, FIN, "a"),
                Client(1, 3, ACK, ""),
            ],
            "1:open 1, 1:a, 1:Finished",
        ),
        (
            "end before the data",
            &[Client(1, 0, SYN, ""), Client(1, 3, FIN, ""), Client(1, 1, ACK, "ab")],
            "1:open 1, 1:ab, 1:Finished",
        ),
        (
            "a gap that closes in time",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 2, ACK, "b"),
                Wait(4),
                Client(1, 1, ACK, "a"),
                Wait(9),
            ],
            "1:open 1, 1:ab",
        ),
        (
            "a gap that stays",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Client(1, 3, ACK, "c"),
                Wait(5),
                Client(1, 2, ACK, "b"),
            ],
            "1:open 1, 1:a, 1:Dropped(Gap)",
        ),
        (
            "a gap before the end only",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, ""),
                Client(1, 9, FIN, ""),
                Wait(5),
            ],
            "1:open 1, 1:Dropped(Gap)",
        ),
        (
            "the server has seen more than we",
            &[Client(1, 0, SYN, ""), Client(1, 1, ACK, "a"), ServerEnd(1, 5), Wait(5)],
            "1:open 1, 1:a, 1:Dropped(Gap)",
        ),
        (
            "the server has seen as much as we",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                ServerEnd(1, 2),
                Wait(5),
                Client(1, 2, FIN, ""),
            ],
            "1:open 1, 1:a, 1:Finished",
        ),
        (
            "the server has seen our end",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 3, FIN, ""),
                ServerEnd(1, 4),
                Wait(4),
                Client(1, 1, ACK, "ab"),
            ],
            "1:open 1, 1:ab, 1:Finished",
        ),
        (
            "packets were lost, silent since",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Wait(1),
                Lost,
                Wait(28),
                Lost,
                Wait(1),
            ],
            "1:open 1, 1:a, 1:Dropped(Gap)",
        ),
        (
            "packets were lost, but more came",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Lost,
                Wait(1),
                Client(1, 2, ACK, "b"),
                Wait(99),
            ],
            "1:open 1, 1:ab",
        ),
        (
            "a cut frame",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Cut(1, 2),
                Client(1, 5, ACK, "b"),
            ],
            "1:open 1, 1:a, 1:Dropped(Truncated)",
        ),
        (
            "the port is used again",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Client(1, 500, SYN, ""),
                Client(1, 501, ACK, "b"),
            ],
            "1:open 1, 1:a, 1:Reset, 2:open 1, 2:b",
        ),
        (
            "again after its end",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, FIN, "a"),
                Client(1, 500, SYN, ""),
                Client(1, 501, ACK, "b"),
            ],
            "1:open 1, 1:a, 1:Finished, 2:open 1, 2:b",
        ),
        (
            "two at a time",
            &[
                Client(1, 0, SYN, ""),
                Client(2, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Client(2, 1, ACK, "b"),
                Client(1, 2, FIN, "c"),
            ],
            "1:open 1, 1:ac, 2:open 2, 2:b, 1:Finished",
        ),
        (
            "older",
            &[
                Client(1, 5, ACK, "a"),
                Client(1, 6, ACK, "b"),
                Client(1, 500, SYN, ""),
                Client(1, 501, ACK, "c"),
            ],
            "1:open 1, 1:c",
        ),
        (
            "the port is no longer wanted",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Ports(&[81]),
                Client(1, 2, ACK, "b"),
            ],
            "1:open 1, 1:a, 1:Dropped(Stopped)",
        ),
        (
            "given up",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Abandon(1),
                Client(1, 2, FIN, "b"),
                Abandon(1),
            ],
            "1:open 1, 1:a",
        ),
        (
            "more than three",
            &[
                Client(1, 0, SYN, ""),
                Client(2, 0, SYN, ""),
                Client(3, 0, SYN, ""),
                Client(4, 0, SYN, ""),
                Client(4, 1, ACK, "x"),
            ],
            "",
        ),
        (
            "more than three, later",
            &[
                Client(1, 0, SYN, ""),
                Client(1, 1, ACK, "a"),
                Client(2, 0, SYN, ""),
                Client(3, 0, SYN, ""),
                Wait(6),
                Client(4, 0, SYN, ""),
                Client(4, 1, ACK, "x"),
                Wait(60),
                Client(5, 0, SYN, ""),
                Client(6, 0, SYN, ""),
                Client(6, 1, ACK, "y"),
            ],
            "1:open 1, 1:a, 2:open 4, 2:x, 1:Dropped(Overload), 3:open 6, 3:y",
        ),
    ];
    for (name, steps, expect) in cases {
        let (events, flows) = run(steps);
        assert_eq!(events, *expect, "{name}");
        let live = flows
            .flows
            .values()
            .filter(|flow| matches!(flow, Flow::Live(_)))
            .count();
        assert_eq!(live, flows.live, "{name}");
    }
}

#[test]
fn what_is_dropped_is_counted() {
    let (_, flows) = run(&[
        Client(1, 5, ACK, "a"),
        Client(1, 6, ACK, "b"),
        Client(2, 5, FIN, "a"),
        Client(3, 5, ACK, ""),
    ]);
    assert_eq!(
        flows.stats.older, 2,
        "connections, not segments; a bare ACK says nothing"
    );
    let (_, flows) = run(&[
        Client(1, 0, SYN, ""),
        Client(1, 3, ACK, "c"),
        Wait(5),
        Client(1, 4, ACK, "d"),
        Wait(99),
        Client(1, 5, ACK, "e"),
    ]);
    assert_eq!(
        (flows.stats.dropped_gap, flows.stats.older),
        (1, 0),
        "a dropped one does not become an older one"
    );
    let syns: Vec<_> = (1..9).map(|port| Client(port, 0, SYN, "")).collect();
    assert_eq!(run(&syns).1.stats.dropped_overload, 5);
}

#[test]
fn memory_is_bounded() {
    // One connection: 2000 bytes.
    let mut steps = vec![Client(1, 0, SYN, "")];
    steps.extend((0..20).map(|number| Client(1, 10 + number * 100, ACK, BIG)));
    let (events, flows) = run(&steps);
    assert_eq!(events, "1:open 1, 1:Dropped(Overload)");
    assert_eq!((flows.held, flows.live, flows.stats.dropped_overload), (0, 0, 1));
    // All together: 3000 bytes.
    let mut steps = vec![Client(1, 0, SYN, ""), Client(2, 0, SYN, ""), Client(3, 0, SYN, BIG)];
    for port in 1..=2 {
        steps.extend((0..11).map(|number| Client(port, 10 + number * 100, ACK, BIG)));
    }
    let (events, flows) = run(&steps);
    assert_eq!(events, "1:open 1, 2:open 2, 2:Dropped(Overload)");
    assert!(flows.held > 0 && flows.held <= 3000, "{}", flows.held);
    // Connections that are not followed: four times as many as are followed, however many there are.
    let steps: Vec<_> = (1..1000)
        .flat_map(|port| [Wait(1), Client(port, 5, ACK, "a")])
        .collect();
    let (_, flows) = run(&steps);
    assert!(flows.flows.len() <= 12, "{}", flows.flows.len());
    // And what has ended is forgotten.
    let steps: Vec<_> = (1..9)
        .flat_map(|port| [Client(port, 0, SYN, ""), Client(port, 1, FIN, "a")])
        .chain([Wait(10)])
        .collect();
    let (_, flows) = run(&steps);
    assert_eq!((flows.flows.len(), flows.opened.len(), flows.stats.finished), (0, 0, 8));
}
