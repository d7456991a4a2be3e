//! Datagrams that come to a pod's port, all of a claim on one stream.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::message::{Bytes, ClaimMode};

/// The header of an [`crate::message::Open::Datagrams`] stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datagrams {
    pub mode: ClaimMode,
    pub port: u16,
}

/// One datagram: of a client to the pod, or the answer back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datagram {
    pub client: SocketAddr,
    /// The pod's end.
    pub server: SocketAddr,
    pub data: Bytes,
}
