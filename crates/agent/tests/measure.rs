//! Figures, and the seeded fuzz run. `cargo test --release -p agent --test measure -- --ignored --nocapture` prints them.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::time::{Duration, Instant};

use common::{in_time, world};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::frame;
use wire::message::{Destination, Dial, Dialed, Open};

const SIZE: usize = 512 << 20;

fn status(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches([':', ' ', '\t'])
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// User and system time in clock ticks (10 ms).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; takes a minute"]
async fn figures() {
    let world = world();
    let listener = world.pod.listen("127.0.0.1:7000");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                match socket.read_u8().await.unwrap() {
                    b'd' => {
                        let chunk = vec![0; 1 << 20];
                        for _ in 0..SIZE >> 20 {
                            socket.write_all(&chunk).await.unwrap();
                        }
                    }
                    b'u' => {
                        let count = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await.unwrap();
                        socket.write_u64(count).await.unwrap();
                    }
                    _ => {
                        let (mut reader, mut writer) = socket.split();
                        let _ = tokio::io::copy(&mut reader, &mut writer).await;
                    }
                }
            });
        }
    });
    let session = common::direct(world.pod.pid).await;
    let pid = session.agent.id().unwrap();
    let dial = async |what: &[u8]| {
        let destination = Destination::Tcp("127.0.0.1:7000".parse().unwrap());
        let mut stream = session
            .link
            .open(
                &Open::Dial(Dial {
                    destination,
                    timeout_ms: 0,
                }),
                what,
            )
            .await
            .unwrap();
        assert!(matches!(
            frame::read_message(&mut stream).await.unwrap(),
            Dialed::Ok { .. }
        ));
        stream
    };
    let rate = |start: Instant| SIZE as f64 / 1e6 / start.elapsed().as_secs_f64();

    let mut down = dial(b"d").await;
    let (start, mut total, mut buffer) = (Instant::now(), 0, vec![0; 1 << 17]);
    while total < SIZE {
        total += down.read(&mut buffer).await.unwrap();
    }
    println!("down {:.0} MB/s", rate(start));

    let mut up = dial(b"u").await;
    let (start, chunk) = (Instant::now(), vec![0; 1 << 20]);
    for _ in 0..SIZE >> 20 {
        up.write_all(&chunk).await.unwrap();
    }
    up.shutdown().await.unwrap();
    assert_eq!(up.read_u64().await.unwrap(), SIZE as u64);
    println!("up {:.0} MB/s", rate(start));

    let mut echo = dial(b"e").await;
    let mut times = Vec::new();
    for _ in 0..2000 {
        let start = Instant::now();
        echo.write_all(b"x").await.unwrap();
        echo.read_u8().await.unwrap();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!("one byte, there and back: {:?} (median)", times[times.len() / 2]);
    println!(
        "memory after that: {} kB, at most {} kB",
        status(pid, "VmRSS"),
        status(pid, "VmHWM")
    );
    let before = ticks(pid);
    tokio::time::sleep(Duration::from_secs(30)).await;
    println!("idle for 30 s: {} ms of processor time", (ticks(pid) - before) * 10);
    in_time(async { drop(session) }).await;
}

#[test]
fn no_bytes_of_the_target_make_the_agent_panic() {
    let seeds: [&[u8]; 5] = [
        b"A=1\0B=2\0",
        b"nameserver 10.0.0.1\nsearch a b\noptions ndots:5\n",
        b"10.0.0.1 localhost\n::1 x # y\n",
        b"4 1 0:4 /x /etc/a\\040b rw - ext4 e rw\n",
        b"Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t1 2\nCapEff:\tff\n",
    ];
    let seconds = std::env::var("INPOD_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut state = 0x1d0d_1d0d_u64;
    let mut next = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % limit.max(1) as u64).unwrap()
    };
    while Instant::now() < end {
        for seed in seeds {
            let mut data = seed.to_vec();
            for _ in 0..next(8) {
                let at = next(data.len());
                match next(3) {
                    0 if !data.is_empty() => data[at] = u8::try_from(next(256)).unwrap(),
                    1 => data.truncate(at),
                    _ => data.insert(at, u8::try_from(next(256)).unwrap()),
                }
            }
            agent::fuzz(&data);
        }
    }
}
