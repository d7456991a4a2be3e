//! What connecting takes.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use crate::numbers::{median_us, micros, say};

/// When a connect counts as hung.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn one_by_one(address: SocketAddr, count: usize) -> io::Result<()> {
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        drop(TcpStream::connect(address)?);
        times.push(begun.elapsed());
    }
    say("connect_us", median_us(&mut times));
    Ok(())
}

/// All at once and not blocking, every second one to an address that refuses; then each must have its own result.
#[allow(clippy::cast_precision_loss, reason = "a few dozen")]
pub fn together(open: SocketAddr, refused: SocketAddr, count: usize) -> io::Result<()> {
    let begun = Instant::now();
    let mut sockets = Vec::new();
    for index in 0..count {
        let refuses = index % 2 == 1;
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )?;
        match connect(&socket, if refuses { &refused } else { &open }) {
            Ok(()) | Err(Errno::INPROGRESS) => sockets.push((socket, refuses)),
            Err(errno) => return Err(errno.into()),
        }
    }
    say("begun_us", micros(begun.elapsed()));
    let mut wrong = 0;
    while !sockets.is_empty() {
        let mut polled: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|(socket, _)| PollFd::new(socket, PollFlags::OUT))
            .collect();
        if begun.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        poll(&mut polled, Some(&second))?;
        let done: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
        let mut done = done.into_iter();
        let (ended, rest): (Vec<_>, Vec<_>) = sockets.into_iter().partition(|_| done.next() == Some(true));
        wrong += ended
            .iter()
            .filter(|(socket, refuses)| is_refused(socket) != Some(*refuses))
            .count();
        sockets = rest;
    }
    say("together_us", micros(begun.elapsed()));
    say("wrong", wrong as f64);
    Ok(())
}

/// `None`: neither connected nor refused.
fn is_refused(socket: &OwnedFd) -> Option<bool> {
    match sockopt::socket_error(socket) {
        Ok(Ok(())) => Some(false),
        Ok(Err(Errno::CONNREFUSED)) => Some(true),
        _ => None,
    }
}
