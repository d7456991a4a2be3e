//! Programs in the view: what the trap's launcher does, without the trap.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rules::FileRules;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use tempfile::TempDir;
use view::ns::{Layout, PodRoot, Skipped};
use view::{Files, Identity};

use super::pod::{LocalPod, root_names};

/// Who runs the program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum As {
    Root,
    /// uid 65534, with a /dev/fuse that everybody may use, in a user namespace.
    Nobody,
}

pub struct Stand {
    pub pod: Arc<LocalPod>,
    pub root: TempDir,
    pub rules: FileRules,
    pub runtime: tokio::runtime::Runtime,
    files: Option<Arc<Files>>,
    serving: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    pub nsswitch: Vec<u8>,
    pub cwd: PathBuf,
    pub target_uid: u32,
    /// Run in the child first: what makes another machine of this one.
    pub prepare: Option<fn() -> io::Result<()>>,
}

/// A program that runs in the view.
pub struct Guest {
    pub child: Child,
    /// What the set-up took, and what it left out.
    pub setup: Duration,
    pub skipped: String,
}

impl Stand {
    pub fn new(fill: impl FnOnce(&Path)) -> Self {
        super::need_root();
        let root = TempDir::new().unwrap();
        std::fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fill(root.path());
        Self {
            pod: LocalPod::new(root.path()),
            root,
            rules: FileRules {
                kept: vec!["/work".into(), "/root".into()],
                ..FileRules::default()
            },
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            files: None,
            serving: Mutex::default(),
            nsswitch: Vec::new(),
            cwd: "/".into(),
            target_uid: 0,
            prepare: None,
        }
    }

    fn pod_root(&self) -> PodRoot {
        PodRoot {
            names: root_names(self.root.path()),
        }
    }

    pub fn spawn(&mut self, who: As, program: &[&str]) -> io::Result<Guest> {
        let files = Arc::new(Files::new(
            Arc::clone(&self.pod) as _,
            self.rules.clone(),
            Identity {
                uid: self.target_uid,
                owner: (who == As::Nobody).then_some((65534, 65534)),
            },
            self.pod_root(),
            self.root.path().join("copies"),
            Arc::new(|_| {}),
        ));
        self.files = Some(Arc::clone(&files));
        let layout = Layout::plan(&self.rules, &self.pod_root(), &self.nsswitch, who == As::Nobody);
        let (ours, theirs) = UnixStream::pair()?;
        let (mut report, reporter) = io::pipe()?;
        let mut command = Command::new(program[0]);
        command
            .args(&program[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir(&self.cwd);
        let prepare = self.prepare;
        let mut reporter = Some(reporter);
        let mut theirs = Some(theirs);
        // SAFETY: between fork and exec the closure makes system calls and allocates, which glibc allows; the other threads
        // of the test hold no lock that it takes.
        unsafe {
            command.pre_exec(move || {
                if let Some(prepare) = prepare {
                    prepare()?;
                }
                if who == As::Nobody {
                    become_nobody()?;
                }
                let begun = std::time::Instant::now();
                let theirs = theirs.take().ok_or(io::ErrorKind::Other)?;
                let skipped = layout
                    .enter(|fuse| send(&theirs, &fuse))
                    .map_err(|error| report_failure(&mut reporter, &error))?;
                report_success(&mut reporter, begun.elapsed(), &skipped)
            });
        }
        // The command keeps the child's ends open until it is dropped; the other side waits for the descriptor meanwhile.
        let receiver = std::thread::spawn(move || receive(&ours));
        let runtime = self.runtime.handle().clone();
        let server = std::thread::spawn({
            let files = Arc::clone(&files);
            move || {
                let fuse = receiver.join().ok()??;
                Some(runtime.spawn(async move { files.serve(fuse, None).await.unwrap() }))
            }
        });
        let child = command.spawn();
        drop(command);
        let mut said = String::new();
        report.read_to_string(&mut said)?;
        if let Some(task) = server.join().ok().flatten() {
            self.serving.lock().unwrap().push(task);
        }
        let child = child.map_err(|error| io::Error::new(error.kind(), format!("{error}: {said}")))?;
        let (micros, skipped) = said.split_once('\n').unwrap_or(("0", ""));
        Ok(Guest {
            child,
            setup: Duration::from_micros(micros.parse().unwrap_or(0)),
            skipped: skipped.to_owned(),
        })
    }

    /// Runs a program to its end and returns what it wrote, or fails with what it complained of.
    pub fn run(&mut self, who: As, program: &[&str]) -> String {
        let output = self.output(who, program);
        assert!(
            output.status.success(),
            "{program:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn output(&mut self, who: As, program: &[&str]) -> Output {
        let guest = self.spawn(who, program).unwrap();
        guest.child.wait_with_output().unwrap()
    }

    pub fn sh(&mut self, who: As, script: &str) -> String {
        self.run(who, &["/bin/sh", "-euc", script])
    }

    /// Ends the server, as kill -9 would: its end of the connection is closed.
    pub fn kill_server(&self) {
        for task in self.serving.lock().unwrap().drain(..) {
            task.abort();
            let _ = self.runtime.block_on(task);
        }
    }

    /// Waits until the kernel has let go of every mount.
    pub fn served_to_the_end(&self) {
        let tasks = std::mem::take(&mut *self.serving.lock().unwrap());
        for task in tasks {
            self.runtime
                .block_on(async { tokio::time::timeout(super::DEADLINE, task).await })
                .expect("the mount outlives its namespace")
                .unwrap();
        }
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.kill_server();
    }
}

/// Drops to uid 65534 with a usable /dev/fuse of its own.
pub fn become_nobody() -> io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags};
    // SAFETY: no other thread is there after fork.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::mount::mount("inpod-test", "/mnt", "tmpfs", MountFlags::empty(), c"mode=0755")?;
    let device = rustix::fs::makedev(10, 229);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        "/mnt/fuse",
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        device,
    )?;
    rustix::fs::chmod("/mnt/fuse", rustix::fs::Mode::from_raw_mode(0o666))?;
    rustix::mount::mount_bind("/mnt/fuse", "/dev/fuse")?;
    drop_rights()
}

