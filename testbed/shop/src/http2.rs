//! An HTTP/2 service with prior knowledge: answers each request by its own body, as it comes, with its name in the head and
//! the body's length in the trailers.

use std::io;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};

pub fn serve(address: &str, name: &str) -> io::Result<()> {
    let name = HeaderValue::from_str(name).map_err(io::Error::other)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(listen(address, name))
}

async fn listen(address: &str, name: HeaderValue) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("http2: listening at {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let name = name.clone();
        tokio::spawn(async move {
            if let Err(error) = connection(stream, name).await {
                eprintln!("http2: {error}");
            }
        });
    }
}

async fn connection(stream: TcpStream, name: HeaderValue) -> Result<(), h2::Error> {
    let mut connection = server::handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let name = name.clone();
        tokio::spawn(async move {
            // The client has left this request.
            let _ = answer(request, respond, name).await;
        });
    }
    Ok(())
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    name: HeaderValue,
) -> Result<(), h2::Error> {
    let mut head = Response::new(());
    head.headers_mut().insert("x-from", name);
    let mut send = respond.send_response(head, false)?;
    let mut body = request.into_body();
    let mut sum = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        sum += data.len();
        body.flow_control().release_capacity(data.len())?;
        give(&mut send, data).await?;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from(sum));
    send.send_trailers(trailers)
}

/// Sends data as the client allows.
async fn give(send: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await;
        let room = room.unwrap_or(Err(Reason::CANCEL.into()))?;
        send.send_data(data.split_to(room.min(data.len())), false)?;
    }
    Ok(())
}
