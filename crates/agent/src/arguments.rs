//! The command line. No secret is ever in it: /proc shows it to everyone.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use crate::AgentError;

pub(crate) const USAGE: &str =
    "usage: agent serve --socket PATH (--target-pid PID | --target-container ID) [--linger SECONDS]
       agent attach --socket PATH
       agent direct --target-pid PID";

/// How long an agent without sessions stays.
const LINGER: Duration = Duration::from_secs(60);
const MAX_LINGER: u64 = 24 * 60 * 60;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Serve(ServeOptions),
    Attach { socket: PathBuf },
    Direct { target: Who },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServeOptions {
    pub socket: PathBuf,
    pub target: Who,
    pub linger: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    Pid(u32),
    /// As the runtime names it, with or without its `containerd://`.
    Container(String),
}

#[derive(Default)]
struct Given {
    socket: Option<PathBuf>,
    target: Option<Who>,
    linger: Option<Duration>,
}

pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, AgentError> {
    let usage = |text: &str| AgentError::Usage(text.to_owned());
    let mut arguments = arguments;
    let verb = arguments.next().ok_or_else(|| usage("a subcommand is missing"))?;
    let mut given = Given::default();
    while let Some(name) = arguments.next() {
        let name = name.to_string_lossy().into_owned();
        let value = arguments
            .next()
            .ok_or_else(|| AgentError::Usage(format!("{name} needs a value")))?;
        take(&mut given, &name, &value)?;
    }
    let socket = given.socket.ok_or_else(|| usage("--socket is missing"));
    let target = given
        .target
        .ok_or_else(|| usage("--target-pid or --target-container is missing"));
    match verb.to_str() {
        Some("serve") => Ok(Command::Serve(ServeOptions {
            socket: socket?,
            target: target?,
            linger: given.linger.unwrap_or(LINGER),
        })),
        Some("attach") => Ok(Command::Attach { socket: socket? }),
        Some("direct") => Ok(Command::Direct { target: target? }),
        _ => Err(AgentError::Usage(format!("no subcommand {}", verb.to_string_lossy()))),
    }
}

fn take(given: &mut Given, name: &str, value: &OsStr) -> Result<(), AgentError> {
    let text = || {
        value
            .to_str()
            .ok_or_else(|| AgentError::Usage(format!("{name}: not text")))
    };
    match name {
        "--socket" => given.socket = Some(PathBuf::from(value)),
        "--target-pid" => {
            let pid = text()?
                .parse()
                .ok()
                .filter(|pid| (1..=i32::MAX.unsigned_abs()).contains(pid));
            given.target = Some(Who::Pid(
                pid.ok_or_else(|| AgentError::Usage(format!("{name}: not a pid")))?,
            ));
        }
        "--target-container" => {
            let id = text()?;
            let id = id.rsplit_once("://").map_or(id, |(_, id)| id);
            if id.len() < 12
                || !id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            {
                return Err(AgentError::Usage(format!("{name}: not a container id")));
            }
            given.target = Some(Who::Container(id.to_owned()));
        }
        "--linger" => {
            let seconds = text()?.parse().ok().filter(|seconds| *seconds <= MAX_LINGER);
            let seconds = seconds.ok_or_else(|| AgentError::Usage(format!("{name}: not a number of seconds")))?;
            given.linger = Some(Duration::from_secs(seconds));
        }
        _ => return Err(AgentError::Usage(format!("no option {name}"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Result<Command, &str>) {
        match (parse(line.split_whitespace().map(OsString::from)), expect) {
            (Ok(got), Ok(expect)) => assert_eq!(got, expect, "{line}"),
            (Err(got), Err(expect)) => assert!(got.to_string().starts_with(expect), "{line}: {got}"),
            (got, expect) => panic!("{line}: {got:?}, not {expect:?}"),
        }
    }

    #[test]
    fn command_lines() {
        let id = "0123456789abcdef";
        check("direct --target-pid 7", Ok(Command::Direct { target: Who::Pid(7) }));
        check("attach --socket /a/b", Ok(Command::Attach { socket: "/a/b".into() }));
        let serve = |linger| {
            Command::Serve(ServeOptions {
                socket: "/s".into(),
                target: Who::Container(id.to_owned()),
                linger: Duration::from_secs(linger),
            })
        };
        check(
            &format!("serve --socket /s --target-container containerd://{id}"),
            Ok(serve(60)),
        );
        check(
            &format!("serve --socket /s --linger 5 --target-container {id}"),
            Ok(serve(5)),
        );
        check("", Err("a subcommand is missing"));
        check("fly --socket /s", Err("no subcommand fly"));
        check("attach --socket", Err("--socket needs a value"));
        check("attach", Err("--socket is missing"));
        check("direct --target-pid 0", Err("--target-pid: not a pid"));
        check("direct --target-pid -1", Err("--target-pid: not a pid"));
        check("direct --linger x", Err("--linger: not a number"));
        check(
            "serve --socket /s --target-container ../../x",
            Err("--target-container: not a container id"),
        );
    }
}
