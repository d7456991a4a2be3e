//! Seeded mutations of real bytes into every decoder. Longer runs: INPOD_FUZZ_SECONDS.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::time::{Duration, Instant};

use wire::message::{
    Bytes, Claim, ClaimMode, Dialed, FileAnswer, FileOperation, FileReply, FileRequest, Open, Pem, Reply, ReplyBody,
    Request, RequestBody, Tls, ToSession, Xattr,
};
use wire::{Hello, frame};

/// xorshift64*: reproducible, no dependency.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let messages = [
        frame::encode(&Open::Control),
        frame::encode(&Open::Files),
        frame::encode(&Dialed::Ok {
            local: "10.0.0.1:80".parse().unwrap(),
        }),
        frame::encode(&Request {
            id: 7,
            body: RequestBody::Facts,
        }),
        frame::encode(&Request {
            id: 8,
            body: RequestBody::Claims(vec![Claim {
                port: 443,
                mode: ClaimMode::Steal,
                filter: vec![],
                probes: vec![],
                reconnect: false,
                tls: Some(Tls {
                    certificate: Pem::Path(Bytes(b"/tls.crt".to_vec())),
                    key: Pem::Content(Bytes(b"key".to_vec())),
                    client_ca: None,
                    client_identity: None,
                }),
            }]),
        }),
        frame::encode(&FileRequest {
            id: 300,
            body: FileOperation::Stat(vec![Bytes(b"/etc/hosts".to_vec()); 3]),
        }),
        frame::encode(&FileReply {
            id: 300,
            body: FileAnswer::Xattrs(vec![
                Ok(vec![Xattr {
                    name: Bytes(b"user.a".to_vec()),
                    value: Some(Bytes(b"value".to_vec())),
                }]),
                Err(2),
            ]),
        }),
        frame::encode(&ToSession::Reply(Reply {
            id: 1,
            body: ReplyBody::Env(vec![(Bytes(b"A".to_vec()), Bytes::default())]),
        })),
        frame::encode_packed(&FileReply {
            id: 301,
            body: FileAnswer::Read(Bytes(b"a text ".repeat(300))),
        }),
        frame::encode(&Hello::new([1; 16], [2; 16], "ada")),
    ];
    let mut seeds = Vec::new();
    for message in messages {
        let framed = message.unwrap();
        seeds.push(framed[4..].to_vec());
        seeds.push(framed);
    }
    seeds.push(vec![0xff; 64]);
    seeds.push(Vec::new());
    seeds
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    let seconds = std::env::var("INPOD_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut random = Random(0x1d0d_1d0d);
    let seeds = seeds();
    while Instant::now() < end {
        for seed in &seeds {
            let mut data = seed.clone();
            for _ in 0..random.below(8) {
                match random.below(4) {
                    0 if !data.is_empty() => {
                        let at = random.below(data.len());
                        data[at] = random.next() as u8;
                    }
                    1 => data.truncate(random.below(data.len() + 1)),
                    2 => data.insert(random.below(data.len() + 1), random.next() as u8),
                    _ => data.extend_from_within(random.below(data.len() + 1)..),
                }
            }
            wire::fuzz::fuzz(&data);
        }
    }
}