/// To uid 65534, whatever /dev/fuse is.
pub fn drop_rights() -> io::Result<()> {
    // SAFETY: plain system calls with valid arguments.
    unsafe {
        if libc::setgroups(0, std::ptr::null()) != 0
            || libc::setresgid(65534, 65534, 65534) != 0
            || libc::setresuid(65534, 65534, 65534) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    // As after an exec by that user.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
    Ok(())
}

fn report_failure(reporter: &mut Option<io::PipeWriter>, error: &view::ns::NsError) -> io::Error {
    use std::io::Write;
    if let Some(mut reporter) = reporter.take() {
        let _ = write!(reporter, "{error}");
    }
    io::Error::from_raw_os_error(error.source.raw_os_error().unwrap_or(libc::EIO))
}

fn report_success(reporter: &mut Option<io::PipeWriter>, took: Duration, skipped: &[Skipped]) -> io::Result<()> {
    use std::io::Write;
    if let Some(mut reporter) = reporter.take() {
        writeln!(reporter, "{}", took.as_micros())?;
        for one in skipped {
            writeln!(reporter, "{}: {}", one.path.display(), one.why)?;
        }
    }
    Ok(())
}

fn send(socket: &UnixStream, fd: &OwnedFd) -> io::Result<()> {
    use std::os::fd::AsFd;
    let fds = [fd.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    rustix::net::sendmsg(socket, &[IoSlice::new(b"f")], &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive(socket: &UnixStream) -> Option<OwnedFd> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

/// What `say` answers in a forked child that was prepared first.
pub fn said_by_child(prepare: fn() -> io::Result<()>, say: impl FnOnce() -> String) -> String {
    use std::io::Write;
    let (mut reader, mut writer) = io::pipe().unwrap();
    // SAFETY: the child only makes system calls and allocates, and leaves by _exit.
    match unsafe { libc::fork() } {
        0 => {
            let said = match prepare() {
                Ok(()) => say(),
                Err(error) => format!("not prepared: {error}"),
            };
            let _ = writer.write_all(said.as_bytes());
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
        pid => {
            drop(writer);
            let mut said = String::new();
            reader.read_to_string(&mut said).unwrap();
            // SAFETY: waits for the child just made.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            said
        }
    }
}
