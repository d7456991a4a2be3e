//! `inpod exec`: resolve, reach, launch, supervise, leave with the app's status.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::EngineChoice;
use guest::channel::Channel;
use guest::event::Event;
use guest::protocol::{FromServer, Notice, Ready, ToServer};
use rules::{FileMode, Plan};
use session::bond::Bond;
use session::{Directory, GOODBYE, Settings};
use trap::{Engine, Launch, LaunchError, PathView, Prepare, Supervision};
use view::Backend;
use view::changes::Changes;
use view::ns::{Layout, PodRoot};

use crate::agent::agent_settings;
use crate::changes;
use crate::cli::{ExecArgs, OutputArgs};
use crate::engine;
use crate::error::{CliError, Kind};
use crate::machine::{Machine, Without};
use crate::plan::with_kept_paths;
use crate::report::{Report, Style};
use crate::variables;

/// How long what the app wrote last is waited for. The server goes on without us.
const LAST_WORDS: Duration = Duration::from_secs(120);

/// Runs the app and returns its exit status, 128+n for a signal.
///
/// # Errors
/// What keeps the app from starting, or ended its session before it ended.
pub fn run(arguments: &ExecArgs) -> Result<u8, CliError> {
    let input = config::Input::here(arguments.flags())?;
    let resolved = config::load(&input)?;
    let machine = |error: std::io::Error| CliError::new(Kind::Machine, &error);
    let (program, rest) = arguments.command.split_first().ok_or_else(no_program)?;
    let variables: Vec<(OsString, OsString)> = input.variables.clone();
    let allowed = Machine::probe(&Without::read(&variables)?)?;
    let engine = engine::choose(resolved.engine, &allowed)?;
    let mut directory =
        Directory::create(variables::directory(&variables, "XDG_RUNTIME_DIR").as_deref()).map_err(machine)?;
    let changes = changes::open(&resolved, &allowed.backend, &variables)?;
    let own = directory
        .paths()
        .into_iter()
        .chain(changes.as_ref().map(Changes::directory));
    let own = own.map(Path::to_owned);
    let plan = with_kept_paths(&resolved.plan, &input, Some(Path::new(program)), own);
    can_write(&plan, &allowed.backend, engine)?;
    let paths = paths(&allowed.backend, &mut directory).map_err(machine)?;
    let bond = session::bond::fork_server(server_settings(
        arguments,
        &resolved,
        plan.clone(),
        directory,
        owner(&variables),
        owner_shown(&plan, &allowed.backend),
    )?)
    .map_err(machine)?;

    // From here on this process may have threads.
    let report = Arc::new(Report::new(style(&arguments.output)).map_err(machine)?);
    for message in &resolved.warnings {
        report.event(&Event::Warning {
            message: message.clone(),
        });
    }
    let outcome = attached(Attached {
        bond,
        plan,
        paths,
        engine,
        wanted: resolved.engine,
        machine: &allowed,
        variables,
        program,
        rest,
        output: &arguments.output,
        report: &report,
        changes: changes.as_ref().map(Changes::directory),
    });
    if let Some(changes) = changes {
        changes::close(changes, &report);
    }
    if let Err(error) = &outcome {
        report.error(error);
    }
    report.finish();
    Ok(outcome.unwrap_or_else(|error| error.kind.code()))
}

/// What a started server leaves to do.
struct Attached<'a> {
    bond: Bond,
    plan: Plan,
    paths: PathView,
    engine: Engine,
    wanted: EngineChoice,
    machine: &'a Machine,
    variables: Vec<(OsString, OsString)>,
    program: &'a OsStr,
    rest: &'a [OsString],
    output: &'a OutputArgs,
    report: &'a Arc<Report>,
    /// Where changes of the pod's files are kept that stay on this machine.
    changes: Option<&'a Path>,
}

