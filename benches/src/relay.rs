//! Distance: stands between a session and its agent, and hands every byte on after a while. It holds no bandwidth back.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// What is passed on at once, in bytes, and how many such pieces may be under way each way: 64 MiB, more than any link of
/// this machine has under way in the time.
const PIECE: usize = 64 << 10;
const PIECES: usize = 1024;

/// Runs the agent with its standard input and output so far away; its exit status is not looked at.
pub fn run(milliseconds: u64, program: &[&str]) -> io::Result<()> {
    let delay = Duration::from_millis(milliseconds);
    let (name, arguments) = program.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    // The end of the session's bytes is the agent's end; this thread ends with the process.
    std::thread::spawn(move || pass(io::stdin(), input, delay));
    pass(output, io::stdout(), delay)?;
    let _ = child.kill();
    child.wait()?;
    Ok(())
}

fn pass(mut from: impl Read + Send + 'static, mut to: impl Write, delay: Duration) -> io::Result<()> {
    let (send, arrived) = sync_channel::<(Instant, Vec<u8>)>(PIECES);
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let piece = buffer.get(..count).unwrap_or_default().to_vec();
            if send.send((Instant::now() + delay, piece)).is_err() {
                break;
            }
        }
    });
    for (due, piece) in arrived {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        to.write_all(&piece)?;
        to.flush()?;
    }
    Ok(())
}
