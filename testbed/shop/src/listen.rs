//! One thread for each connection.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// Serves until the process ends. A connection that fails is the client's affair and ends only itself.
pub fn each_connection(
    name: &str,
    address: &str,
    handle: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> io::Result<()> {
    let listener =
        TcpListener::bind(address).map_err(|cause| io::Error::new(cause.kind(), format!("bind {address}: {cause}")))?;
    println!("{name} listens on {}", listener.local_addr()?);
    let handle = Arc::new(handle);
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        let handle = Arc::clone(&handle);
        // A machine that has no thread left drops this client and lives on.
        drop(thread::Builder::new().spawn(move || drop(handle(stream))));
    }
}
