//! A copy of a client's HTTP/2 connection, played to the local app.
//!
//! What the client was allowed to send was said by the real app, and its copy cannot be held back. So each request is made
//! anew, as the local app's own settings and windows allow it; what the app answers is taken and thrown away. An app that was
//! started again meanwhile gets the requests that come from then on.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use http_route::http2::{ClientReader, Fields, Said};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::app::{App, DATA_FRAMES, Lost, send_data};
use crate::mirrored::LAST_ANSWERS;

/// Bytes of all bodies of a connection that may wait for the app, and requests; one that does not fit is given up.
const WAITING: usize = 16 << 20;
const REQUESTS: usize = 1024;
/// What the app may send before it was taken, in bytes: it is thrown away at once.
const RECEIVE: u32 = 4 << 20;

/// A request on its way.
struct Played {
    request: Request<()>,
    /// Of its body, if it has one.
    pieces: Option<mpsc::UnboundedReceiver<Piece>>,
}

enum Piece {
    Data {
        bytes: Bytes,
        end: bool,
        _paid: OwnedSemaphorePermit,
    },
    Trailers(HeaderMap),
    Reset(Reason),
}

/// Plays the copy, whose `first` bytes were read already, until it ends.
///
/// # Errors
/// When the copy breaks or cannot be read.
pub(crate) async fn replay(
    first: &[u8],
    mut copy: impl AsyncRead + Unpin,
    app: &impl App,
    lost: Lost<'_>,
) -> io::Result<()> {
    let (queue, played) = mpsc::channel(REQUESTS);
    let read = async {
        let mut reader = ClientReader::default();
        let mut incoming = Incoming::new(queue, lost);
        let mut buffer = vec![0; wire::BULK];
        let mut bytes = first;
        loop {
            let read = reader.feed(bytes, &mut |stream, said| incoming.take(stream, said));
            read.map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason))?;
            match copy.read(&mut buffer).await? {
                0 => return Ok(()),
                length => bytes = &buffer[..length],
            }
        }
    };
    let play = async {
        play(played, app, lost).await;
        Ok(())
    };
    tokio::try_join!(read, play).map(drop)
}

/// What the client says, for each of its streams that are played.
struct Incoming<'a> {
    queue: mpsc::Sender<Played>,
    streams: HashMap<u32, mpsc::UnboundedSender<Piece>>,
    newest: u32,
    room: Arc<Semaphore>,
    lost: Lost<'a>,
}

impl<'a> Incoming<'a> {
    fn new(queue: mpsc::Sender<Played>, lost: Lost<'a>) -> Self {
        Self {
            queue,
            streams: HashMap::new(),
            newest: 0,
            room: Arc::new(Semaphore::new(WAITING)),
            lost,
        }
    }

    fn take(&mut self, number: u32, said: Said<'_>) {
        let Some(stream) = self.streams.get(&number) else {
            if let Said::Fields { fields, end } = said
                && number > self.newest
            {
                self.newest = number;
                self.begin(number, &fields, end);
            }
            return;
        };
        let (piece, last) = match said {
            Said::Fields { fields, .. } => (Some(Piece::Trailers(headers(&fields))), true),
            Said::Reset { code } => (Some(Piece::Reset(code.into())), true),
            Said::Data { bytes, end } => {
                let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let paid = Arc::clone(&self.room).try_acquire_many_owned(size).ok();
                let piece = paid.map(|paid| Piece::Data {
                    bytes: Bytes::copy_from_slice(bytes),
                    end,
                    _paid: paid,
                });
                if piece.is_none() {
                    (self.lost)(&format!("{} MiB of a connection wait for it", WAITING >> 20));
                }
                (piece, end)
            }
        };
        // Without its sender a stream that has not ended is reset.
        let kept = piece.is_some_and(|piece| stream.send(piece).is_ok());
        if last || !kept {
            self.streams.remove(&number);
        }
    }

    fn begin(&mut self, number: u32, fields: &Fields, end: bool) {
        let (pieces, receiver) = mpsc::unbounded_channel();
        let played = request(fields).map(|request| Played {
            request,
            pieces: (!end).then_some(receiver),
        });
        let Some(played) = played else {
            return (self.lost)("it is no request that can be made");
        };
        if self.queue.try_send(played).is_err() {
            (self.lost)(&format!("{REQUESTS} requests of a connection wait for it"));
        } else if !end {
            self.streams.insert(number, pieces);
        }
    }
}

