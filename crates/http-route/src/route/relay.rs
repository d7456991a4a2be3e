//! Both directions of a connection, unparsed.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use super::side::Side;
use crate::Connection;

/// How a relay ended.
pub(super) enum Relayed {
    /// Both directions ended, in their order.
    Ended,
    /// The client broke; the upstream was told to reset.
    ClientReset,
    /// The upstream broke; the client was told to reset.
    UpstreamReset,
}

/// Passes on everything held and received, with half-close and back-pressure, until both directions are over.
pub(super) async fn relay<A: Connection, B: Connection>(client: &mut Side<A>, upstream: &mut Side<B>) -> Relayed {
    let (mut up, mut down) = (false, false);
    poll_fn(|cx| {
        if !up && let Poll::Ready(pumped) = poll_pump(client, upstream, cx) {
            if pumped.is_err() {
                upstream.io.reset();
                return Poll::Ready(Relayed::ClientReset);
            }
            up = true;
        }
        if !down && let Poll::Ready(pumped) = poll_pump(upstream, client, cx) {
            if pumped.is_err() {
                client.io.reset();
                return Poll::Ready(Relayed::UpstreamReset);
            }
            down = true;
        }
        if up && down {
            Poll::Ready(Relayed::Ended)
        } else {
            Poll::Pending
        }
    })
    .await
}

/// Behind the last response: what still comes, from either side, until the upstream ends the connection itself, so that an
/// app which goes on reading a request it has answered can do so.
pub(super) async fn finish<A: Connection, B: Connection>(client: &mut Side<A>, upstream: &mut Side<B>) {
    let mut up = false;
    poll_fn(|cx| {
        // A client that breaks now has its answer; the upstream ends by the drop.
        up = up || poll_pump(client, upstream, cx).is_ready();
        poll_pump(upstream, client, cx).map(|_| ())
    })
    .await;
}

/// One direction. Ready when it is over: `from` ended and so did our direction to `to`, or `to` takes no more.
///
/// # Errors
/// When `from` breaks. That `to` breaks is seen when reading from it, behind what it still had to say.
fn poll_pump<A: Connection, B: Connection>(
    from: &mut Side<A>,
    to: &mut Side<B>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    loop {
        while !from.received.is_empty() {
            match to.poll_write(cx, from.received.bytes()) {
                Poll::Ready(Ok(count)) => from.received.consume(count),
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        if from.received.is_empty() {
            if from.ended {
                // Ending a direction that is already broken changes nothing.
                let _ = ready!(to.poll_shutdown(cx));
                return Poll::Ready(Ok(()));
            }
            // A flush that fails shows in the next write or read.
            let _ = to.poll_flush(cx);
        }
        if from.ended || from.received.is_full() {
            return Poll::Pending;
        }
        ready!(from.poll_fill(cx))?;
    }
}
