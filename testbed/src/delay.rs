//! A distant cluster: a TCP proxy before the API server that holds everything back for half a round trip each way.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::credentials::{TLS_SERVER_NAME, write};
use crate::error::{At, Error, Result};
use crate::network::{API_PORT, NODE};
use crate::paths::Paths;

const CHUNK: usize = 64 << 10;
/// In flight each way at most, in chunks: 16 MiB, so that the delay and not the proxy limits the rate.
const IN_FLIGHT: usize = 256;

/// Lives until it is dropped; its kubeconfig goes with it. Connections end with one of their ends.
#[derive(Debug)]
pub struct DelayProxy {
    address: SocketAddr,
    kubeconfig: PathBuf,
    stopped: Arc<AtomicBool>,
}

/// Starts a proxy that adds `round_trip` to each exchange with the API server, connecting included.
pub fn delay_proxy(round_trip: Duration) -> Result<DelayProxy> {
    let paths = Paths::of_workspace();
    let api: SocketAddr = format!("{NODE}:{API_PORT}")
        .parse()
        .map_err(|_| Error::unexpected("start the delaying proxy", "the API server's address is malformed"))?;
    let stopped = Arc::new(AtomicBool::new(false));
    let address = listen(api, round_trip, Arc::clone(&stopped)).map_err(|source| Error::Io {
        doing: "start the delaying proxy".to_owned(),
        source,
    })?;
    let plain = paths.user_kubeconfig();
    let text = fs::read_to_string(&plain).at("read", &plain)?;
    // The certificate does not know the proxy's address.
    let through = format!("server: https://{address}\n      tls-server-name: {TLS_SERVER_NAME}");
    let kubeconfig = plain.with_file_name(format!("kubeconfig-delayed-{}", address.port()));
    write(
        &kubeconfig,
        &text.replace(&format!("server: https://{api}"), &through),
        0o644,
    )?;
    Ok(DelayProxy {
        address,
        kubeconfig,
        stopped,
    })
}

impl DelayProxy {
    /// The plain user's, going through the proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

impl Drop for DelayProxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then sees that it is over.
        drop(TcpStream::connect(self.address));
        drop(fs::remove_file(&self.kubeconfig));
    }
}

fn listen(upstream: SocketAddr, round_trip: Duration, stopped: Arc<AtomicBool>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming() {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            if let Ok(client) = client {
                // The client sees its connection end where this fails.
                thread::spawn(move || relay(client, upstream, round_trip));
            }
        }
    });
    Ok(address)
}

fn relay(client: TcpStream, upstream: SocketAddr, round_trip: Duration) -> io::Result<()> {
    // The kernel has accepted at once; a distant host would have taken this long.
    thread::sleep(round_trip);
    let server = TcpStream::connect(upstream)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let one_way = round_trip / 2;
    carry(client.try_clone()?, server.try_clone()?, one_way);
    carry(server, client, one_way);
    Ok(())
}

struct Chunk {
    due: Instant,
    /// Empty: the sender has ended.
    bytes: Vec<u8>,
}

fn carry(from: TcpStream, to: TcpStream, delay: Duration) {
    let (queue, chunks) = sync_channel(IN_FLIGHT);
    thread::spawn(move || receive(from, &queue, delay));
    thread::spawn(move || send(to, &chunks));
}

fn receive(mut from: TcpStream, queue: &SyncSender<Chunk>, delay: Duration) {
    let mut buffer = vec![0; CHUNK];
    loop {
        // A connection that breaks ends as one that is closed.
        let length = from.read(&mut buffer).unwrap_or(0);
        let chunk = Chunk {
            due: Instant::now() + delay,
            bytes: buffer[..length].to_vec(),
        };
        if queue.send(chunk).is_err() || length == 0 {
            break;
        }
    }
}

fn send(mut to: TcpStream, chunks: &Receiver<Chunk>) {
    for chunk in chunks {
        thread::sleep(chunk.due.saturating_duration_since(Instant::now()));
        if chunk.bytes.is_empty() {
            drop(to.shutdown(Shutdown::Write));
            return;
        }
        if to.write_all(&chunk.bytes).is_err() {
            // Lets the other side's sender know.
            drop(to.shutdown(Shutdown::Both));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_whole_and_late() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = server.local_addr().unwrap();
        thread::spawn(move || {
            let (stream, _) = server.accept().unwrap();
            io::copy(&mut &stream, &mut &stream).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let round_trip = Duration::from_millis(40);
        let address = listen(upstream, round_trip, Arc::default()).unwrap();
        let sent: Vec<u8> = (0..1_000_000u32).map(|number| number as u8).collect();
        let start = Instant::now();
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(&sent[..1]).unwrap();
        let mut received = vec![0; 1];
        client.read_exact(&mut received).unwrap();
        // One round trip to connect, one for the byte.
        assert!(start.elapsed() >= 2 * round_trip, "{:?}", start.elapsed());
        let mut writer = client.try_clone().unwrap();
        let rest = sent[1..].to_vec();
        thread::spawn(move || {
            writer.write_all(&rest).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        client.read_to_end(&mut received).unwrap();
        assert!(
            received == sent,
            "{} of {} bytes, or others",
            received.len(),
            sent.len()
        );
    }
}
