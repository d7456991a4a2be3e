//! WebSocket over HTTP/2 (RFC 8441), for an app that knows it over HTTP/1.1 (RFC 6455).

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{StatusCode, request};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::body::RequestBody;
use super::{Translation, answer_body, code, fields, refuse};
use crate::app::{App, send_data};

type Socket = TokioIo<Upgraded>;

impl<A: App> Translation<A> {
    pub(super) async fn websocket(
        &self,
        head: request::Parts,
        body: RecvStream,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<(), Reason> {
        let (mut answer, local) = self.ask(fields::websocket(head), RequestBody(None), respond).await?;
        let upgraded = hyper::upgrade::on(&mut answer);
        let (mut head, mut refusal) = answer.into_parts();
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            if head.status.is_success() {
                // Which to the client would say that it has.
                return refuse(
                    respond,
                    StatusCode::BAD_GATEWAY,
                    "the program does not switch to WebSocket",
                );
            }
            let stream = respond.send_response(fields::response(head), false);
            return answer_body(&mut refusal, &mut stream.map_err(|error| code(&error))?).await;
        }
        let upgraded = upgraded.await.map_err(|error| self.failed(&error))?;
        local.upgraded();
        head.status = StatusCode::OK;
        let stream = respond.send_response(fields::response(head), false);
        let stream = stream.map_err(|error| code(&error))?;
        let (from_app, to_app) = tokio::io::split(TokioIo::new(upgraded));
        tokio::try_join!(up(body, to_app), down(from_app, stream)).map(drop)
    }
}

async fn up(mut body: RecvStream, mut app: WriteHalf<Socket>) -> Result<(), Reason> {
    while let Some(bytes) = body.data().await {
        let bytes = bytes.map_err(|error| code(&error))?;
        app.write_all(&bytes).await.map_err(|_| Reason::CANCEL)?;
        app.flush().await.map_err(|_| Reason::CANCEL)?;
        let released = body.flow_control().release_capacity(bytes.len());
        released.map_err(|error| code(&error))?;
    }
    app.shutdown().await.map_err(|_| Reason::CANCEL)
}

async fn down(mut app: ReadHalf<Socket>, mut stream: SendStream<Bytes>) -> Result<(), Reason> {
    loop {
        let mut bytes = BytesMut::with_capacity(wire::BULK);
        let length = app.read_buf(&mut bytes).await.map_err(|_| Reason::CANCEL)?;
        let sent = send_data(&mut stream, bytes.freeze(), length == 0).await;
        sent.map_err(|error| code(&error))?;
        if length == 0 {
            return Ok(());
        }
    }
}