/// Makes the requests, in order, each as soon as the app takes one more.
async fn play(mut queue: mpsc::Receiver<Played>, app: &impl App, lost: Lost<'_>) {
    let mut open = None;
    let mut streams = JoinSet::new();
    let mut connections = JoinSet::new();
    while let Some(played) = queue.recv().await {
        while streams.try_join_next().is_some() {}
        while connections.try_join_next().is_some() {}
        let ready = match open.take() {
            Some(open) => SendRequest::ready(open).await.ok(),
            None => None,
        };
        let ready = match ready {
            Some(ready) => Ok(ready),
            None => begin(app, &mut connections).await,
        };
        let mut ready = match ready {
            Ok(ready) => ready,
            Err(error) => {
                lost(&format!("it takes no connection of HTTP/2: {error}"));
                continue;
            }
        };
        match ready.send_request(played.request, played.pieces.is_none()) {
            Ok((response, stream)) => {
                // Its body has no room before the app lets it begin.
                open = SendRequest::ready(ready).await.ok();
                let body = async move {
                    match played.pieces {
                        Some(pieces) => send(stream, pieces).await,
                        None => Ok(()),
                    }
                };
                let answer = async move { discard(response.await?.into_body()).await };
                // How a request ends is between the app and itself.
                streams.spawn(async move { drop(tokio::join!(body, answer)) });
            }
            Err(error) => {
                lost(&format!("it does not take it: {error}"));
                open = Some(ready);
            }
        }
    }
    let rest = async { while streams.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_ANSWERS, rest).await;
}

/// A connection to the app, which lasts as long as `connections`.
async fn begin(app: &impl App, connections: &mut JoinSet<()>) -> io::Result<SendRequest<Bytes>> {
    let (socket, kept) = app.connect().await?;
    let handshake = Builder::new()
        .initial_window_size(RECEIVE)
        .initial_connection_window_size(RECEIVE)
        .data_frame_budget(DATA_FRAMES)
        // Until the app has said how many it takes.
        .initial_max_send_streams(0)
        .enable_push(false)
        .handshake(socket);
    let (requests, connection) = handshake.await.map_err(io::Error::other)?;
    connections.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the app ended a copied connection");
        }
        drop(kept);
    });
    requests.ready().await.map_err(io::Error::other)
}

async fn send(mut stream: SendStream<Bytes>, mut pieces: mpsc::UnboundedReceiver<Piece>) -> Result<(), h2::Error> {
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Data { bytes, end, _paid } => {
                send_data(&mut stream, bytes, end).await?;
                if end {
                    return Ok(());
                }
            }
            Piece::Trailers(trailers) => return stream.send_trailers(trailers),
            Piece::Reset(reason) => {
                stream.send_reset(reason);
                return Ok(());
            }
        }
    }
    stream.send_reset(Reason::CANCEL);
    Ok(())
}

async fn discard(mut body: RecvStream) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    body.trailers().await.map(drop)
}

/// `None` where it is no request that could be made.
fn request(fields: &Fields) -> Option<Request<()>> {
    let mut uri = Uri::builder();
    if let Some(authority) = fields.get(b":authority") {
        uri = uri.authority(authority);
    }
    if let Some(path) = fields.get(b":path") {
        uri = uri
            .path_and_query(path)
            .scheme(fields.get(b":scheme").unwrap_or(b"http"));
        // A name that the client has left out, or said in `Host`: the URI needs one.
        if fields.get(b":authority").is_none() {
            uri = uri.authority(fields.get(b"host").unwrap_or(b"localhost"));
        }
    }
    let mut request = Request::new(());
    *request.uri_mut() = uri.build().ok()?;
    *request.method_mut() = http::Method::from_bytes(fields.get(b":method")?).ok()?;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = headers(fields);
    if let Some(protocol) = fields.get(b":protocol") {
        let protocol = h2::ext::Protocol::from(std::str::from_utf8(protocol).ok()?);
        request.extensions_mut().insert(protocol);
    }
    Some(request)
}

/// The fields that are no pseudo-fields; one that cannot be a header is left out.
fn headers(fields: &Fields) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
