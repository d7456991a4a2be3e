//! The server's end of the channel to the supervisor: calls are dispatched, answers and events go back.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use guest::channel::{Channel, ChannelError};
use guest::event::Event;
use guest::protocol::{Answer, FromServer, ToServer};
use tokio::sync::mpsc;

/// Sends to the supervisor; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Guests(Arc<Channel>);

impl Guests {
    pub(crate) fn event(&self, event: Event) {
        self.send(&FromServer::Event(event));
    }

    pub(crate) fn answer(&self, id: u32, answer: Answer) {
        self.send(&FromServer::Answer { id, answer });
    }

    /// A supervisor that is gone is noticed by its pidfd, so a failed send needs nothing here.
    pub(crate) fn send(&self, message: &FromServer) {
        if let Err(error) = self.0.send(message, &[]) {
            tracing::debug!(%error, "cannot tell the supervisor");
        }
    }
}

/// One message with its descriptors.
pub(crate) type Received = (ToServer, Vec<OwnedFd>);

/// Splits the channel: a thread of its own receives, since a packet socket's messages are best taken blocking.
pub(crate) fn split(channel: Channel) -> std::io::Result<(Guests, mpsc::UnboundedReceiver<Received>)> {
    let channel = Arc::new(channel);
    let (sender, receiver) = mpsc::unbounded_channel();
    let reading = Arc::clone(&channel);
    std::thread::Builder::new().name("guests".to_owned()).spawn(move || {
        loop {
            match reading.receive::<ToServer>() {
                Ok(message) => {
                    if sender.send(message).is_err() {
                        return;
                    }
                }
                Err(ChannelError::Closed) => return,
                Err(error) => tracing::warn!(%error, "a message of the supervisor was dropped"),
            }
        }
    })?;
    Ok((Guests(channel), receiver))
}
