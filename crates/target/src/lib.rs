//! Where a session goes: targets are named, found, and reached, and the agent is delivered to them.
//!
//! [`TargetSpec`] is what a person writes, [`Connector`] the target it stands for. A connector can be used again: each
//! [`Connector::connect`] gives one transport to the target's agent, which it starts where none runs. What the cluster
//! says when it refuses is kept word for word in [`TargetError`], beside what can be done about it.
//!
//! Invariant: nothing is created in the cluster but one ephemeral container in one pod, and that only after everything
//! that can be known beforehand was checked.

mod binary;
mod connector;
mod error;
mod kubernetes;
mod near;
mod options;
mod process;
mod progress;
mod spec;

pub use connector::{Connector, Description, Serving};
pub use error::TargetError;
pub use kubernetes::list::{Listed, ListedContainer, Listing, list};
pub use kubernetes::probes::{PodProbe, ProbeKind};
pub use kubernetes::rights::{Denial, Rights, Rung};
pub use kubernetes::services::{PodServices, ServiceAddress};
pub use kubernetes::spec_view::{EnvFromSpec, VolumeMount};
pub use options::{AgentBinary, AgentSettings, KubeOptions, Needs};
pub use progress::{Phase, Progress};
pub use spec::{SpecError, TargetSpec, WorkloadKind};

/// Feeds foreign bytes to this crate's decoder, the messages of an exec stream.
pub fn fuzz(data: &[u8]) {
    kubernetes::exec::fuzz(data);
}
