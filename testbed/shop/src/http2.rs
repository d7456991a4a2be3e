//! An HTTP/2 service with prior knowledge.

use std::io;

use http::HeaderValue;
use tokio::net::TcpListener;

/// What a stream may be sent before it is read, in bytes (RFC 9113 section 6.9.2).
const WINDOW: u32 = 65_535;

pub fn serve(address: &str, name: &str) -> io::Result<()> {
    let name = HeaderValue::from_str(name).map_err(io::Error::other)?;
    let serve = async {
        let listener = TcpListener::bind(address).await?;
        println!("http2: listening at {}", listener.local_addr()?);
        fixture::http2::serve(listener, name, WINDOW, tell).await;
        Ok(())
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve)
}

/// One line a request.
fn tell(request: &http::request::Parts, length: usize) {
    let user = request.headers.get("x-user").and_then(|user| user.to_str().ok());
    println!(
        "http2: {} {} of {}, {length} bytes",
        request.method,
        request.uri.path(),
        user.unwrap_or("nobody")
    );
}
