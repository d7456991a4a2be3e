//! HTTP/1 or HTTP/2 over a stream, as was agreed on.

use h2::client::SendRequest;
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::common::http::answer;
use crate::common::in_time;

/// Answers each request with `who` and its path.
pub async fn speak<S>(stream: S, who: String, http2: bool)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    if !http2 {
        return answer(stream, who).await;
    }
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let body = format!("{who} {}", request.uri().path());
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        send.send_data(body.into(), true).unwrap();
    }
}

/// HTTP/2 over a connection where it was agreed on.
pub async fn http2(stream: TlsStream<TcpStream>) -> SendRequest<bytes::Bytes> {
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (send, connection) = in_time(h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(connection);
    send
}

pub async fn ask_http2(send: &SendRequest<bytes::Bytes>, path: &str, field: (&str, &str)) -> String {
    let mut send = in_time(send.clone().ready()).await.unwrap();
    let uri = format!("https://app.test{path}");
    let request = Request::get(uri).header(field.0, field.1).body(()).unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    let mut body = in_time(response).await.unwrap().into_body();
    let mut text = Vec::new();
    while let Some(data) = in_time(body.data()).await {
        text.extend_from_slice(&data.unwrap());
    }
    String::from_utf8(text).unwrap()
}
