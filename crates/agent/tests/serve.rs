//! One agent, many sessions: the socket, attachments, names, the end.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::{attach, in_time, serve, until, world};
use rules::Term;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::message::{Claim, ClaimMode, ClaimState, Record, ReplyBody, RequestBody, Resolve};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_come_and_go_and_the_agent_lingers() {
    let world = world();
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let mut agent = serve(&world, &socket, "1").await;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    let mut first = attach(&socket, "ada").await;
    let second = attach(&socket, "bob").await;
    assert_eq!(first.facts().await.hostname, "shop-7d9f");
    assert_eq!(second.facts().await.hostname, "shop-7d9f");
    let steal = |header: Option<&str>| {
        let exact = |value: &str| Term::Is(format!("X={value}"));
        let filter = header.map(exact).into_iter().collect();
        RequestBody::Claims(vec![Claim {
            filter,
            ..common::claim(80, ClaimMode::Steal)
        }])
    };
    assert_eq!(
        first.call(steal(None)).await,
        ReplyBody::Claims(vec![ClaimState::Active { older: 0 }])
    );
    let ReplyBody::Claims(states) = second.call(steal(Some("1"))).await else {
        panic!()
    };
    assert!(
        matches!(&states[..], [ClaimState::Taken { why, .. }] if why.starts_with("ada already steals")),
        "{states:?}"
    );
    assert_eq!(
        first.call(steal(Some("1"))).await,
        ReplyBody::Claims(vec![ClaimState::Active { older: 0 }])
    );
    assert_eq!(
        second.call(steal(Some("2"))).await,
        ReplyBody::Claims(vec![ClaimState::Active { older: 0 }])
    );

    // A second agent at the same place is refused; the first goes on.
    let refused = tokio::process::Command::new(env!("CARGO_BIN_EXE_agent"))
        .args(["serve", "--target-pid", &world.pod.pid.to_string(), "--socket"])
        .arg(&socket)
        .output();
    assert_eq!(in_time(refused).await.unwrap().status.code(), Some(75));

    first.link.close();
    assert!(
        in_time(first.agent.wait()).await.unwrap().success(),
        "attach ends with its session"
    );
    let mut second = second;
    assert_eq!(second.call(RequestBody::Ping).await, ReplyBody::Pong);
    // A killed attachment alone does not end a session; the end of its transport does.
    drop((second.link, second.control, second.acceptor));
    assert!(in_time(second.agent.wait()).await.unwrap().success());
    let start = std::time::Instant::now();
    assert!(in_time(agent.wait()).await.unwrap().success());
    assert!(start.elapsed() >= Duration::from_millis(900), "it lingers");
    assert!(!socket.exists());
    assert!(world.pod.run(&["nft", "list", "ruleset"]).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_at_the_socket_are_refused() {
    let world = world();
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let _agent = serve(&world, &socket, "60").await;
    let mut stranger = tokio::net::UnixStream::connect(&socket).await.unwrap();
    stranger.write_all(b"hello there").await.unwrap();
    assert_eq!(in_time(stranger.read_u8()).await.unwrap(), 77);
    let session = attach(&socket, "ada").await;
    assert_eq!(session.call(RequestBody::Ping).await, ReplyBody::Pong);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_agent_is_small_and_quiet() {
    let world = world();
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let agent = serve(&world, &socket, "60").await;
    let session = attach(&socket, "ada").await;
    session.facts().await;
    // nsenter has become the agent.
    let pid = agent.id().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap();
    println!("an idle agent: {memory} kB");
    assert!(memory < 32 * 1024, "{memory} kB");
    assert_eq!(
        std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))
            .unwrap()
            .trim(),
        "1000"
    );
    // Its lowest descriptor owns the packet rules: it must be released last.
    let lowest = std::fs::read_link(format!("/proc/{pid}/fd/3")).unwrap();
    let inode = lowest
        .to_string_lossy()
        .trim_start_matches("socket:[")
        .trim_end_matches(']')
        .to_owned();
    let netlink = world.pod.run(&["cat", "/proc/net/netlink"]);
    let line = netlink
        .lines()
        .find(|line| line.split_whitespace().last() == Some(&inode));
    assert_eq!(
        line.and_then(|line| line.split_whitespace().nth(1)),
        Some("12"),
        "NETLINK_NETFILTER is 12: {netlink}"
    );
}

/// A name server in the pod: answers A questions for `db.default.svc.local`, and nothing else.
fn name_server(world: &common::World, at: &str) {
    let at = at.to_owned();
    let socket = world.pod.within(move || std::net::UdpSocket::bind(at).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[12..length];
            let name_end = question.iter().position(|&byte| byte == 0).unwrap();
            let name = &question[..name_end];
            let kind = u16::from_be_bytes([question[name_end + 1], question[name_end + 2]]);
            let known = name == b"\x02db\x07default\x03svc\x05local";
            let mut reply = buffer[..2].to_vec();
            let (code, answers) = match (known, kind) {
                (true, 1) => (0, 1),
                (true, _) => (0, 0),
                _ => (3, 0),
            };
            reply.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
            reply.extend(&question[..name_end + 5]);
            if answers == 1 {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 96, 0, 7]);
            }
            socket.send_to(&reply, from).unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_as_the_pod_resolves_them() {
    let world = world();
    // Its own /etc, in its own mount namespace.
    let pid = world.pod.pid.to_string();
    let mount = "mount -t tmpfs none /etc && printf 'nameserver 127.0.0.1\\nsearch default.svc.local svc.local\\n\
                 options ndots:5 timeout:1 attempts:1\\n' > /etc/resolv.conf && printf '10.0.0.9 legacy\\n' > /etc/hosts";
    let mounted = std::process::Command::new("nsenter")
        .args(["-t", &pid, "-m", "--", "sh", "-c", mount])
        .status()
        .unwrap();
    assert!(mounted.success());
    name_server(&world, "127.0.0.1:53");
    let session = common::direct(world.pod.pid).await;
    let ask = async |name: &str, kind| {
        session
            .call(RequestBody::Resolve(Resolve {
                name: name.to_owned(),
                kind,
            }))
            .await
    };
    let address = |text: &str| ReplyBody::Resolved(vec![Record::Address(text.parse().unwrap())]);
    assert_eq!(ask("legacy", 1).await, address("10.0.0.9"));
    assert_eq!(ask("db", 1).await, address("10.96.0.7"));
    assert_eq!(ask("db.default.svc.local.", 1).await, address("10.96.0.7"));
    assert_eq!(ask("db", 28).await, ReplyBody::Resolved(vec![]));
    assert_eq!(ask("nothing", 1).await, ReplyBody::Resolved(vec![]));
    assert!(matches!(ask("", 1).await, ReplyBody::Failed(_)));
    assert!(matches!(ask(&"x".repeat(300), 1).await, ReplyBody::Failed(_)));
    let facts = session.facts().await;
    assert!(facts.resolv_conf.0.starts_with(b"nameserver 127.0.0.1"));
    until("done", async || true).await;
}
