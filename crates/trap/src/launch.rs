//! The app's start: fork, filter, exec.

use std::ffi::{CString, OsString};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use guest::elf::Executable;
use guest::marker::Marker;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType};
use rustix::process::Pid;

use crate::calls::{CALLS, Scope};
use crate::engine::Engine;
use crate::enterable::Looked;
use crate::files::PathView;
use crate::sys::process::{Forked, Image};
use crate::sys::{process, seccomp, signal};
use crate::{bpf, enterable, exec, preload};

/// What runs in the child before the filter: entering namespaces, mounts.
pub type Prepare = Box<dyn FnOnce() -> io::Result<()>>;

/// The app to start.
pub struct Launch {
    /// A path, or a name that is looked up in the `PATH` of `environment` as `execvp(3)` does.
    pub program: OsString,
    /// Without the program's own name.
    pub arguments: Vec<OsString>,
    /// All of it: nothing is inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts; `None` keeps the present one.
    pub directory: Option<PathBuf>,
    pub prepare: Option<Prepare>,
    pub paths: PathView,
    pub marker: Marker,
    /// The layer's file, where it takes part (`preload::write`).
    pub layer: Option<PathBuf>,
    /// Without a filter: where the layer's calls arrive (see [`Calls::listen`]).
    pub alone: Option<Calls>,
}

/// Where the app's stopped calls arrive.
#[derive(Debug)]
pub enum Calls {
    /// From the filter.
    Filter(OwnedFd),
    /// From the layer, on its socket; `direct`: the caller's memory can be reached from outside.
    Layer { socket: OwnedFd, direct: bool },
}

impl Calls {
    /// A socket for the layer's calls at `path`, which is below a directory of this user's alone.
    ///
    /// # Errors
    /// When the socket cannot be made there.
    pub fn listen(path: &Path, direct: bool) -> io::Result<Self> {
        Ok(Self::Layer {
            socket: crate::forwarded::listen(path)?,
            direct,
        })
    }
}

/// A started app, whose stopped calls wait to be answered.
#[derive(Debug)]
pub struct Launched {
    pub pid: u32,
    pub(crate) calls: Calls,
    pub(crate) engine: Engine,
    /// The file that was executed.
    pub executable: PathBuf,
    pub(crate) paths: PathView,
}

/// Why an app could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("{}: not found", program.display())]
    NotFound { program: PathBuf },
    #[error("{} cannot be executed", program.display())]
    NotExecutable { program: PathBuf, source: io::Error },
    #[error("{} is not a 64-bit x86 program, so its calls cannot be seen", program.display())]
    Foreign { program: PathBuf },
    #[error("process {pid} {} was refused: {reason}", program.display())]
    Refused { pid: u32, program: PathBuf, reason: String },
    #[error("an argument or variable contains a NUL byte")]
    Nul,
    #[error("cannot change to the directory {}", directory.display())]
    Directory { directory: PathBuf, source: io::Error },
    #[error("cannot prepare the app's surroundings")]
    Prepare { source: io::Error },
    #[error("{}", filter_hint(*errno))]
    Filter { errno: i32, source: io::Error },
    #[error("cannot start a process")]
    Process(#[from] io::Error),
}

impl LaunchError {
    /// By the shells' convention: 127 not found, 126 found but not runnable; 125 when it is not the program's fault.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } | Self::Foreign { .. } | Self::Refused { .. } => 126,
            _ => 125,
        }
    }
}

fn filter_hint(errno: i32) -> &'static str {
    match errno {
        libc::EBUSY => "a seccomp listener is already in force here: inpod cannot run inside of another inpod",
        libc::EINVAL | libc::ENOSYS => "this kernel has no seccomp user notification (Linux 5.5 or later is needed)",
        libc::EACCES | libc::EPERM => "the surrounding container or policy does not allow seccomp filters",
        _ => "cannot install the seccomp filter",
    }
}

/// Where in the child something failed; travels as one byte before the errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    Directory = 1,
    Prepare,
    Filter,
    Execute,
}

