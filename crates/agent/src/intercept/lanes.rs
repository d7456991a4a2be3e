//! Threads that each serve redirected connections of their own. Where threads share their tasks, one of them wakes another for
//! each burst of requests, and requests wait for that: two lanes pass on a tenth more of HTTP/1, at three quarters of the latency.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use crate::process::{STACK, WORKERS};

pub(super) struct Lanes {
    lanes: Vec<Handle>,
    next: AtomicUsize,
}

impl Lanes {
    /// They end, with all that they serve, when `stop` is cancelled.
    pub(super) fn start(stop: &CancellationToken) -> io::Result<Self> {
        let lane = |_| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let stop = stop.clone();
            std::thread::Builder::new()
                .name("lane".to_owned())
                .stack_size(STACK)
                .spawn(move || runtime.block_on(stop.cancelled()))?;
            Ok(handle)
        };
        Ok(Self {
            lanes: (0..WORKERS).map(lane).collect::<io::Result<_>>()?,
            next: AtomicUsize::new(0),
        })
    }

    /// Serves a connection on one of them, each in its turn.
    pub(super) fn serve<F>(
        &self,
        client: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send,
    {
        let client = client.into_std()?;
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
        self.lanes[next].spawn(async move {
            match TcpStream::from_std(client) {
                Ok(client) => serve(client).await,
                Err(error) => tracing::warn!(%error, "handing a redirected connection to its thread"),
            }
        });
        Ok(())
    }
}
