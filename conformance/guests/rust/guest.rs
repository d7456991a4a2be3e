//! guest BEHAVIOUR[=ARGUMENT]...: for each `== BEHAVIOUR` and the lines of what it saw. The standard library only.

use std::fmt::Display;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::Command;

const TEXT: &str = "/data/conformance/text";
const ABSENT: &str = "/data/conformance/absent";
const DIRECTORY: &str = "/data/conformance/directory";
const LINK: &str = "/data/conformance/link";
const SCRIPT: &str = "/data/conformance/script";
const ECHO: &str = "10.77.0.40:7000";
const ECHO_SIX: &str = "[fd00:77::40]:7000";
const CLOSED: &str = "10.77.0.40:9";
const POD: &str = "10.77.0.10";
const POD_PORT: u16 = 8080;

type Outcome = io::Result<()>;

unsafe extern "C" {
    fn gethostname(name: *mut u8, length: usize) -> i32;
}

fn say(line: impl Display) {
    println!("{line}");
}

fn name_of(error: &io::Error) -> String {
    let name = match error.raw_os_error() {
        Some(2) => "ENOENT",
        Some(4) => "EINTR",
        Some(13) => "EACCES",
        Some(30) => "EROFS",
        Some(99) => "EADDRNOTAVAIL",
        Some(101) => "ENETUNREACH",
        Some(104) => "ECONNRESET",
        Some(110) => "ETIMEDOUT",
        Some(111) => "ECONNREFUSED",
        _ => return error.to_string(),
    };
    name.to_owned()
}

fn attempt(what: &str, got: io::Result<String>) {
    match got {
        Ok(line) => say(line),
        Err(error) => say(format_args!("{what} {}", name_of(&error))),
    }
}

fn first_line(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.lines().next().unwrap_or_default().to_owned())
}

fn talk(mut stream: &TcpStream) -> io::Result<String> {
    stream.write_all(b"ping")?;
    let mut back = [0; 4];
    stream.read_exact(&mut back)?;
    Ok(String::from_utf8_lossy(&back).into_owned())
}

fn converse(address: &str) -> Outcome {
    let mut stream = TcpStream::connect(address)?;
    say(format_args!("peer {}", stream.peer_addr()?));
    say(talk(&stream)?);
    stream.shutdown(Shutdown::Write)?;
    say(if stream.read(&mut [0])? == 0 { "end" } else { "more" });
    Ok(())
}

fn kind(name: &str, found: io::Result<fs::Metadata>) {
    attempt(
        name,
        found.map(|found| {
            let kind = found.file_type();
            match () {
                () if kind.is_file() => format!("{name} file {}", found.len()),
                () if kind.is_dir() => format!("{name} directory"),
                () if kind.is_symlink() => format!("{name} link"),
                () if kind.is_socket() => format!("{name} socket"),
                () => format!("{name} something"),
            }
        }),
    );
}

fn resolve(name: &str) -> Outcome {
    match (name, 0).to_socket_addrs() {
        Ok(mut found) => say(found.find(|one| one.is_ipv4()).map_or("no IPv4".to_owned(), |one| one.ip().to_string())),
        // EAI_NONAME in glibc's words.
        Err(error) if error.to_string().contains("Name or service not known") => say("not found"),
        Err(error) => say(error),
    }
    Ok(())
}

fn chdir() -> Outcome {
    let before = std::env::current_dir()?;
    std::env::set_current_dir(DIRECTORY)?;
    say(std::env::current_dir()?.display());
    say(format_args!("one: {}", first_line("one")?));
    say(format_args!("text: {}", first_line("../text")?));
    std::env::set_current_dir(before)
}

fn host_name() -> Outcome {
    let mut name = [0_u8; 256];
    // SAFETY: the buffer has that size.
    if unsafe { gethostname(name.as_mut_ptr(), name.len()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    say(String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default()));
    Ok(())
}

fn list() -> Outcome {
    let entries = fs::read_dir(DIRECTORY)?;
    let mut found: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    found.sort();
    say(found.join(" "));
    Ok(())
}

fn local_file(directory: &str) -> Outcome {
    let path = format!("{directory}/mine-{}", std::process::id());
    fs::File::create_new(&path)?.write_all(b"kept here\n")?;
    say(first_line(&path)?);
    fs::remove_file(&path)?;
    say("removed");
    Ok(())
}

fn run(command: &mut Command) -> Outcome {
    let status = command.status()?;
    if !status.success() {
        say(status);
    }
    Ok(())
}

fn itself() -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child");
    Ok(command)
}

fn child() -> Outcome {
    attempt("child: text", first_line(TEXT).map(|line| format!("child: {line}")));
    attempt("child: connect", TcpStream::connect(ECHO).and_then(|stream| talk(&stream)).map(|back| format!("child: {back}")));
    Ok(())
}

fn socket_names() -> Outcome {
    let mut stream = TcpStream::connect((POD, POD_PORT))?;
    say(format_args!("peer {}", stream.peer_addr()?));
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let wanted = format!("client={}", stream.local_addr()?);
    let this = answer.lines().any(|line| line == wanted);
    say(format_args!("the server saw {} address", if this { "this" } else { "another" }));
    Ok(())
}