/// Starts the app under the filter. This process becomes the reaper of its descendants. It may have other threads, as long
/// as `prepare` takes no lock of theirs.
///
/// With a layer the app's environment names it. The app's process is killed when the calling thread ends.
///
/// # Errors
/// [`LaunchError`]; then no process is left.
pub fn launch(launch: Launch) -> Result<Launched, LaunchError> {
    let Launch {
        program,
        arguments,
        environment,
        directory,
        prepare,
        paths,
        marker,
        layer,
        alone,
    } = launch;
    let engine = match (&alone, &layer) {
        (Some(_), _) => Engine::Layer,
        (None, Some(_)) => Engine::TrapAndLayer,
        (None, None) => Engine::Trap,
    };
    let program = PathBuf::from(program);
    let path = environment
        .iter()
        .find(|(name, _)| name == "PATH")
        .map(|(_, value)| value.clone());
    let candidates = exec::search(&program, path.as_deref());
    let environment = with_layer(environment, layer.as_deref());
    let image = Image::new(
        [program.clone().into_os_string()]
            .into_iter()
            .chain(arguments)
            .map(c_string)
            .collect::<Result<_, _>>()?,
        environment.into_iter().map(variable).collect::<Result<_, _>>()?,
    );
    let candidates: Vec<(PathBuf, CString)> = candidates
        .into_iter()
        .map(|candidate| Ok((candidate.clone(), c_string(candidate.into_os_string())?)))
        .collect::<Result<_, LaunchError>>()?;
    let scopes = [Scope::Always, Scope::Paths];
    let scopes = &scopes[..if matches!(paths, PathView::Native) { 1 } else { 2 }];
    let filter = engine
        .traps()
        .then(|| bpf::assemble(CALLS.iter().filter(|call| scopes.contains(&call.scope)), marker));

    process::become_subreaper()?;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(io::Error::from)?;
    let pid = match process::fork()? {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            drop(ours);
            let child = Child {
                channel: &theirs,
                image: &image,
                candidates: &candidates,
                marker,
            };
            child.become_app(directory.as_deref(), prepare, filter.as_deref())
        }
    };
    drop(theirs);
    let raw = Pid::from_raw(pid as i32).ok_or_else(|| io::Error::other("fork returned no pid"))?;
    let started = listen_to_child(&ours);
    let (calls, index) = match (started, alone) {
        (Ok((_, index)), Some(calls)) => (calls, index),
        (Ok((Some(listener), index)), None) => (Calls::Filter(listener), index),
        (Ok((None, _)), None) => return Err(failure(None, 0, program, directory)),
        (Err((stage, errno)), _) => {
            let _ = rustix::process::waitpid(Some(raw), rustix::process::WaitOptions::empty());
            if errno == REFUSED {
                let found = candidates.iter().find(|(path, _)| exec::inspect(path).is_some());
                let program = found.map_or(program, |(path, _)| path.clone());
                let reason = enterable::refusal(&program, &Looked::default()).unwrap_or_default();
                return Err(LaunchError::Refused { pid, program, reason });
            }
            return Err(failure(stage, errno, program, directory));
        }
    };
    let executable = candidates
        .get(index)
        .map_or(program, |(candidate, _)| candidate.clone());
    Ok(Launched {
        pid,
        calls,
        engine,
        executable,
        paths,
    })
}

/// The environment with the layer in it.
fn with_layer(mut environment: Vec<(OsString, OsString)>, layer: Option<&Path>) -> Vec<(OsString, OsString)> {
    const NAME: &str = "LD_PRELOAD";
    let Some(layer) = layer else { return environment };
    let present = environment.iter().find(|(name, _)| name == NAME);
    let value = preload::variable(present.map(|(_, value)| value.as_os_str()), layer);
    environment.retain(|(name, _)| name != NAME);
    environment.push((NAME.into(), value));
    environment
}

fn c_string(string: OsString) -> Result<CString, LaunchError> {
    CString::new(string.into_vec()).map_err(|_| LaunchError::Nul)
}

fn variable((name, value): (OsString, OsString)) -> Result<CString, LaunchError> {
    let mut both = name.into_vec();
    both.push(b'=');
    both.extend(value.as_bytes());
    CString::new(both).map_err(|_| LaunchError::Nul)
}

fn failure(stage: Option<Stage>, errno: i32, program: PathBuf, directory: Option<PathBuf>) -> LaunchError {
    let source = io::Error::from_raw_os_error(errno);
    match stage {
        Some(Stage::Directory) => LaunchError::Directory {
            directory: directory.unwrap_or_default(),
            source,
        },
        Some(Stage::Prepare) => LaunchError::Prepare { source },
        Some(Stage::Filter) => LaunchError::Filter { errno, source },
        Some(Stage::Execute) if errno == FOREIGN => LaunchError::Foreign { program },
        Some(Stage::Execute) if matches!(errno, libc::ENOENT | libc::ENOTDIR) => LaunchError::NotFound { program },
        Some(Stage::Execute) => LaunchError::NotExecutable { program, source },
        None => LaunchError::Process(io::Error::other(
            "the app's process ended before it could start the program",
        )),
    }
}

/// Stands for an executable of another architecture where an errno travels.
const FOREIGN: i32 = 4095;
/// For one that the layer alone cannot serve.
const REFUSED: i32 = 4094;

