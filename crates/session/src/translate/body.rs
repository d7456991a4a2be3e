//! The body of a client's request, as the HTTP/1 client takes it: no faster than the app does.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body, Frame, SizeHint};

/// `None` where there is none.
pub(super) struct RequestBody(pub(super) Option<RecvStream>);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Some(stream) = &mut self.0 else {
            return Poll::Ready(None);
        };
        match ready!(stream.poll_data(cx)) {
            Some(Ok(bytes)) => {
                let released = stream.flow_control().release_capacity(bytes.len());
                return Poll::Ready(Some(released.map(|()| Frame::data(bytes))));
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {}
        }
        let trailers = ready!(stream.poll_trailers(cx));
        self.0 = None;
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match self.0 {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(0),
        }
    }
}
