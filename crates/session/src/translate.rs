//! A client's HTTP/2 connection, served for a local app that speaks HTTP/1.1 alone: each request is made anew.
//!
//! What a client speaks was agreed on with the real app before it was known who answers. Bodies pass as they come, each side
//! as fast as the other takes it. A stream that one side breaks off is broken off at the other.

mod body;
mod fields;
mod pool;
mod websocket;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode, request};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::TrySendError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use wire::Underway;

use crate::app::{App, DATA_FRAMES, send_data};
use body::RequestBody;
use pool::{Local, Pool};

/// Requests of one client at a time, each with a connection to the app; more are refused (REFUSED_STREAM).
const STREAMS: u32 = 256;
/// What a client may send before the app has taken it, in bytes: of one request, and of all.
const STREAM_WINDOW: u32 = 1 << 20;
const WINDOW: u32 = 4 << 20;
/// Bytes of a request's fields.
const MAX_FIELDS: u32 = 1 << 20;
/// Answers that come before the answer and wait to be sent; more than that say nothing new.
const EARLY: usize = 16;

/// What a person should know, said once.
pub(crate) type Warn = Arc<dyn Fn(String) + Send + Sync>;

/// Serves the client until it or its connection has ended, or until nothing more is `underway` that the app has answered.
/// `first` is a connection to the app that is open already.
///
/// # Errors
/// When the client's connection breaks, or what it says is not HTTP/2.
pub(crate) async fn translate<A: App>(
    client: impl AsyncRead + AsyncWrite + Unpin,
    app: Arc<A>,
    first: Option<(A::Connection, A::Kept)>,
    warn: Warn,
    underway: &Underway,
) -> io::Result<()> {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(MAX_FIELDS)
        .data_frame_budget(DATA_FRAMES)
        .enable_connect_protocol();
    let mut exchanges = JoinSet::new();
    let translation = Arc::new(Translation {
        pool: Pool::new(app),
        unreachable: Notify::new(),
        warn,
    });
    if let Some((socket, kept)) = first {
        let local = translation.pool.adopt(socket, kept).await?;
        let translation = Arc::clone(&translation);
        exchanges.spawn(async move { translation.pool.keep(local).await });
    }
    let mut connection = builder.handshake(client).await.map_err(io::Error::other)?;
    let mut last = pin!(underway.last());
    let mut leaves = false;
    loop {
        while exchanges.try_join_next().is_some() {}
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let translation = Arc::clone(&translation);
                    exchanges.spawn(async move { translation.serve(request, respond).await });
                }
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(()),
            },
            // An app that comes back may be another one: the client's next connection finds out what that speaks.
            () = translation.unreachable.notified() => connection.graceful_shutdown(),
            () = &mut last, if !leaves => {
                leaves = true;
                connection.graceful_shutdown();
            }
        }
    }
}

struct Translation<A> {
    pool: Pool<A>,
    unreachable: Notify,
    warn: Warn,
}

impl<A: App> Translation<A> {
    /// One stream.
    async fn serve(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (mut head, body) = request.into_parts();
        let protocol = head.extensions.remove::<Protocol>();
        let served = match protocol {
            Some(protocol) if protocol.as_str() == "websocket" => self.websocket(head, body, &mut respond).await,
            None if head.method != Method::CONNECT => match self.exchange(head, body, &mut respond).await {
                Ok(local) => {
                    self.pool.keep(local).await;
                    return;
                }
                Err(reason) => Err(reason),
            },
            _ => refuse(&mut respond, StatusCode::NOT_IMPLEMENTED, "CONNECT is not handed on"),
        };
        if let Err(reason) = served {
            respond.send_reset(reason);
        }
    }

