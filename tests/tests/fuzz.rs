//! Every decoder of foreign bytes, fed with mutations of seeds from a fixed random sequence on stable Rust: none may panic or
//! hang. 10 s each, or `INPOD_FUZZ_SECONDS`.

#![allow(clippy::print_stdout, reason = "how many runs each decoder had is the result")]

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

/// What it reads, itself, and well-formed examples.
type Decoder = (&'static str, fn(&[u8]), &'static [&'static [u8]]);

/// The decoders: what they read, and well-formed examples to start from.
const DECODERS: &[Decoder] = &[
    (
        "wire: hello, frames, messages",
        wire::fuzz::fuzz,
        &[b"inpod\0\x01\n\0\0\0\x10\x01\x01\0\x05build", b"\0\0\0\x02\0\0"],
    ),
    (
        "guest protocol",
        guest::protocol::fuzz,
        &[b"\0\x01\0\x01\0\x7f\0\0\x01\x50"],
    ),
    (
        "the layer's block",
        guest::image::fuzz,
        &[b"\x7finpod layer: what it knows   \x01\0\xff\xff\0\0\0\0\0\0"],
    ),
    (
        "calls of the layer",
        guest::forward::fuzz,
        &[b"\x11\xca\x0d\x1d\x01\0\0\0\x02\0\0\0\0\0\0\0"],
    ),
    (
        "ELF of executables",
        guest::elf::fuzz,
        &[
            b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0",
            b"#!/bin/sh\n",
        ],
    ),
    (
        "guest memory: addresses, message headers",
        trap::fuzz,
        &[b"\x02\0\0\x50\x7f\0\0\x01\0\0\0\0\0\0\0\0", b"\x0a\0\0\x50\0\0\0\0"],
    ),
    (
        "DNS datagrams",
        session::fuzz,
        &[b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03web\x07default\0\0\x01\0\x01"],
    ),
    (
        "HTTP/1",
        http_route::fuzz,
        &[
            b"GET / HTTP/1.1\r\nHost: a\r\nX-User: me\r\n\r\n",
            b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ],
    ),
    (
        "netlink replies",
        nft::fuzz,
        &[b"\x24\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"],
    ),
    (
        "captured packets",
        capture::fuzz,
        &[b"\x45\0\0\x28\0\0\0\0\x40\x06\0\0\x0a\0\0\x01\x0a\0\0\x02\x30\x39\0\x50\0\0\0\0\0\0\0\0\x50\x02"],
    ),
    (
        "header patterns and address rules",
        rules::fuzz,
        &[b"X-User=me", b"re:^X-User: (a|b)$", b"10.0.0.0/8:443"],
    ),
    (
        "configuration: TOML",
        config::fuzz_toml,
        &[b"target = \"deploy/web\"\n[env]\ninclude = [\"A*\"]\n"],
    ),
    (
        "configuration: JSON",
        config::fuzz_json,
        &[b"{\"target\": \"deploy/web\", // c\n \"env\": {\"unset\": [\"B\"]}}"],
    ),
    (
        "configuration: YAML",
        config::fuzz_yaml,
        &[b"target: deploy/web\nincoming:\n  mode: steal\n  ports: [80]\n"],
    ),
    (
        "FUSE requests",
        view::fuse::fuzz,
        &[b"\x38\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0name\0"],
    ),
    ("targets and cluster texts", target::fuzz, &[b"pod/web/container/app"]),
    (
        "the agent's /proc and wire texts",
        agent::fuzz,
        &[
            b"12:cpu:/kubepods/pod1/abc\n",
            b"nameserver 10.96.0.10\nsearch a b\noptions ndots:5\n",
        ],
    ),
];

/// xorshift64*: the same sequence in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }
}

/// Bit flips, interesting bytes, insertions, deletions, repetitions, and splices of two seeds.
fn mutate(random: &mut Random, seeds: &[&[u8]]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'\r', b'\n', b' '][random.below(8)],
            2 => bytes.insert(at, random.next().to_le_bytes()[0]),
            3 if at < bytes.len() => drop(bytes.drain(at..(at + 1 + random.below(8)).min(bytes.len()))),
            4 => {
                let part = bytes[..at].to_vec();
                bytes.extend(part);
            }
            _ => {
                let other = seeds[random.below(seeds.len())];
                bytes.truncate(at);
                bytes.extend(&other[random.below(other.len() + 1)..]);
            }
        }
        bytes.truncate(1 << 16);
    }
    bytes
}

#[test]
fn no_decoder_panics() {
    let seconds = std::env::var("INPOD_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(10);
    let workers: Vec<_> = (0..2)
        .map(|worker| {
            std::thread::spawn(move || {
                for (index, (what, decode, seeds)) in DECODERS.iter().enumerate() {
                    if index % 2 == worker {
                        fuzz(what, *decode, seeds, Duration::from_secs(seconds));
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("no decoder panics");
    }
}

fn fuzz(what: &str, decode: fn(&[u8]), seeds: &[&[u8]], time: Duration) {
    let mut random = Random(0x1d0d_1d0d_1d0d_1d0d);
    let deadline = Instant::now() + time;
    let mut runs = 0_u64;
    while Instant::now() < deadline {
        let input = mutate(&mut random, seeds);
        let begun = Instant::now();
        assert!(
            catch_unwind(|| decode(&input)).is_ok(),
            "{what} panics on {:?} (after {runs} runs)",
            input.escape_ascii().to_string()
        );
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{what} hangs on {:?}",
            input.escape_ascii().to_string()
        );
        runs += 1;
    }
    println!("{what}: {runs} runs");
}
