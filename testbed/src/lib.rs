//! A real Kubernetes on this machine, for tests and for trying things: one node, built from source, in namespaces of its
//! own. `up` brings it up, `down` leaves the machine as it was; tests begin with [`Testbed::require`].
//!
//! Invariant: nothing leaves the machine, and from the machine only the API server is reachable, as with a real cluster.
//! Invariant: what is ended was started here: by pid and start time, never by name.
//! Invariant: nothing of the machine is written outside `target/testbed`, except packages that `up` installs.

mod cgroups;
mod cluster;
mod components;
mod credentials;
mod debian;
mod delay;
mod down;
mod error;
mod fixtures;
mod images;
mod kubectl;
mod lock;
mod network;
mod node;
mod oci;
mod packages;
mod paths;
mod pod;
mod process;
mod programs;
mod stamp;
mod state;
mod status;
mod up;
mod wait;

pub use delay::{DelayProxy, delay_proxy};
pub use down::down;
pub use error::Error;
pub use fixtures::{Admin, FreshPod, Testbed};
pub use kubectl::Kubectl;
pub use packages::{install as install_these, install_missing as install_packages};
pub use pod::{Pod, PodProcess};
pub use process::Process;
pub use programs::statically;
pub use status::{Status, status};
pub use up::{Options, Phase, Running, up};
pub use wait::wait_for;