fn large() -> Outcome {
    const LENGTH: usize = 8 << 20;
    let sent: Vec<u8> = (0..LENGTH).map(|at| ((at as u32).wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut stream = TcpStream::connect(ECHO)?;
    let mut back = Vec::new();
    std::thread::scope(|scope| {
        let writer = stream.try_clone()?;
        let sent = &sent;
        scope.spawn(move || {
            let mut writer = &writer;
            sent.chunks(17_321).try_for_each(|piece| writer.write_all(piece)).and_then(|()| writer.shutdown(Shutdown::Write))
        });
        let mut piece = [0; 9973];
        loop {
            match stream.read(&mut piece)? {
                0 => return Ok(()),
                got => back.extend_from_slice(&piece[..got]),
            }
        }
    })
    .and_then(|()| {
        if back == sent {
            say(format_args!("{} bytes came back as they were sent", back.len()));
        } else {
            say(format_args!("{} other bytes", back.len()));
        }
        Ok(())
    })
}

fn udp_connected() -> Outcome {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(ECHO)?;
    socket.send(b"ping")?;
    let mut back = [0; 16];
    let length = socket.recv(&mut back)?;
    say(format_args!("{} says {}", socket.peer_addr()?, String::from_utf8_lossy(&back[..length])));
    Ok(())
}

fn udp_unconnected() -> Outcome {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.send_to(b"ping", ECHO)?;
    let mut back = [0; 16];
    let (length, from) = socket.recv_from(&mut back)?;
    say(format_args!("{from} says {}", String::from_utf8_lossy(&back[..length])));
    Ok(())
}

fn threads() -> Outcome {
    let one = || TcpStream::connect(ECHO).and_then(|stream| talk(&stream)).is_ok_and(|back| back == "ping") && first_line(TEXT).is_ok();
    let all: Vec<_> = (0..8).map(|_| std::thread::spawn(one)).collect();
    say(format_args!("{} echoes", all.into_iter().filter_map(|thread| thread.join().ok()).filter(|echoed| *echoed).count()));
    Ok(())
}

fn own_listener() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (_accepted, from) = listener.accept()?;
    say(if from == client.local_addr()? { "own" } else { "another's" });
    Ok(())
}

fn serve(host: &str, port: &str) -> Outcome {
    let listener = TcpListener::bind(format!("{host}:{port}"))?;
    say("listening");
    let (mut stream, from) = listener.accept()?;
    let peer = stream.peer_addr()?;
    say(format_args!("client {from}, {}", if peer == from { "twice".to_owned() } else { peer.to_string() }));
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    say(format_args!("said {}", line.trim()));
    stream.write_all(b"pong\n")
}

fn refused() -> Outcome {
    match TcpStream::connect(CLOSED) {
        Ok(_) => say("connected"),
        Err(error) => say(name_of(&error)),
    }
    Ok(())
}

fn behave(name: &str, argument: &str) -> Outcome {
    match name {
        "read" => {
            attempt("text", first_line(TEXT));
            attempt("absent", first_line(ABSENT));
        }
        "list" => list()?,
        "cwd" => say(format_args!("cwd {}", std::env::current_dir()?.display())),
        "chdir" => chdir()?,
        "symlinks" => {
            say(format_args!("link -> {}", fs::read_link(LINK)?.display()));
            say(Path::new(LINK).join("one").canonicalize()?.display());
        }
        "stat" => {
            kind("text", fs::metadata(TEXT));
            kind("directory", fs::metadata(DIRECTORY));
            kind("link", fs::symlink_metadata(LINK));
            kind("absent", fs::metadata(ABSENT));
        }
        "access" => {
            // The standard library asks by stat and open.
            attempt("text", fs::exists(TEXT).map(|there| format!("text {}", if there { "yes" } else { "ENOENT" })));
            attempt("absent", fs::exists(ABSENT).map(|there| format!("absent {}", if there { "yes" } else { "ENOENT" })));
        }
        "write" => attempt("open", fs::OpenOptions::new().write(true).open(TEXT).map(|_| "open for writing".to_owned())),
        "local-file" => local_file(argument)?,
        "script" => run(Command::new(SCRIPT).arg("hello"))?,
        "environment" => {
            say(std::env::var("SHOP_CURRENCY").unwrap_or("unset".to_owned()));
            say(format_args!("NODE_OPTIONS {}", if std::env::var_os("NODE_OPTIONS").is_some() { "set" } else { "unset" }));
        }
        "host-name" => host_name()?,
        "resolve" => resolve("echo.shop.internal")?,
        "resolve-hosts" => resolve("stock.shop.internal")?,
        "resolve-search" => resolve("echo")?,
        "resolve-absent" => resolve("absent.shop.internal")?,
        "resolve-numeric" => resolve("10.1.2.3")?,
        "connect" => converse(ECHO)?,
        "connect-six" => converse(ECHO_SIX)?,
        "connect-name" => converse("echo.shop.internal:7000")?,
        "happy-eyeballs" => converse("dual.shop.internal:7000")?,
        "refused" => refused()?,
        "socket-names" => socket_names()?,
        "large" => large()?,
        "udp-connected" => udp_connected()?,
        "udp-unconnected" => udp_unconnected()?,
        "threads" => threads()?,
        "own-listener" => own_listener()?,
        "bind-pod-address" => say(format_args!("bound to {}", TcpListener::bind((POD, 0))?.local_addr()?.ip())),
        "spawn-child" => run(&mut itself()?)?,
        "bare-environment" => run(itself()?.env_clear())?,
        "child" => child()?,
        "serve" | "serve-mirrored" => serve("0.0.0.0", argument)?,
        "serve-pod-address" => serve(POD, argument)?,
        _ => say("unknown to this guest"),
    }
    Ok(())
}

fn main() {
    for word in std::env::args().skip(1) {
        let (name, argument) = word.split_once('=').unwrap_or((&word, ""));
        // A child's lines belong to what its parent was told to do.
        if name != "child" {
            say(format_args!("== {name}"));
        }
        if let Err(error) = behave(name, argument) {
            say(format_args!("failed {}", name_of(&error)));
        }
    }
}
