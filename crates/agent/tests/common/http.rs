//! HTTP/1 over any stream: who answers says who it is.

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::in_time;

/// Answers each request with `who` and the request line; keeps connections alive.
pub async fn answer<S: AsyncRead + AsyncWrite + Send + 'static>(socket: S, who: String) {
    let (reader, mut writer) = tokio::io::split(socket);
    let mut reader = BufReader::new(reader);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if !matches!(reader.read_line(&mut head).await, Ok(1..)) {
                return;
            }
        }
        let body = format!("{who} {}", head.lines().next().unwrap_or_default());
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if writer.write_all(response.as_bytes()).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

/// The body of the answer.
pub async fn ask<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S, request: &str) -> String {
    socket.write_all(format!("{request}\r\n\r\n").as_bytes()).await.unwrap();
    socket.flush().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(in_time(socket.read_u8()).await.unwrap());
    }
    let text = String::from_utf8(head).unwrap();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .unwrap()
        .parse()
        .unwrap();
    let mut body = vec![0; length];
    in_time(socket.read_exact(&mut body)).await.unwrap();
    String::from_utf8(body).unwrap()
}
