//! Clients of a pod: this process' own threads, inside another pod's network.
//!
//! Invariant: nothing here ever connects from the machine's own network.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use testbed::Pod;

/// A pod's network, which stays as long as this.
#[derive(Debug)]
pub struct Network(File);

impl Network {
    /// # Panics
    /// When the pod has no process.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let processes = pod.processes().expect("/proc can be read");
        let any = processes
            .iter()
            .find(|process| process.state != 'Z')
            .expect("the pod has a process");
        Self::of_process(any.pid.unsigned_abs())
    }

    /// Of whoever this process shares it with.
    ///
    /// # Panics
    /// When there is no such process, or this one is not root.
    #[must_use]
    pub fn of_process(pid: u32) -> Self {
        Self(File::open(format!("/proc/{pid}/ns/net")).expect("root may open any network"))
    }

    /// Runs on a thread in there; sockets stay in the network in which they were made.
    ///
    /// # Panics
    /// When the network cannot be entered or `run` panics.
    pub fn enter<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&self.0), Some(LinkNameSpaceType::Network))
                    .expect("root may enter any network");
                run()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// # Errors
    /// As connect(2).
    pub fn connect(&self, address: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
        self.enter(|| TcpStream::connect_timeout(&address, patience))
            .inspect(|stream| {
                // Only delays measurements otherwise.
                let _ = stream.set_nodelay(true);
            })
    }
}
