//! The agent's program as bytes to send and as something to run.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::MemfdFlags;

use crate::error::TargetError;
use crate::options::AgentBinary;

/// A program to run, and what keeps it there while it is started.
pub(crate) struct Runnable {
    pub(crate) path: PathBuf,
    _memory: Option<File>,
}

impl AgentBinary {
    /// The program's bytes, to be delivered.
    pub(crate) async fn bytes(&self) -> Result<bytes::Bytes, TargetError> {
        match self {
            Self::Embedded { program, .. } => Ok(bytes::Bytes::from_static(program)),
            Self::Path(path) => {
                let read = tokio::fs::read(path).await.map(bytes::Bytes::from);
                read.map_err(|source| TargetError::AgentProgram {
                    path: path.clone(),
                    source,
                })
            }
        }
    }

    /// Something that `execve` takes.
    pub(crate) fn runnable(&self) -> Result<Runnable, TargetError> {
        match self {
            Self::Path(path) => match rustix::fs::access(path, rustix::fs::Access::EXEC_OK) {
                Ok(()) => Ok(Runnable {
                    path: path.clone(),
                    _memory: None,
                }),
                Err(errno) => Err(TargetError::AgentProgram {
                    path: path.clone(),
                    source: errno.into(),
                }),
            },
            Self::Embedded { program, .. } => in_memory(program).map_err(TargetError::Start),
        }
    }
}

/// memfd_create(2): nothing is written where another user or a noexec mount could stand in the way. The descriptor is
/// close-on-exec, so the agent itself does not inherit it; `/proc/self/fd` is resolved by the child before that.
fn in_memory(bytes: &[u8]) -> std::io::Result<Runnable> {
    let memory = rustix::fs::memfd_create("inpod-agent", MemfdFlags::CLOEXEC)?;
    let mut memory = File::from(memory);
    memory.write_all(bytes)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    Ok(Runnable {
        path,
        _memory: Some(memory),
    })
}

/// The bytes are read from disk once for each connector.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) binary: AgentBinary,
    read: Arc<tokio::sync::OnceCell<bytes::Bytes>>,
}

impl Program {
    pub(crate) fn new(binary: AgentBinary) -> Self {
        Self {
            binary,
            read: Arc::default(),
        }
    }

    pub(crate) async fn bytes(&self) -> Result<bytes::Bytes, TargetError> {
        self.read.get_or_try_init(|| self.binary.bytes()).await.cloned()
    }

    /// The program in gzip's format, for a container that can unpack it.
    pub(crate) fn packed(&self) -> Option<&'static [u8]> {
        match self.binary {
            AgentBinary::Embedded { packed, .. } => Some(packed),
            AgentBinary::Path(_) => None,
        }
    }
}