    /// A request, its answer, and the connection that both went over.
    async fn exchange(
        &self,
        head: request::Parts,
        body: RecvStream,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<Local, Reason> {
        let has_body = !body.is_end_stream();
        let head = fields::request(head, has_body);
        let body = RequestBody(has_body.then_some(body));
        let (answer, local) = self.ask(head, body, respond).await?;
        let (head, mut body) = answer.into_parts();
        if head.status.is_informational() {
            // It has switched to a protocol that it was not asked for.
            return Err(Reason::INTERNAL_ERROR);
        }
        let end = body.is_end_stream();
        let mut stream = respond
            .send_response(fields::response(head), end)
            .map_err(|error| code(&error))?;
        if !end {
            answer_body(&mut body, &mut stream).await?;
        }
        Ok(local)
    }

    /// Asks the app, and once more where it closed a connection that it had kept before the request could be its.
    async fn ask(
        &self,
        head: request::Parts,
        body: RequestBody,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<(Response<Incoming>, Local), Reason> {
        let mut local = self.reached(self.pool.take().await)?;
        let repeatable = body.0.is_none() && head.method.is_idempotent();
        let again = (local.used && repeatable).then(|| head.clone());
        let failed = match self.send(&mut local, head, body, respond).await? {
            Ok(answer) => return Ok((answer, local)),
            Err(failed) => failed,
        };
        let (error, unsent) = failed;
        let request = match (unsent, again) {
            (Some(unsent), _) if local.used => unsent.into_parts(),
            (None, Some(head)) if !error.is_parse() => (head, RequestBody(None)),
            (Some(_), _) => return Err(Reason::REFUSED_STREAM),
            _ => return Err(self.failed(&error)),
        };
        let mut local = self.reached(self.pool.fresh().await)?;
        match self.send(&mut local, request.0, request.1, respond).await? {
            Ok(answer) => Ok((answer, local)),
            Err((error, _)) => Err(self.failed(&error)),
        }
    }

    /// One attempt; the client may leave meanwhile. What was not sent comes back.
    async fn send(
        &self,
        local: &mut Local,
        head: request::Parts,
        body: RequestBody,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<Result<Response<Incoming>, (hyper::Error, Option<Request<RequestBody>>)>, Reason> {
        let mut request = Request::from_parts(head, body);
        let (said, mut early) = mpsc::channel(EARLY);
        hyper::ext::on_informational(&mut request, move |response| {
            let mut made = Response::new(());
            *made.status_mut() = response.status();
            *made.headers_mut() = response.headers().clone();
            let _ = said.try_send(made);
        });
        let answer = local.sender.try_send_request(request);
        tokio::pin!(answer);
        loop {
            tokio::select! {
                biased;
                reset = poll_fn(|cx| respond.poll_reset(cx)) => return Err(reset.unwrap_or(Reason::CANCEL)),
                Some(mut made) = early.recv() => {
                    fields::connection_ends(made.headers_mut());
                    respond.send_informational(made).map_err(|error| code(&error))?;
                }
                answer = &mut answer => return Ok(answer.map_err(|failed: TrySendError<_>| {
                    let mut failed = failed;
                    let unsent = failed.take_message();
                    (failed.into_error(), unsent)
                })),
            }
        }
    }

    /// A request that has not begun can be sent again.
    fn reached(&self, local: io::Result<Local>) -> Result<Local, Reason> {
        local.map_err(|error| {
            tracing::debug!(%error, "the app cannot be reached for a request");
            self.unreachable.notify_one();
            Reason::REFUSED_STREAM
        })
    }

    fn failed(&self, error: &hyper::Error) -> Reason {
        tracing::debug!(%error, "the app has not answered a request");
        if error.is_parse() {
            (self.warn)(format!(
                "the program's answer to an HTTP/1.1 request cannot be read: {error}"
            ));
        }
        Reason::INTERNAL_ERROR
    }
}

/// Hands the answer's body on until its end, or until the client leaves.
async fn answer_body(body: &mut Incoming, stream: &mut SendStream<Bytes>) -> Result<(), Reason> {
    loop {
        let frame = tokio::select! {
            frame = next(body) => frame,
            reset = poll_fn(|cx| stream.poll_reset(cx)) => return Err(reset.unwrap_or(Reason::CANCEL)),
        };
        let sent = match frame {
            None => {
                return send_data(stream, Bytes::new(), true)
                    .await
                    .map_err(|error| code(&error));
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "the app has not finished an answer");
                return Err(Reason::INTERNAL_ERROR);
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => {
                    let end = body.is_end_stream();
                    send_data(stream, bytes, end).await.map(|()| end)
                }
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    fields::connection_ends(&mut trailers);
                    stream.send_trailers(trailers).map(|()| true)
                }
            },
        };
        if sent.map_err(|error| code(&error))? {
            return Ok(());
        }
    }
}

async fn next(body: &mut Incoming) -> Option<hyper::Result<Frame<Bytes>>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// Answers in the app's place.
fn refuse(respond: &mut SendResponse<Bytes>, status: StatusCode, why: &'static str) -> Result<(), Reason> {
    let mut answer = Response::new(());
    *answer.status_mut() = status;
    let stream = respond.send_response(answer, false);
    stream
        .and_then(|mut stream| stream.send_data(Bytes::from(format!("inpod: {why}\n")), true))
        .map_err(|error| code(&error))
}

/// For the client that caused it, or for one whose app did.
fn code(error: &h2::Error) -> Reason {
    error.reason().unwrap_or(Reason::INTERNAL_ERROR)
}

#[cfg(test)]
#[path = "translate/tests.rs"]
mod tests;
