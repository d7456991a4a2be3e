//! Files of the pod: what the first look at one costs, and what each further one does.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::numbers::{median_us, micros, rate, say};

/// How long a loop goes on: shorter than attributes are believed, so that they are fresh.
const SPAN: Duration = Duration::from_millis(500);
const BATCHES: usize = 9;
/// What is read at once of a long file, in bytes.
const CHUNK: usize = 256 << 10;

/// Each file once, in a directory that nobody has looked at.
pub fn cold(directory: &Path) -> io::Result<()> {
    let begun = Instant::now();
    let mut file = File::open(directory.join("bytewise/7k"))?;
    let (mut byte, mut count) = ([0], 0);
    while file.read(&mut byte)? == 1 {
        count += 1;
    }
    drop(file);
    say("bytewise_us", micros(begun.elapsed()));
    say("bytewise_bytes", f64::from(count));
    let mut times = Vec::new();
    for number in 0..5 {
        let path = directory.join(format!("deep{number}/a/b/c/d/e/f/g/h/small"));
        let begun = Instant::now();
        std::fs::read(path)?;
        times.push(begun.elapsed());
    }
    say("deep_us", median_us(&mut times));
    Ok(())
}

/// What is known already, again and again.
pub fn warm(directory: &Path) -> io::Result<()> {
    let (small, big) = (directory.join("bytewise/7k"), directory.join("megabyte"));
    let open = File::open(&small)?;
    let mut page = [0; 4096];
    again("pread_us", || open.read_at(&mut page, 0).map(drop))?;
    let mut content = vec![0; 1 << 20];
    again("megabyte_us", || File::open(&big)?.read_exact(&mut content))?;
    let mapped = File::open(&big)?;
    again("megabyte_open_us", || mapped.read_exact_at(&mut content, 0))?;
    again("stat_us", || std::fs::metadata(&small).map(drop))?;
    again("open_read_close_us", || {
        let mut file = File::open(&small)?;
        file.read(&mut page).map(drop)
    })
}

/// The quickest batch's mean: this machine is shared.
fn again(name: &str, mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    call()?;
    let (mut least, begun) = (f64::INFINITY, Instant::now());
    let mut size = 1;
    let mut batches = 0;
    while batches < BATCHES || begun.elapsed() < SPAN {
        let one = Instant::now();
        for _ in 0..size {
            call()?;
        }
        let took = one.elapsed();
        if took < SPAN / 50 {
            size *= 2;
            continue;
        }
        least = least.min(micros(took) / f64::from(size));
        batches += 1;
    }
    say(name, least);
    Ok(())
}

/// All of a long file, one piece after the other.
pub fn sequential(path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let (mut buffer, begun, mut bytes) = (vec![0; CHUNK], Instant::now(), 0);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => bytes += count,
        }
    }
    say("sequential_mb_s", rate(bytes, begun));
    Ok(())
}

/// Threads that read pages of one open file, all at once.
pub fn readers(path: &Path, threads: usize) -> io::Result<()> {
    let file = File::open(path)?;
    let begun = Instant::now();
    let read = || -> io::Result<u32> {
        let (mut page, mut count) = ([0; 4096], 0);
        while begun.elapsed() < 2 * SPAN {
            for number in 0..64 {
                file.read_at(&mut page, number * 4096)?;
            }
            count += 64;
        }
        Ok(count)
    };
    let total = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads).map(|_| scope.spawn(read)).collect();
        let counts = readers
            .into_iter()
            .map(|reader| reader.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())));
        counts.sum::<io::Result<u32>>()
    })?;
    say("reads_per_s", f64::from(total) / begun.elapsed().as_secs_f64());
    Ok(())
}
