//! Threads that open, read and close the same file, all at once.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::numbers::say;

const SPAN: Duration = Duration::from_secs(1);

pub fn measure(file: &Path, threads: usize) -> io::Result<()> {
    let begun = Instant::now();
    let opened = std::thread::scope(|scope| {
        let openers: Vec<_> = (0..threads).map(|_| scope.spawn(|| open(file, begun))).collect();
        let counts = openers
            .into_iter()
            .map(|opener| opener.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())));
        counts.sum::<io::Result<u32>>()
    })?;
    say("opens_per_s", f64::from(opened) / begun.elapsed().as_secs_f64());
    Ok(())
}

fn open(file: &Path, begun: Instant) -> io::Result<u32> {
    let (mut buffer, mut count) = ([0; 64], 0);
    while begun.elapsed() < SPAN {
        if File::open(file)?.read(&mut buffer)? > 0 {
            count += 1;
        }
    }
    Ok(count)
}
