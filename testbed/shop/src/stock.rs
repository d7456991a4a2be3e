//! The dependency of `web`: reachable only from where `web` runs.

use std::io::{self, BufReader};
use std::net::TcpStream;

use crate::{http, listen};

const IN_STOCK: &str = "apples=12\npears=7\nplums=0\n";

pub fn serve(address: &str) -> io::Result<()> {
    listen::each_connection("stock", address, |stream| converse(&stream))
}

fn converse(stream: &TcpStream) -> io::Result<()> {
    let client = stream.peer_addr()?;
    let (mut input, mut output) = (BufReader::new(stream), stream);
    while let Some(request) = http::read_request(&mut input, &mut output)? {
        let body = format!("{IN_STOCK}asked-by={client}\n");
        http::write_response(&mut output, "200 OK", request.keeps_alive(), body.as_bytes())?;
        if !request.keeps_alive() {
            break;
        }
    }
    Ok(())
}
