//! Runs inside a session, or outside for comparison, and says what things take.

mod calls;
mod connects;
mod files;
mod numbers;
mod openers;
mod relay;
mod transfer;

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use numbers::{median_us, say};

const USAGE: &str =
    "usage: bench-guest clock | sleep SECONDS | echo ADDRESS COUNT | down ADDRESS BYTES | up ADDRESS BYTES
       | pipe-echo COUNT PROGRAM... | pipe-down BYTES PROGRAM... | pipe-up BYTES PROGRAM...
       | connect ADDRESS COUNT | connects OPEN REFUSED COUNT | calls FILE | openers FILE THREADS
       | spawn COUNT PROGRAM... | serve ADDRESS | relay MILLISECONDS AGENT...
       | cold DIRECTORY | warm DIRECTORY | sequential FILE | readers FILE THREADS";

#[allow(clippy::print_stderr, reason = "a program's usage")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("bench-guest {}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// `false`: no such command.
fn run(words: &[&str]) -> io::Result<bool> {
    match words {
        ["clock"] => clock(),
        ["sleep", seconds] => std::thread::sleep(Duration::from_secs(number(seconds)? as u64)),
        ["echo", address, count] => {
            let stream = connect(address)?;
            transfer::echo(&stream, &stream, number(count)?)?;
        }
        ["down", address, bytes] => transfer::down(connect(address)?, number(bytes)?)?,
        ["up", address, bytes] => {
            let stream = connect(address)?;
            transfer::up(&stream, &stream, number(bytes)?, || stream.shutdown(Shutdown::Write))?;
        }
        ["pipe-echo", count, program @ ..] => {
            piped(program, |input, output| transfer::echo(output, input, number(count)?))?;
        }
        ["pipe-down", bytes, program @ ..] => piped(program, |_, output| transfer::down(output, number(bytes)?))?,
        ["pipe-up", bytes, program @ ..] => piped(program, |mut input, output| {
            let bytes = number(bytes)?;
            let begun = transfer::send(&mut input, bytes)?;
            drop(input);
            transfer::confirmed(output, bytes, begun)
        })?,
        ["connect", address, count] => connects::one_by_one(address_of(address)?, number(count)?)?,
        ["connects", open, refused, count] => {
            connects::together(address_of(open)?, address_of(refused)?, number(count)?)?;
        }
        ["calls", file] => calls::measure(file.as_ref())?,
        ["openers", file, threads] => openers::measure(file.as_ref(), number(threads)?)?,
        ["spawn", count, program @ ..] => spawn(number(count)?, program)?,
        ["serve", address] => serve(address_of(address)?)?,
        ["relay", milliseconds, agent @ ..] => relay::run(number(milliseconds)? as u64, agent)?,
        ["cold", directory] => files::cold(directory.as_ref())?,
        ["warm", directory] => files::warm(directory.as_ref())?,
        ["sequential", file] => files::sequential(file.as_ref())?,
        ["readers", file, threads] => files::readers(file.as_ref(), number(threads)?)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// CLOCK_MONOTONIC is the same for every process of the machine: seconds of it at this program's main.
#[allow(clippy::cast_precision_loss, reason = "microseconds matter, not more")]
fn clock() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    say("main", now.tv_sec as f64 + now.tv_nsec as f64 / 1e9);
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address_of(address)?)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn piped(
    program: &[&str],
    measure: impl FnOnce(std::process::ChildStdin, std::process::ChildStdout) -> io::Result<()>,
) -> io::Result<()> {
    let mut child = command(program)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let measured = measure(input, output);
    let _ = child.kill();
    child.wait()?;
    measured
}

/// The program's whole life, again and again.
fn spawn(count: usize, program: &[&str]) -> io::Result<()> {
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        let status = command(program)?.stdout(Stdio::null()).status()?;
        times.push(begun.elapsed());
        if !status.success() {
            return Err(io::Error::other(format!("{}: {status}", program.join(" "))));
        }
    }
    say(
        "spawn_first_us",
        times.first().map_or(f64::NAN, |first| numbers::micros(*first)),
    );
    say("spawn_us", median_us(&mut times));
    Ok(())
}

/// A source that does not end by itself, for [`transfer::down`], to one after the other.
fn serve(address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    let buffer = vec![0; 256 << 10];
    for stream in listener.incoming() {
        let mut stream = stream?;
        // Until the other end has had enough.
        while io::Write::write_all(&mut stream, &buffer).is_ok() {}
    }
    Ok(())
}

fn command(program: &[&str]) -> io::Result<Command> {
    let (name, arguments) = program.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(name);
    command.args(arguments);
    Ok(command)
}

fn number(text: &str) -> io::Result<usize> {
    text.parse()
        .map_err(|_| io::Error::other(format!("`{text}` is no number")))
}

fn address_of(text: &str) -> io::Result<SocketAddr> {
    text.parse()
        .map_err(|_| io::Error::other(format!("`{text}` is no address")))
}
