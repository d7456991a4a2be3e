//! Steady traffic: so many requests a second, whatever the answers, and a line now and then that says how they went.

use std::io::{self, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use crate::http;

/// Longer than any answer should take: beyond it the request counts as failed.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Settings {
    address: String,
    path: String,
    /// Requests a second.
    rate: u32,
    /// A line is printed after this many.
    report: u64,
    /// Ends after this many; `None`: never.
    count: Option<u64>,
    headers: Vec<String>,
    keep_alive: bool,
}

impl Settings {
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let (mut url, mut rate, mut report, mut count) = (None, 10, None, None);
        let (mut headers, mut keep_alive) = (Vec::new(), true);
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--rate" => rate = number(value()?)?,
                "--report" => report = Some(number(value()?)?),
                "--count" => count = Some(number(value()?)?),
                "--header" => headers.push(value()?.clone()),
                "--close" => keep_alive = false,
                _ if url.is_none() && !argument.starts_with('-') => url = Some(argument),
                _ => return Err(format!("{argument} is not understood")),
            }
        }
        let url = url.ok_or("which URL?")?;
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let address = if authority.contains(':') {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        if rate == 0 || report == Some(0) {
            return Err("a rate or report of 0 would never do anything".to_owned());
        }
        let report = report.unwrap_or(u64::from(rate));
        Ok(Self {
            address,
            path: format!("/{path}"),
            rate,
            report,
            count,
            headers,
            keep_alive,
        })
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

pub fn run(settings: &Settings) -> io::Result<()> {
    let interval = Duration::from_secs(1) / settings.rate;
    let mut connection = None;
    let (mut answered, mut failed) = (0u64, 0u64);
    let (mut last_service, mut last_problem) = (String::new(), String::new());
    let mut due = Instant::now();
    for number in 1.. {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        match request(settings, &mut connection) {
            Ok((200, body)) => {
                answered += 1;
                last_service = first_line(&body);
            }
            Ok((status, _)) => {
                failed += 1;
                last_problem = format!("status {status}");
            }
            Err(problem) => {
                failed += 1;
                last_problem = problem.to_string();
                connection = None;
            }
        }
        if number % settings.report == 0 {
            let problem = if last_problem.is_empty() {
                String::new()
            } else {
                format!(" ({last_problem})")
            };
            println!("answered={answered} failed={failed}{problem} last: {last_service}");
        }
        if settings.count == Some(number) {
            break;
        }
        // Late requests are not made up for: a server that hangs would see a burst afterwards.
        due = (due + interval).max(Instant::now());
    }
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "{failed} of {} requests failed",
            answered + failed
        )))
    }
}

fn request(settings: &Settings, connection: &mut Option<TcpStream>) -> io::Result<(u16, Vec<u8>)> {
    let stream = match connection.take() {
        Some(stream) => stream,
        None => connect(&settings.address, PATIENCE)?,
    };
    let mut headers = settings.headers.clone();
    if !settings.keep_alive {
        headers.push("Connection: close".to_owned());
    }
    let answer = get(&stream, &settings.address, &settings.path, &headers)?;
    if settings.keep_alive {
        *connection = Some(stream);
    }
    Ok(answer)
}

/// The first of the name's addresses that accepts, within `patience` for each; later reads are as patient.
pub fn connect(address: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut outcome = Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("{address} has no address"),
    ));
    for candidate in address.to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&candidate, patience);
        if outcome.is_ok() {
            break;
        }
    }
    let stream = outcome?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    Ok(stream)
}

/// One request and its answer on a connection that may be used again.
pub fn get(mut stream: &TcpStream, host: &str, path: &str, headers: &[String]) -> io::Result<(u16, Vec<u8>)> {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes())?;
    // Nothing is pipelined, so this reader never takes bytes of a later answer with it.
    http::read_response(&mut BufReader::new(stream))
}

fn first_line(body: &[u8]) -> String {
    let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}