fn attached(session: Attached<'_>) -> Result<u8, CliError> {
    let Attached {
        bond,
        mut plan,
        paths,
        engine,
        wanted,
        machine,
        variables,
        program,
        rest,
        output,
        report,
        changes,
    } = session;
    let ready = wait_until_ready(&bond.channel, report)?;
    plan.files.volumes = ready.volumes.iter().map(|volume| path(volume)).collect();
    let environment = environment(&plan, variables, &ready);
    report.event(&Event::Started {
        target: ready.target.clone(),
        summary: summary(&plan, &machine.backend, engine::told(engine, wanted, machine)),
    });

    let (skipped, skipping) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| CliError::new(Kind::Machine, &std::io::Error::from(errno)))?;
    let prepare = match &machine.backend {
        Backend::Namespace { user } => namespace(*user, &plan, &ready, &bond, changes, skipping)?,
        // What is waited for at the pipe's other end.
        Backend::Path { .. } | Backend::Copy { .. } => {
            drop(skipping);
            None
        }
    };
    let interception = engine::prepare(engine, machine, &plan, &ready, &bond.directory, &paths)?;
    if let Some(message) = interception.warning {
        report.event(&Event::Warning { message });
    }
    let launched = trap::launch(Launch {
        program: program.to_owned(),
        arguments: rest.to_vec(),
        environment: environment.into_iter().collect(),
        directory: None,
        prepare,
        paths,
        marker: interception.marker,
        layer: interception.layer,
        alone: interception.alone,
    })
    .map_err(|error| not_launched(&error, machine))?;
    warn_of_skipped(skipped, report);

    let ended = trap::supervise(
        launched,
        Supervision {
            channel: bond.channel,
            server: bond.server.as_raw_pid().unsigned_abs(),
            server_pidfd: bond
                .server_pidfd
                .try_clone()
                .map_err(|error| CliError::new(Kind::Machine, &error))?,
            plan: Arc::new(plan),
            ready,
            events: {
                let report = Arc::clone(report);
                Box::new(move |event| report.event(&event))
            },
            decisions: output.verbose > 1,
            threads: trap::DEFAULT_THREADS,
        },
    )
    .map_err(|error| CliError::new(Kind::Machine, &error))?;
    wait_for_server(&bond.server_pidfd);
    match ended.lost {
        None if ended.refused && !engine.traps() && ended.status == 0 => Err(CliError {
            kind: Kind::Machine,
            message: "the program ended well, but some of its tree was refused (see above)".to_owned(),
            causes: Vec::new(),
            hints: vec![engine::way_to_trap(machine)],
        }),
        Some(why) => Err(CliError {
            kind: Kind::Lost,
            message: why,
            causes: Vec::new(),
            hints: Vec::new(),
        }),
        None => {
            report.event(&Event::Exited { status: ended.status });
            Ok(u8::try_from(ended.status & 0xff).unwrap_or(1))
        }
    }
}

/// Tells what happens until the server is ready or says why it will never be.
fn wait_until_ready(channel: &Channel, report: &Report) -> Result<Ready, CliError> {
    loop {
        match channel.receive::<FromServer>() {
            Ok((FromServer::Ready(ready), _)) => return Ok(*ready),
            Ok((FromServer::Event(event), _)) => report.event(&event),
            Ok((FromServer::Fatal(failure), _)) => return Err(failure.into()),
            Ok((FromServer::Answer { .. }, _)) => {}
            Err(error) => return Err(CliError::new(Kind::Internal, &error)),
        }
    }
}

/// Where path calls go. What is to be mounted there is so when the server is ready.
fn paths(backend: &Backend, directory: &mut Directory) -> std::io::Result<PathView> {
    Ok(match backend {
        Backend::Namespace { .. } => PathView::Native,
        Backend::Path { .. } => PathView::Translated {
            root: directory.for_mount()?,
        },
        Backend::Copy { .. } => PathView::Copy {
            root: view::copy::root(&directory.files()),
        },
    })
}

/// What the app's process does before its first instruction: it enters its mount namespace.
fn namespace(
    user: bool,
    plan: &Plan,
    ready: &Ready,
    bond: &Bond,
    changes: Option<&Path>,
    skipping: OwnedFd,
) -> Result<Option<Prepare>, CliError> {
    let mut layout = Layout::plan(
        &plan.files,
        &PodRoot {
            names: ready.root.clone(),
        },
        &ready.nsswitch,
        user,
    );
    if let Some(changes) = changes {
        layout = layout.keep_changes(changes.to_owned());
    }
    if layout.is_empty() {
        return Ok(None);
    }
    let channel = bond
        .channel
        .try_clone()
        .map_err(|error| CliError::new(Kind::Machine, &error))?;
    let prepare = move || {
        let send = |fuse: OwnedFd| {
            channel
                .send(&ToServer::Notice(Notice::Fuse), &[fuse.as_fd()])
                .map_err(std::io::Error::other)
        };
        let skipped = layout.enter(send).map_err(std::io::Error::other)?;
        let lines: String = skipped
            .iter()
            .map(|skipped| format!("{}: {}\n", skipped.path.display(), skipped.why))
            .collect();
        // The reader is the launching process; without it nothing else works either.
        let _ = rustix::io::write(&skipping, lines.as_bytes());
        Ok(())
    };
    Ok(Some(Box::new(prepare)))
}

/// What the file view could not place.
fn warn_of_skipped(skipped: OwnedFd, report: &Report) {
    let mut lines = String::new();
    if std::fs::File::from(skipped).read_to_string(&mut lines).is_ok() {
        for line in lines.lines() {
            report.event(&Event::Warning {
                message: format!("not in the app's view: {line}"),
            });
        }
    }
}

fn environment(plan: &Plan, local: Vec<(OsString, OsString)>, ready: &Ready) -> BTreeMap<OsString, OsString> {
    let pod = ready.env.iter().map(|(name, value)| (os(name), os(value)));
    plan.env.apply(local, pod)
}

fn server_settings(
    arguments: &ExecArgs,
    resolved: &config::Resolved,
    plan: Plan,
    directory: Directory,
    owner: String,
    owner_shown: Option<(u32, u32)>,
) -> Result<Settings, CliError> {
    let target = resolved.target.as_deref().ok_or_else(no_target)?;
    let target = target.parse().map_err(target::TargetError::from)?;
    Ok(Settings {
        target,
        kube: arguments.target.place.kube(resolved),
        agent: agent_settings(resolved)?,
        plan,
        directory,
        session: random()?,
        token: random()?,
        owner,
        owner_shown,
        resolv_conf: std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        nsswitch: std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default(),
        check: arguments.check,
    })
}

