//! `attach`: hands its stdin and stdout to the serving agent and stays until the session is over, because the exec that
//! started it ends with it.

use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use crate::AgentError;

/// Says that two descriptors come along: the version of this little protocol.
const HAND_OVER: u8 = 1;

pub(crate) fn run(socket: &Path) -> Result<ExitCode, AgentError> {
    let what = || format!("attaching at {}", socket.display());
    let mut stream = UnixStream::connect(socket).map_err(|error| AgentError::io(what(), error))?;
    give(&stream).map_err(|error| AgentError::io(what(), error))?;
    // The transport's end is seen only when nobody holds these any more.
    drop_stdio();
    let mut code = [0];
    match stream.read(&mut code) {
        Ok(1) => Ok(ExitCode::from(code[0])),
        Ok(_) => Err(AgentError::io(what(), io::Error::other("the agent ended"))),
        Err(error) => Err(AgentError::io(what(), error)),
    }
}

fn give(stream: &UnixStream) -> io::Result<()> {
    let (input, output) = (io::stdin(), io::stdout());
    let descriptors = [input.as_fd(), output.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(
        stream,
        &[IoSlice::new(&[HAND_OVER])],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn drop_stdio() {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    if let Ok(null) = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

/// The serving side: the two descriptors of one attachment; an error when what came is none.
pub(crate) fn take(stream: impl AsFd) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut buffers = [io::IoSliceMut::new(&mut byte)];
    let received = recvmsg(stream, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        })
        .flatten();
    if received.bytes == 0 {
        // Only looked whether somebody is here.
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match (
        received.bytes,
        byte,
        descriptors.next(),
        descriptors.next(),
        descriptors.next(),
    ) {
        (1, [HAND_OVER], Some(input), Some(output), None) => Ok((input, output)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not an attachment")),
    }
}
