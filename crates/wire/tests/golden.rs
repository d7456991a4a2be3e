//! The bytes of each message, as they are on the wire. A change here is a change of the protocol: enums are append-only.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fmt::Write;

use rules::Term;
use serde::Serialize;
use wire::message::*;
use wire::{Hello, frame};

fn check<M: Serialize>(message: &M, expect: &str) {
    let bytes = frame::encode(message).unwrap();
    let hex = bytes[4..].iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    assert_eq!(hex, expect, "{}", std::any::type_name::<M>());
}

fn bytes(text: &str) -> Bytes {
    Bytes(text.into())
}

#[test]
fn hello() {
    let hello = Hello {
        build: "1".to_owned(),
        ..Hello::new([1; 16], [2; 16], "ada")
    };
    let (one, two) = ("01".repeat(16), "02".repeat(16));
    check(&hello, &format!("0101000131{one}{two}03616461"));
    assert_eq!(wire::hello::MAGIC, *b"inpod\x00\x01\n");
}

#[test]
fn openings() {
    let dial = |destination| {
        Open::Dial(Dial {
            destination,
            timeout_ms: 300,
        })
    };
    check(&Open::Control, "00");
    check(
        &dial(Destination::Tcp("10.0.0.1:80".parse().unwrap())),
        "0100000a00000150ac02",
    );
    check(
        &dial(Destination::Udp("[::1]:53".parse().unwrap())),
        "0101010000000000000000000000000000000135ac02",
    );
    check(&dial(Destination::Unix(b"/s".to_vec())), "0102022f73ac02");
    check(&Open::Files, "02");
    let (client, server) = ("10.0.0.2:1".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
    let incoming = Incoming {
        mode: ClaimMode::Steal,
        port: 80,
        client,
        server,
    };
    check(&Open::Incoming(incoming.clone()), "030150000a00000201000a00000150");
    let terminated = |server_name: Option<&str>, protocol: Option<&str>| {
        Open::Terminated(Terminated {
            incoming: incoming.clone(),
            server_name: server_name.map(str::to_owned),
            protocol: protocol.map(bytes),
        })
    };
    check(&terminated(None, None), "050150000a00000201000a000001500000");
    check(
        &terminated(Some("a"), Some("h2")),
        "050150000a00000201000a0000015001016101026832",
    );
    let mode = ClaimMode::StealDatagrams;
    check(&Open::Datagrams(Datagrams { mode, port: 53 }), "040335");
    let mode = ClaimMode::MirrorDatagrams;
    check(&Open::Datagrams(Datagrams { mode, port: 53 }), "040235");
    let data = bytes("hi");
    check(&Datagram { client, server, data }, "000a00000201000a00000150026869");
    check(&Dialed::Ok { local: client }, "00000a00000201");
    check(
        &Dialed::Failed(Fault {
            errno: 111,
            what: "x".to_owned(),
        }),
        "01de010178",
    );
}

#[test]
fn requests() {
    let request = |body| Request { id: 1, body };
    check(&request(RequestBody::Facts), "0100");
    check(&request(RequestBody::Env), "0101");
    let filter = vec![
        Term::Is("a=b".to_owned()),
        Term::Not,
        Term::Any(2),
        Term::All(0),
        Term::Is("re:c".to_owned()),
    ];
    let probes = vec![
        Probe::Http {
            port: 80,
            path: "/".to_owned(),
            headers: vec![],
        },
        Probe::Tcp {
            port: 81,
            nodes: vec![[10, 0, 0, 1].into()],
        },
        Probe::Grpc { port: 82 },
    ];
    let claim = Claim {
        port: 80,
        mode: ClaimMode::Mirror,
        filter,
        probes,
        reconnect: false,
        tls: None,
    };
    check(
        &request(RequestBody::Claims(vec![claim])),
        "0102015000050003613d620103020200000472653a63030050012f00015101000a00000102520000",
    );
    let tls = Tls {
        certificate: Pem::Path(bytes("/c")),
        key: Pem::Content(bytes("k")),
        client_ca: Some(Pem::Path(bytes("/a"))),
        client_identity: Some((Pem::Path(bytes("/i")), Pem::Path(bytes("/k")))),
    };
    let claim = Claim {
        port: 80,
        mode: ClaimMode::Steal,
        filter: vec![],
        probes: vec![],
        reconnect: false,
        tls: Some(tls),
    };
    check(
        &request(RequestBody::Claims(vec![claim])),
        "01020150010000000100022f6301016b0100022f610100022f6900022f6b",
    );
    check(
        &request(RequestBody::Resolve(Resolve {
            name: "db".to_owned(),
            kind: 28,
        })),
        "01030264621c",
    );
    check(&request(RequestBody::Ping), "0104");
    check(&request(RequestBody::Goodbye), "0105");
    check(&request(RequestBody::Sessions), "0106");
    let session = "07".repeat(16);
    check(&request(RequestBody::StopSession([7; 16])), &format!("0107{session}"));
    check(&request(RequestBody::Listening), "0108");
    check(&request(RequestBody::Held), "0109");
    let services = vec![ServiceAddress {
        name: "s".to_owned(),
        address: "10.0.0.2:90".parse().unwrap(),
    }];
    check(
        &request(RequestBody::Check(Check { port: 80, services })),
        "010a50010173000a0000025a",
    );
    check(&request(RequestBody::Heard), "010b");
}

#[test]
fn replies() {
    let reply = |body| ToSession::Reply(Reply { id: 1, body });
    check(
        &reply(ReplyBody::Env(vec![(bytes("A"), bytes("1"))])),
        "0001010101410131",
    );
    check(
        &reply(ReplyBody::Claims(vec![
            ClaimState::Active { older: 2 },
            ClaimState::Refused("n".to_owned()),
        ])),
        "00010202000201016e",
    );
    let records = vec![
        Record::Address("10.0.0.1".parse().unwrap()),
        Record::Other {
            kind: 16,
            text: "t".to_owned(),
        },
    ];
    check(&reply(ReplyBody::Resolved(records)), "0001030200000a00000101100174");
    check(&reply(ReplyBody::Pong), "000104");
    check(
        &reply(ReplyBody::Failed(Fault {
            errno: 2,
            what: String::new(),
        })),
        "0001050400",
    );
    check(
        &ToSession::Event(Event::MirrorDropped {
            port: 80,
            connections: 3,
        }),
        "01005003",
    );
    check(&ToSession::Event(Event::Warning("w".to_owned())), "01010177");
    check(&ToSession::Event(Event::Stopped { by: "b".to_owned() }), "01020162");
    let reconnected = Event::Reconnected {
        port: 80,
        closed: 2,
        left: 1,
    };
    check(&ToSession::Event(reconnected), "0103500201");
    check(&reply(ReplyBody::Stopped), "000107");
    check(&reply(ReplyBody::Listening(vec![80, 300])), "0001080250ac02");
    let claim = |filter: Option<&str>| ClaimEntry {
        port: 80,
        mode: ClaimMode::Steal,
        filter: filter.map(str::to_owned),
        counts: Counts {
            seen: 1,
            matched: 2,
            passed: 3,
            mirrored: 4,
            dropped: 300,
        },
    };
    let entry = SessionEntry {
        session: [7; 16],
        owner: "a".to_owned(),
        age_ms: 5,
        claims: vec![claim(None), claim(Some("f"))],
    };
    let session = "07".repeat(16);
    check(
        &reply(ReplyBody::Sessions(vec![entry])),
        &format!("00010601{session}0161050250010001020304ac02500101016601020304ac02"),
    );
    check(&reply(ReplyBody::Held(vec![claim(None)])), "0001090150010001020304ac02");
    let checked = |outcome| Checked {
        service: None,
        address: "10.0.0.1:80".parse().unwrap(),
        outcome,
    };
    let outcomes = [
        CheckOutcome::Arrived(1),
        CheckOutcome::Missed(300),
        CheckOutcome::Failed("f".to_owned()),
    ];
    check(
        &reply(ReplyBody::Checked(outcomes.map(checked).to_vec())),
        "00010a0300000a00000150000100000a0000015001ac0200000a00000150020166",
    );
    let through = Checked {
        service: Some("s".to_owned()),
        ..checked(CheckOutcome::Arrived(2))
    };
    check(
        &reply(ReplyBody::Checked(vec![through])),
        "00010a01010173000a000001500002",
    );
    check(&reply(ReplyBody::Heard(300)), "00010bac02");
    let facts = Facts {
        hostname: "h".to_owned(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        volumes: vec![bytes("/v")],
        sizeless: vec![bytes("/host/proc")],
        root: vec![(bytes("e"), true)],
        uid: 1,
        gid: 2,
        cwd: bytes("/"),
        resolv_conf: bytes("r"),
        nsswitch_hosts: Some("n".to_owned()),
        limits: Limits {
            steal: Some("s".to_owned()),
            ..Limits::default()
        },
    };
    check(
        &reply(ReplyBody::Facts(facts)),
        "000100016801000a00000101022f76010a2f686f73742f70726f63010165010102012f017201016e010173000000",
    );
}

#[test]
fn files() {
    let request = |body| FileRequest { id: 1, body };
    check(&request(FileOperation::Stat(vec![bytes("/a")])), "010001022f61");
    check(
        &request(FileOperation::List {
            path: bytes("/"),
            cookie: 300,
        }),
        "0101012fac02",
    );
    check(&request(FileOperation::ReadLink(bytes("/"))), "0102012f");
    check(
        &request(FileOperation::Open {
            path: bytes("/"),
            first: 1,
        }),
        "0103012f01",
    );
    check(
        &request(FileOperation::Read {
            handle: 1,
            offset: 2,
            length: 3,
        }),
        "0104010203",
    );
    check(&request(FileOperation::Close(1)), "010501");
    check(&request(FileOperation::StatFs), "0106");
    check(
        &request(FileOperation::Xattr {
            path: bytes("/"),
            name: bytes("n"),
        }),
        "0107012f016e",
    );
    let walk = FileOperation::Walk {
        path: bytes("/"),
        known: 1,
        first: 2,
    };
    check(&request(walk), "0108012f0102");
    let tree = FileOperation::Tree {
        paths: vec![bytes("/")],
        below: true,
        bytes: 3,
    };
    check(&request(tree), "010901012f0103");
    check(&request(FileOperation::Contents(vec![bytes("/")])), "010a01012f");
    check(&request(FileOperation::Xattrs(vec![bytes("/")])), "010c01012f");
    let time = Time {
        seconds: -1,
        nanoseconds: 1,
    };
    let attributes = Attributes {
        inode: 1,
        device: 2,
        mode: 3,
        links: 4,
        uid: 5,
        gid: 6,
        special_device: 7,
        size: 8,
        blocks: 9,
        accessed: time,
        modified: time,
        changed: time,
        xattrs: XattrKinds::of_list(b"user.a\0system.posix_acl_default\0"),
        unreadable: true,
    };
    let encoded = "0102030405060708090101010101010901";
    let reply = |body| FileReply { id: 1, body };
    check(
        &reply(FileAnswer::Stat(vec![Ok(attributes), Err(2)])),
        &format!("01000200{encoded}0104"),
    );
    let entry = Entry {
        name: bytes("n"),
        attributes,
        link: Some(bytes("l")),
    };
    check(
        &reply(FileAnswer::List {
            entries: vec![entry],
            next: 0,
        }),
        &format!("010101016e{encoded}01016c00"),
    );
    check(&reply(FileAnswer::ReadLink(bytes("l"))), "0102016c");
    check(
        &reply(FileAnswer::Open {
            attributes,
            handle: Some(1),
            data: bytes("d"),
        }),
        &format!("0103{encoded}01010164"),
    );
    check(&reply(FileAnswer::Read(bytes("d"))), "01040164");
    check(&reply(FileAnswer::Closed), "0105");
    let figures = FileAnswer::StatFs {
        blocks: 1,
        free: 2,
        available: 3,
        files: 4,
        free_files: 5,
        block_size: 6,
        name_max: 7,
    };
    check(&reply(figures), "010601020304050607");
    check(&reply(FileAnswer::Xattr(bytes("x"))), "01070178");
    check(&reply(FileAnswer::Failed(2)), "010804");
    let step = Step {
        path: bytes("s"),
        found: Ok((attributes, Some(bytes("l")))),
    };
    let walk = FileAnswer::Walk {
        steps: vec![step],
        content: Some(bytes("c")),
    };
    check(&reply(walk), &format!("010901017300{encoded}01016c010163"));
    let branch = Branch {
        path: bytes("b"),
        attributes,
        entries: vec![],
    };
    check(
        &reply(FileAnswer::Tree(vec![branch])),
        &format!("010a010162{encoded}00"),
    );
    let whole = Whole {
        attributes,
        data: bytes("d"),
    };
    check(
        &reply(FileAnswer::Contents(vec![Ok(whole), Err(2)])),
        &format!("010b0200{encoded}01640104"),
    );
    let changed = |changed| reply(FileAnswer::Changed(changed));
    check(
        &changed(Changed::Opened { attributes, handle: 1 }),
        &format!("010c00{encoded}01"),
    );
    check(
        &changed(Changed::Written { length: 1, attributes }),
        &format!("010c0101{encoded}"),
    );
    check(&changed(Changed::Now(attributes)), &format!("010c02{encoded}"));
    check(&changed(Changed::Done), "010c03");
    let xattr = |value| Xattr {
        name: bytes("n"),
        value,
    };
    let xattrs = FileAnswer::Xattrs(vec![Ok(vec![xattr(Some(bytes("v"))), xattr(None)]), Err(2)]);
    check(&reply(xattrs), "010d020002016e010176016e000104");
}

#[test]
fn changes_of_files() {
    let request = |change| FileRequest {
        id: 1,
        body: FileOperation::Change(change),
    };
    let path = || bytes("/");
    let create = Some(Create {
        mode: 1,
        exclusive: true,
    });
    let open = Change::Open {
        path: path(),
        read: true,
        truncate: false,
        create,
    };
    check(&request(open), "010b00012f0100010101");
    let write = Change::Write {
        handle: 1,
        offset: 2,
        append: true,
        data: bytes("d"),
    };
    check(&request(write), "010b010102010164");
    let set = Change::Set {
        object: Object::Handle(1),
        attributes: SetAttributes {
            mode: Some(1),
            size: Some(2),
            accessed: Some(SetTime::Now),
            modified: Some(SetTime::To(Time::default())),
            ..SetAttributes::default()
        },
    };
    check(&request(set), "010b020101010100000102010001010000");
    check(
        &request(Change::MakeDirectory { path: path(), mode: 1 }),
        "010b03012f01",
    );
    check(
        &request(Change::MakeNode {
            path: path(),
            mode: 1,
            device: 2,
        }),
        "010b04012f0102",
    );
    check(
        &request(Change::Symlink {
            path: path(),
            target: path(),
        }),
        "010b05012f012f",
    );
    check(
        &request(Change::Link {
            from: path(),
            to: path(),
        }),
        "010b06012f012f",
    );
    check(
        &request(Change::Rename {
            from: path(),
            to: path(),
            flags: 1,
        }),
        "010b07012f012f01",
    );
    check(
        &request(Change::Remove {
            path: path(),
            directory: true,
        }),
        "010b08012f01",
    );
    check(
        &request(Change::Sync {
            object: Object::Path(path()),
            data: true,
        }),
        "010b0900012f01",
    );
    check(
        &request(Change::Allocate {
            handle: 1,
            mode: 2,
            offset: 3,
            length: 4,
        }),
        "010b0a01020304",
    );
    check(
        &request(Change::SetXattr {
            path: path(),
            name: bytes("n"),
            value: bytes("v"),
            flags: 1,
        }),
        "010b0b012f016e017601",
    );
    check(
        &request(Change::RemoveXattr {
            path: path(),
            name: bytes("n"),
        }),
        "010b0c012f016e",
    );
}

#[test]
fn names_and_values_are_bounded_before_they_are_taken() {
    let change = |name, value| FileRequest {
        id: 1,
        body: FileOperation::Change(Change::SetXattr {
            path: bytes("/"),
            name: Bytes(vec![b'n'; name]),
            value: Bytes(vec![b'v'; value]),
            flags: 0,
        }),
    };
    for (name, value, taken) in [(255, 65_536, true), (256, 1, false), (1, 65_537, false)] {
        let encoded = frame::encode(&change(name, value)).unwrap();
        assert_eq!(
            frame::decode::<FileRequest>(&encoded[4..]).is_ok(),
            taken,
            "{name} {value}"
        );
    }
}