pub(crate) fn random() -> Result<[u8; 16], CliError> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| CliError::new(Kind::Machine, &std::io::Error::from(errno)))?;
    Ok(bytes)
}

/// Refuses what would fail at the first write.
fn can_write(plan: &Plan, backend: &Backend, engine: Engine) -> Result<(), CliError> {
    let how = match backend {
        Backend::Path { why } if !engine.traps() => {
            format!("the layer works alone, and they are mounted aside by fusermount3, because {why}")
        }
        Backend::Namespace { .. } | Backend::Path { .. } => return Ok(()),
        Backend::Copy { why } => format!("they are copied on first use, because {why}"),
    };
    if !plan.files.may_write() {
        return Ok(());
    }
    let error = std::io::Error::other(format!(
        "the configuration asks for files of the pod to be written (files.mode, files.write), but here they can only be read: \
         {how}"
    ));
    Err(CliError::new(Kind::Machine, &error))
}

/// Whom the pod's files are shown to belong to, where they could not be written otherwise.
fn owner_shown(plan: &Plan, backend: &Backend) -> Option<(u32, u32)> {
    let changed = plan.files.may_write() || plan.files.mode == FileMode::WriteLocal;
    let is_alone = match backend {
        Backend::Namespace { user } => *user,
        // The kernel would let it remove nobody else's files from a directory like /tmp.
        Backend::Path { .. } => !rustix::process::geteuid().is_root(),
        Backend::Copy { .. } => false,
    };
    let alone = is_alone && changed;
    alone.then(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()))
}

/// What others see who meet this session's claims: a claim of the client, not checked by anybody.
pub(crate) fn owner(variables: &[(OsString, OsString)]) -> String {
    let user = variables::value(variables, "USER").or_else(|| variables::value(variables, "LOGNAME"));
    let user = user.map(|user| user.to_string_lossy().into_owned());
    let user = user.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy())
}

fn summary(plan: &Plan, backend: &Backend, engine: String) -> String {
    let on = |on: bool, what: &str| if on { what.to_owned() } else { format!("no {what}") };
    let incoming = match plan.incoming.mode {
        rules::IncomingMode::Off => "incoming traffic left alone".to_owned(),
        rules::IncomingMode::Mirror => "incoming traffic mirrored to the ports it listens on".to_owned(),
        rules::IncomingMode::Steal => "incoming traffic stolen for the ports it listens on".to_owned(),
    };
    [
        "environment".to_owned(),
        match plan.files.mode {
            FileMode::WriteLocal => format!("{backend}, changes kept on this machine"),
            _ if plan.files.may_write() => format!("{backend}, written in the pod"),
            _ => backend.to_string(),
        },
        on(plan.dns.on, "names"),
        on(plan.outgoing.tcp, "outgoing TCP"),
        on(plan.outgoing.udp, "UDP"),
        incoming,
        engine,
    ]
    .join(", ")
}

fn style(output: &OutputArgs) -> Style {
    match output.json {
        Some(descriptor) => Style::Json { descriptor },
        None => Style::Person {
            verbose: output.verbose,
        },
    }
}

/// The server says goodbye to the agent, waits until the pod has what the app wrote last, and removes what it made. One that
/// hangs is left to itself.
fn wait_for_server(server: &OwnedFd) {
    let is_gone = |limit| {
        let mut gone = [rustix::event::PollFd::new(server, rustix::event::PollFlags::IN)];
        let timeout = rustix::event::Timespec::try_from(limit).ok();
        rustix::event::poll(&mut gone, timeout.as_ref()).is_ok_and(|count| count > 0)
    };
    if !is_gone(GOODBYE) {
        // Who does not want to wait may leave.
        trap::take_signals_back();
        is_gone(LAST_WORDS);
    }
}

fn not_launched(error: &LaunchError, machine: &Machine) -> CliError {
    let kind = match error.exit_code() {
        127 => Kind::NotFound,
        126 => Kind::NotExecutable,
        _ => Kind::Machine,
    };
    let refused = matches!(error, LaunchError::Refused { .. });
    CliError {
        hints: refused.then(|| engine::way_to_trap(machine)).into_iter().collect(),
        ..CliError::new(kind, error)
    }
}

fn no_program() -> CliError {
    CliError {
        kind: Kind::Usage,
        message: "which program?".to_owned(),
        causes: Vec::new(),
        hints: Vec::new(),
    }
}

pub(crate) fn no_target() -> CliError {
    CliError {
        kind: Kind::Usage,
        message: "no target is given".to_owned(),
        causes: Vec::new(),
        hints: vec![
            "-t deploy/NAME, INPOD_TARGET, or `target` in inpod.toml; `inpod ls` lists what there is".to_owned(),
        ],
    }
}

fn os(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(os(bytes))
}
