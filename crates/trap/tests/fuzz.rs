//! Every decoder takes any bytes: seeded, so a failure repeats.

/// A small generator (xorshift64*), since the corpus must be the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[test]
fn decoders_take_any_bytes() {
    let mut random = Random(0x5eed);
    let seeds: [&[u8]; 4] = [
        b"\x02\x00\x00\x50\x7f\x00\x00\x01\0\0\0\0\0\0\0\0",
        b"\x01\x00/run/nscd/socket\0",
        b"7 (sh) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 999",
        &[72, 0, 0, 0, 20, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for round in 0..200_000_u64 {
        let mut bytes = seeds[(round % 4) as usize].to_vec();
        bytes.resize(random.next() as usize % 160, random.next() as u8);
        for _ in 0..random.next() % 8 {
            if let Some(at) = (random.next() as usize).checked_rem(bytes.len()) {
                bytes[at] = random.next() as u8;
            }
        }
        trap::fuzz(&bytes);
        guest::protocol::fuzz(&bytes);
        guest::elf::fuzz(&bytes);
    }
}
