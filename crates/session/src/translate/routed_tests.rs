//! What the agent's routing hands over, and gets back.

use super::*;

/// Everything is the session's, whose end is the translation.
struct Routed(SocketAddr, Warn);

impl http_route::Upstreams for Routed {
    type Real = tokio::io::DuplexStream;
    type Session = tokio::io::DuplexStream;

    async fn real(&self) -> io::Result<Self::Real> {
        // It speaks no HTTP, and need not.
        let (near, far) = tokio::io::duplex(1 << 10);
        tokio::spawn(async move {
            let mut far = far;
            far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
            tokio::io::copy(&mut far, &mut tokio::io::sink()).await
        });
        Ok(near)
    }

    async fn session(&self, _id: http_route::SessionId) -> io::Result<Self::Session> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (app, warn) = (Arc::new(self.0), Arc::clone(&self.1));
        tokio::spawn(async move { translate(far, app, None, warn, &Underway::default()).await });
        Ok(near)
    }
}

impl http_route::Router for Routed {
    fn decide(
        &self,
        _head: &http_route::RequestHead<'_>,
        _content: http_route::Content<'_>,
    ) -> Option<http_route::Upstream> {
        Some(http_route::Upstream::Session(http_route::SessionId(1)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_come_the_way_they_do_from_an_agent() {
    let app = app(|mut taken| async move {
        while let Some(head) = taken.head().await {
            assert!(head.starts_with("POST /"), "{head}");
            let length = taken.chunks().await.0;
            taken
                .say(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))
                .await;
            taken.say(x(length)).await;
        }
    })
    .await;
    let warn: Warn = Arc::new(|_| {});
    let (near, far) = tokio::io::duplex(1 << 16);
    let routed = Routed(app, warn);
    tokio::spawn(async move {
        http_route::route(far, &routed, &routed, &http_route::Options::default()).await;
    });
    let (requests, connection) = h2::client::handshake(near).await.expect("a handshake");
    tokio::spawn(connection);
    let mut asking = JoinSet::new();
    for number in 0..20 {
        let mut requests = requests.clone().ready().await.expect("a connection");
        asking.spawn(async move {
            let asked = request("POST", &format!("/{number}")).body(()).expect("a request");
            let (answer, mut body) = requests.send_request(asked, false).expect("a connection");
            let length = number * 100_000;
            let (sent, got) = tokio::join!(send_data(&mut body, x(length), true), got(answer));
            sent.expect("taken");
            assert_eq!(got.expect("an answer").body.len(), length);
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.expect("an answer");
    }
}
