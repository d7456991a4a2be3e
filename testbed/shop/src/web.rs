//! The service that people attach to: it tells who answered whom, and calls its dependency.
//!
//! `GET /` and every path not named here: the lines `service=`, `host=`, `client=`, `method=`, `path=`, then each request
//! header as `> Name: value`, then an empty line and the request's body.
//! `/stock` the dependency's answer · `/count` requests so far, probes not included · `/healthz` for probes ·
//! `/sink` takes a body of any length, and says that in its place ·
//! `/slow?ms=N` the usual answer after N milliseconds · `/bytes?n=N` N bytes · a request for an upgrade (WebSocket and the
//! like) is granted: behind it comes the line `service=`, then what the client sends comes back.

use std::fmt::Write as _;
use std::io::{self, BufReader, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::http::{self, Request};
use crate::{client, listen};

const STOCK_PATIENCE: Duration = Duration::from_secs(5);

pub struct Settings {
    service: String,
    stock: Option<String>,
    host: String,
}

impl Settings {
    pub fn from_env() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            service: std::env::var("SERVICE").unwrap_or_else(|_| "web".to_owned()),
            stock: std::env::var("STOCK_URL").ok(),
            host: host.trim().to_owned(),
        }
    }
}

pub fn serve(address: &str, settings: Settings) -> io::Result<()> {
    let requests = AtomicU64::new(0);
    listen::each_connection("web", address, move |stream| converse(&stream, &settings, &requests))
}

fn converse(stream: &TcpStream, settings: &Settings, requests: &AtomicU64) -> io::Result<()> {
    let client = stream.peer_addr()?.to_string();
    let (mut input, mut output) = (BufReader::new(stream), stream);
    stream.set_nodelay(true)?;
    while let Some(request) = http::read_request(&mut input, &mut output)? {
        if let Some(protocol) = http::header(&request.headers, "upgrade") {
            requests.fetch_add(1, Ordering::Relaxed);
            let service = &settings.service;
            write!(
                output,
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\nservice={service}\n"
            )?;
            io::copy(&mut input, &mut output)?;
            return stream.shutdown(Shutdown::Write);
        }
        let (status, body) = answer(&request, &client, settings, requests);
        http::write_response(&mut output, status, request.keeps_alive(), &body)?;
        if !request.keeps_alive() {
            break;
        }
    }
    Ok(())
}

fn answer(request: &Request, client: &str, settings: &Settings, requests: &AtomicU64) -> (&'static str, Vec<u8>) {
    if request.path() == "/healthz" {
        return ("200 OK", b"ok\n".to_vec());
    }
    let count = requests.fetch_add(1, Ordering::Relaxed) + 1;
    match request.path() {
        "/count" => ("200 OK", format!("{count}\n").into_bytes()),
        "/stock" => stock(settings),
        "/bytes" => (
            "200 OK",
            vec![b'.'; request.query("n").unwrap_or(0).min(64 << 20) as usize],
        ),
        "/slow" => {
            thread::sleep(Duration::from_millis(request.query("ms").unwrap_or(1000)));
            ("200 OK", describe(request, client, settings))
        }
        _ => ("200 OK", describe(request, client, settings)),
    }
}

fn describe(request: &Request, client: &str, settings: &Settings) -> Vec<u8> {
    let Settings { service, host, .. } = settings;
    let (method, path) = (&request.method, &request.target);
    let mut text = format!("service={service}\nhost={host}\nclient={client}\nmethod={method}\npath={path}\n");
    for (name, value) in &request.headers {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "> {name}: {value}");
    }
    let mut answer = text.into_bytes();
    if !request.body.is_empty() {
        answer.push(b'\n');
        answer.extend_from_slice(&request.body);
    }
    answer
}

fn stock(settings: &Settings) -> (&'static str, Vec<u8>) {
    let Some(address) = &settings.stock else {
        return ("500 Internal Server Error", b"STOCK_URL is not set\n".to_vec());
    };
    let asked = client::connect(address, STOCK_PATIENCE).and_then(|stream| client::get(&stream, address, "/", &[]));
    match asked {
        Ok((200, body)) => ("200 OK", body),
        Ok((status, _)) => ("502 Bad Gateway", format!("{address} answered {status}\n").into_bytes()),
        Err(problem) => ("502 Bad Gateway", format!("{address}: {problem}\n").into_bytes()),
    }
}
