//! What single system calls take, in microseconds: of several batches the quickest, since others use the machine as well.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};

use crate::numbers::{micros, say};

const BATCHES: usize = 15;

pub fn measure(file: &Path) -> io::Result<()> {
    let mut buffer = [0; 64];
    // By libc, as most programs do it; what follows is by system calls.
    batch("open_read_close_us", 2000, || {
        let read = File::open(file).and_then(|mut file| file.read(&mut buffer));
        read.map(drop).map_err(|error| errno(&error))
    })?;
    batch("stat_us", 2000, || {
        std::fs::metadata(file).map(drop).map_err(|error| errno(&error))
    })?;
    by_directory(file)?;
    batch("getppid_us", 100_000, || {
        black_box(rustix::process::getppid());
        Ok(())
    })?;
    let zero = rustix::fs::open("/dev/zero", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    batch("read_us", 50_000, || {
        rustix::io::read(&zero, &mut buffer[..1]).map(drop)
    })?;
    let null = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    batch("write_us", 50_000, || rustix::io::write(&null, b"x").map(drop))?;
    let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC)?;
    let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut events = Vec::with_capacity(1);
    batch("epoll_wait_us", 50_000, || {
        rustix::event::epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&at_once)).map(drop)
    })?;
    let own = Own::listen()?;
    batch("connect_own_us", 200, || own.connect())
}

/// The same relative to the working directory, and to a directory's descriptor (`DirEntry::metadata` asks by it).
fn by_directory(file: &Path) -> io::Result<()> {
    let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let found = std::fs::read_dir(directory)?.find(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name() == name));
    let entry = found.ok_or(io::ErrorKind::NotFound)??;
    std::env::set_current_dir(directory)?;
    let mut buffer = [0; 64];
    batch("open_read_close_relative_us", 2000, || {
        let read = File::open(name).and_then(|mut file| file.read(&mut buffer));
        read.map(drop).map_err(|error| errno(&error))
    })?;
    batch("stat_at_us", 2000, || {
        entry.metadata().map(drop).map_err(|error| errno(&error))
    })
}

fn errno(error: &io::Error) -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(error).unwrap_or(rustix::io::Errno::IO)
}

/// A listener of this program's own, which no session takes elsewhere.
struct Own(SocketAddr);

impl Own {
    fn listen() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || while listener.accept().is_ok() {});
        Ok(Self(address))
    }

    fn connect(&self) -> Result<(), rustix::io::Errno> {
        TcpStream::connect(self.0).map(drop).map_err(|error| errno(&error))
    }
}

fn batch(name: &str, calls: u32, mut call: impl FnMut() -> Result<(), rustix::io::Errno>) -> io::Result<()> {
    let mut best = f64::INFINITY;
    for _ in 0..BATCHES {
        let begun = Instant::now();
        for _ in 0..calls {
            call()?;
        }
        best = best.min(micros(begun.elapsed()) / f64::from(calls));
    }
    say(name, best);
    Ok(())
}
