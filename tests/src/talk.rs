//! A conversation over HTTP/2 with prior knowledge: what is sent comes back (the shop's `http2`).

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use fixture::http2::DATA_FRAMES;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;

use crate::PATIENCE;
use crate::network::Network;

/// # Panics
/// When it hangs.
pub fn block_on<T>(client: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, client).await.expect("it hangs") })
}

/// # Panics
/// When nobody listens there.
pub async fn connect(network: &Network, address: SocketAddr) -> SendRequest<Bytes> {
    let stream = network.connect(address, Duration::from_secs(5)).unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = tokio::net::TcpStream::from_std(stream).unwrap();
    let mut client = h2::client::Builder::new();
    client.data_frame_budget(DATA_FRAMES);
    let (send, connection) = client.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send
}

/// One request that goes on: what is sent comes back.
pub struct Talk {
    send: SendStream<Bytes>,
    /// Who answers.
    pub from: String,
    pub body: RecvStream,
}

impl Talk {
    /// # Panics
    /// When it is not answered.
    pub async fn begin(send: &SendRequest<Bytes>, user: &str) -> Self {
        let mut send = send.clone().ready().await.unwrap();
        let request = Request::post("http://shop/talk")
            .header("x-user", user)
            .body(())
            .unwrap();
        let (response, send): (ResponseFuture, _) = send.send_request(request, false).unwrap();
        let response = response.await.unwrap();
        Self {
            send,
            from: response.headers()["x-from"].to_str().unwrap().to_owned(),
            body: response.into_body(),
        }
    }

    /// # Panics
    /// When it does not come back.
    pub async fn say(&mut self, text: &'static str) {
        self.send.send_data(Bytes::from_static(text.as_bytes()), false).unwrap();
        let mut heard = Vec::new();
        while heard.len() < text.len() {
            let data = self.body.data().await.expect("it goes on").unwrap();
            self.body.flow_control().release_capacity(data.len()).unwrap();
            heard.extend_from_slice(&data);
        }
        assert_eq!(heard, text.as_bytes());
    }

    /// Ends it; who answered, and the length in the trailers.
    ///
    /// # Panics
    /// When it breaks before.
    pub async fn end(mut self) -> (String, String) {
        self.send.send_data(Bytes::new(), true).unwrap();
        while let Some(data) = self.body.data().await {
            assert_eq!(data.unwrap().len(), 0);
        }
        let trailers = self.body.trailers().await.unwrap().expect("trailers");
        (self.from, trailers["x-sum"].to_str().unwrap().to_owned())
    }
}