/// The listener, if there is a filter, and which candidate was executed; or where it failed.
fn listen_to_child(channel: &OwnedFd) -> Result<(Option<OwnedFd>, usize), (Option<Stage>, i32)> {
    use rustix::cmsg_space;
    let mut listener = None;
    let mut bytes = Vec::new();
    let mut part = [0; 64];
    loop {
        let mut space = [std::mem::MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            channel,
            &mut [io::IoSliceMut::new(&mut part)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut rights) = message {
                listener = rights.next().or(listener);
            }
        }
        match received {
            Ok(received) if received.bytes > 0 => bytes.extend(&part[..received.bytes]),
            Err(Errno::INTR) => {}
            _ => break,
        }
    }
    // The listener's own byte, then for each candidate that is tried its index, then stage and errno where all failed.
    if let Some(report) = bytes.windows(6).find(|report| report[0] == REPORT) {
        let stage = [Stage::Directory, Stage::Prepare, Stage::Filter, Stage::Execute];
        let stage = stage.into_iter().find(|stage| *stage as u8 == report[1]);
        let errno = i32::from_ne_bytes([report[2], report[3], report[4], report[5]]);
        return Err((stage, errno));
    }
    let tried = bytes.iter().filter(|byte| **byte == TRY).count();
    if tried == 0 {
        return Err((None, 0));
    }
    Ok((listener, tried - 1))
}

const TRY: u8 = 0xf1;
const REPORT: u8 = 0xf2;

/// What was seen of a candidate before it is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Foreign,
    /// The layer would be alone, and cannot enter it.
    Refused,
    Other,
}

impl Known {
    fn of(path: &Path, alone: bool) -> Self {
        match exec::inspect(path) {
            Some(Executable::Foreign) => Self::Foreign,
            Some(_) if alone && enterable::refusal(path, &Looked::default()).is_some() => Self::Refused,
            _ => Self::Other,
        }
    }
}

/// The forked process before it is the app.
struct Child<'a> {
    channel: &'a OwnedFd,
    image: &'a Image,
    candidates: &'a [(PathBuf, CString)],
    marker: Marker,
}

impl Child<'_> {
    fn become_app(
        &self,
        directory: Option<&Path>,
        prepare: Option<Prepare>,
        filter: Option<&[seccomp::Instruction]>,
    ) -> ! {
        let Err((stage, errno)) = self.try_become(directory, prepare, filter);
        let mut report = vec![REPORT, stage as u8];
        report.extend(errno.to_ne_bytes());
        self.say(&report);
        process::exit_now(127)
    }

    /// By write(2), which is never trapped.
    fn say(&self, bytes: &[u8]) {
        if let Ok(duplicate) = rustix::io::fcntl_dupfd_cloexec(self.channel, 0) {
            let _ = std::fs::File::from(duplicate).write_all(bytes);
        }
    }

    fn try_become(
        &self,
        directory: Option<&Path>,
        prepare: Option<Prepare>,
        filter: Option<&[seccomp::Instruction]>,
    ) -> Result<std::convert::Infallible, (Stage, i32)> {
        let raw = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        process::die_with_parent();
        signal::reset();
        if let Some(prepare) = prepare {
            prepare().map_err(|error| (Stage::Prepare, raw(&error)))?;
        }
        if let Some(directory) = directory {
            std::env::set_current_dir(directory).map_err(|error| (Stage::Directory, raw(&error)))?;
        }
        // Looked at before the filter: afterwards our own opens would wait for a supervisor that is not there yet.
        let known: Vec<Known> = self
            .candidates
            .iter()
            .map(|(path, _)| Known::of(path, filter.is_none()))
            .collect();
        if let Some(filter) = filter {
            let listener = seccomp::install(filter).map_err(|errno| (Stage::Filter, errno.raw_os_error()))?;
            process::send_descriptor_marked(self.channel.as_fd(), &listener, self.marker)
                .map_err(|errno| (Stage::Filter, errno.raw_os_error()))?;
        }
        self.execute(&known).map_err(|errno| (Stage::Execute, errno))
    }

    /// Tries each candidate as `execvp(3)`: what is missing is passed over, a denial is remembered, a text file is a script.
    fn execute(&self, known: &[Known]) -> Result<std::convert::Infallible, i32> {
        let mut denied = None;
        for ((_, path), known) in self.candidates.iter().zip(known) {
            self.say(&[TRY]);
            match known {
                Known::Foreign => return Err(FOREIGN),
                Known::Refused => return Err(REFUSED),
                Known::Other => {}
            }
            match self.image.execute(path, None, self.marker) {
                Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {}
                Errno::ACCESS => denied = Some(libc::EACCES),
                Errno::NOEXEC => return Err(self.image.execute_script(path, self.marker).raw_os_error()),
                other => return Err(other.raw_os_error()),
            }
        }
        Err(denied.unwrap_or(libc::ENOENT))
    }
}
