//! The three transfers, over anything that reads and writes.

use std::io::{self, Read, Write};
use std::time::Instant;

use crate::numbers::{median_us, rate, say};

/// What is read and written at once, in bytes.
const CHUNK: usize = 256 << 10;
/// Round trips that only warm things up.
const WARM_UP: usize = 50;

/// One byte there and back.
pub fn echo(mut from: impl Read, mut to: impl Write, count: usize) -> io::Result<()> {
    let mut times = Vec::with_capacity(count);
    for round in 0..count + WARM_UP {
        let begun = Instant::now();
        to.write_all(b"x")?;
        to.flush()?;
        from.read_exact(&mut [0])?;
        if round >= WARM_UP {
            times.push(begun.elapsed());
        }
    }
    say("round_trip_us", median_us(&mut times));
    Ok(())
}

/// From a source that does not end by itself; the time begins with the first bytes.
pub fn down(mut from: impl Read, bytes: usize) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    if from.read(&mut buffer)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (begun, mut received) = (Instant::now(), 0);
    while received < bytes {
        match from.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => received += count,
        }
    }
    say("down_mb_s", rate(received, begun));
    Ok(())
}

/// To a sink that says something when it has read everything.
pub fn up(from: impl Read, mut to: impl Write, bytes: usize, end: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let begun = send(&mut to, bytes)?;
    end()?;
    confirmed(from, bytes, begun)
}

pub fn send(to: &mut impl Write, bytes: usize) -> io::Result<Instant> {
    let buffer = vec![0; CHUNK];
    let begun = Instant::now();
    for _ in 0..bytes.div_ceil(CHUNK) {
        to.write_all(&buffer)?;
    }
    to.flush()?;
    Ok(begun)
}

pub fn confirmed(mut from: impl Read, bytes: usize, begun: Instant) -> io::Result<()> {
    let mut said = Vec::new();
    from.read_to_end(&mut said)?;
    if said.is_empty() {
        return Err(io::Error::other("the sink did not confirm"));
    }
    say("up_mb_s", rate(bytes.div_ceil(CHUNK) * CHUNK, begun));
    Ok(())
}
