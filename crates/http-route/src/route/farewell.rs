//! Whether the client is to go on over another connection, which the router says at any time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Said once; until then whoever asks is woken when it is.
pub(super) struct Farewell<'a> {
    awaited: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
}

impl<'a> Farewell<'a> {
    pub(super) fn new(awaited: Pin<Box<dyn Future<Output = ()> + Send + 'a>>) -> Self {
        Self { awaited: Some(awaited) }
    }

    /// As far as was known when it was last polled.
    pub(super) fn is_said(&self) -> bool {
        self.awaited.is_none()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.awaited {
            None => Poll::Ready(()),
            Some(awaited) => {
                std::task::ready!(awaited.as_mut().poll(cx));
                self.awaited = None;
                Poll::Ready(())
            }
        }
    }
}
