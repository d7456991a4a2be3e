//! The small services that the testbed's pods and the playground run: something to attach to, something for it to depend
//! on, and something that calls it all the time. It links statically and starts anywhere.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program whose output is its log"
)]

mod client;
mod http;
mod http2;
mod listen;
mod names;
mod stock;
mod tcp_echo;
mod tcp_sink;
mod tcp_source;
mod udp_echo;
mod web;

use std::io;
use std::process::ExitCode;

const USAGE: &str = "\
usage: shop web [ADDRESS]          an HTTP service; env: SERVICE (its name), STOCK_URL (host:port of its dependency)
       shop stock [ADDRESS]        the dependency: HTTP, answers every path with what is in stock
       shop http2 [ADDRESS]        HTTP/2 with prior knowledge: sends back each request's body; env: SERVICE
       shop tcp-echo [ADDRESS]     sends back what it receives
       shop tcp-source [ADDRESS]   sends zeros until the client leaves
       shop tcp-sink [ADDRESS]     reads to the end, then sends the number of bytes as a decimal line
       shop udp-echo [ADDRESS]     sends back each datagram
       shop names [ADDRESS] [NAME=IP]...  a name server that knows these names and no other
       shop client URL [--rate N] [--report N] [--count N] [--header 'NAME: VALUE']... [--close]
                                   N requests a second (10), one line for every N answers (rate); --close: a connection each";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = arguments.split_first() else {
        return usage();
    };
    let address = |default: &str| rest.first().cloned().unwrap_or_else(|| default.to_owned());
    let outcome = match command.as_str() {
        "web" => web::serve(&address("0.0.0.0:8080"), web::Settings::from_env()),
        "stock" => stock::serve(&address("0.0.0.0:8080")),
        "http2" => http2::serve(&address("0.0.0.0:8080"), &std::env::var("SERVICE").unwrap_or_default()),
        "tcp-echo" => tcp_echo::serve(&address("0.0.0.0:7000")),
        "tcp-source" => tcp_source::serve(&address("0.0.0.0:7001")),
        "tcp-sink" => tcp_sink::serve(&address("0.0.0.0:7002")),
        "udp-echo" => udp_echo::serve(&address("0.0.0.0:7000")),
        "names" => names::serve(&address("0.0.0.0:53"), rest.get(1..).unwrap_or_default()),
        "client" => match client::Settings::parse(rest) {
            Ok(settings) => client::run(&settings),
            Err(problem) => Err(io::Error::new(io::ErrorKind::InvalidInput, problem)),
        },
        _ => return usage(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("shop {command}: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
