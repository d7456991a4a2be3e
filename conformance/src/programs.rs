//! Real programs as guests: what people run.

mod clients;
mod debuggers;
mod fastcgi;
mod servers;
mod terminal;
mod tools;

use std::path::PathBuf;

use tests::{Ended, Run, Session};

use crate::guests;
use crate::language::Engine;
use crate::world::World;

/// Outcome of a program's test: what was expected and what came, when they differ.
pub type Outcome = Result<(), String>;

/// One program.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    pub name: &'static str,
    /// For people who read the document.
    pub title: &'static str,
    /// Why the layer alone refuses it, if it does.
    pub refused: Option<&'static str>,
    pub check: fn(&Stage<'_>) -> Outcome,
}

/// Go's tools and programs are static.
const GO: Option<&str> = Some("Go makes its system calls itself");

pub const PROGRAMS: &[Program] = &[
    Program {
        name: "curl",
        title: "asks a name of the pod for a page",
        refused: None,
        check: clients::curl,
    },
    Program {
        name: "curl-as-nobody",
        title: "the same as a user without rights (`setpriv --reuid`)",
        refused: None,
        check: clients::nobody,
    },
    Program {
        name: "wget",
        title: "the same",
        refused: None,
        check: clients::wget,
    },
    Program {
        name: "git",
        title: "ls-remote and clone over HTTP (`skip.build_tools` off)",
        refused: None,
        check: clients::git,
    },
    Program {
        name: "redis-cli",
        title: "talks to a real redis-server in the pod",
        refused: None,
        check: clients::redis,
    },
    Program {
        name: "go-http-client",
        title: "Go's net/http",
        refused: GO,
        check: clients::go_client,
    },
    Program {
        name: "go-run",
        title: "`go run` of a client: compiler and linker are skipped, the program is served",
        refused: GO,
        check: clients::go_run,
    },
    Program {
        name: "npm-start",
        title: "`npm start` of a client",
        refused: None,
        check: clients::npm_start,
    },
    Program {
        name: "pytest-xdist",
        title: "`pytest -n 2`, tests that read the pod's files and connect",
        refused: None,
        check: clients::pytest,
    },
    Program {
        name: "nginx",
        title: "4 workers that have dropped root's rights, stolen traffic, a file of the pod",
        refused: None,
        check: servers::nginx,
    },
    Program {
        name: "gunicorn",
        title: "3 prefork workers",
        refused: None,
        check: servers::gunicorn,
    },
    Program {
        name: "uvicorn",
        title: "2 workers of an ASGI server, on an event loop each",
        refused: None,
        check: servers::uvicorn,
    },
    Program {
        name: "php-fpm",
        title: "2 workers that have dropped root's rights, asked by FastCGI",
        refused: None,
        check: servers::php_fpm,
    },
    Program {
        name: "node-cluster",
        title: "3 workers that get their connections from the primary",
        refused: None,
        check: servers::node_cluster,
    },
    Program {
        name: "java-http-server",
        title: "com.sun.net.httpserver",
        refused: None,
        check: servers::java,
    },
    Program {
        name: "go-http-server",
        title: "Go's net/http",
        refused: GO,
        check: servers::go,
    },
    Program {
        name: "daemon",
        title: "a program that daemonises is served on as long as the app runs",
        refused: None,
        check: tools::daemon,
    },
    Program {
        name: "gdb",
        title: "runs a program under gdb, stops at main and goes on",
        refused: None,
        check: tools::gdb,
    },
    Program {
        name: "strace",
        title: "runs a program under `strace -f`",
        refused: None,
        check: tools::strace,
    },
    Program {
        name: "strace-attached",
        title: "strace attaches to a running server, which serves on",
        refused: None,
        check: tools::strace_attached,
    },
    Program {
        name: "node-inspect",
        title: "the debugger's port stays this machine's, the service's is the pod's",
        refused: None,
        check: tools::node_inspect,
    },
    Program {
        name: "delve",
        title: "runs a Go program under `dlv exec`, stops at main and goes on",
        refused: GO,
        check: debuggers::delve,
    },
    Program {
        name: "debugpy",
        title: "waits for its debugger on this machine's port, then serves on the pod's",
        refused: None,
        check: debuggers::debugpy,
    },
    Program {
        name: "jdwp",
        title: "`-agentlib:jdwp`: jdb attaches on this machine's port, stops at main and goes on; the service's port is the pod's",
        refused: None,
        check: debuggers::jdwp,
    },
    Program {
        name: "job-control",
        title: "an interactive bash in a terminal: Ctrl-C, Ctrl-Z, fg",
        refused: None,
        check: terminal::job_control,
    },
];

/// What does not work, and why; to go with its cause.
pub const FAILS: &[(&str, Engine, &str)] = &[(
    "curl-as-nobody",
    Engine::Layer,
    "a program that has dropped its rights does not reach the supervisor's socket, which is its first user's alone: look-ups fail, and \
     exec says EIO.",
)];

/// Why it is known to fail under an engine.
#[must_use]
pub fn fails(program: &Program, engine: Engine) -> Option<&'static str> {
    let known = FAILS
        .iter()
        .find(|(name, with, _)| (*name, *with) == (program.name, engine));
    known.map(|(_, _, reason)| *reason)
}

/// Where the pod's files for HTTP are served, by name.
pub const FILES_URL: &str = "http://echo.shop.internal:8000";
pub const REDIS: (&str, &str) = ("echo.shop.internal", "6379");

/// A world with one engine.
#[derive(Debug)]
pub struct Stage<'a> {
    pub world: &'a World,
    pub engine: Engine,
    /// A port of this test's own.
    pub port: u16,
}

impl Stage<'_> {
    /// `inpod exec` with flags of its own; without incoming traffic where none are given.
    #[must_use]
    pub fn exec(&self, flags: &[&str]) -> Run {
        let run = Run::by(tests::inpod(&[]), &self.world.target());
        let flags = if flags.is_empty() { &["--no-incoming"] } else { flags };
        run.flags(&["--engine", self.engine.flag(), "--json", "-v"])
            .flags(flags)
    }

    /// A server, whose port is stolen when this returns.
    #[must_use]
    pub fn serve(&self, run: Run, program: &[&str]) -> Session {
        let mut session = run.start(program);
        session.wait_for_claim(self.port);
        session
    }

    /// A directory of this test's own on this machine.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn scratch(&self, name: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.world.scratch.path().join(format!("{name}-{}", self.port));
        std::fs::create_dir_all(&path).expect("the scratch directory can be written");
        // Programs that drop their rights look into it.
        for directory in [self.world.scratch.path(), &path] {
            std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
        path
    }
}

/// Starts what the programs talk to.
///
/// # Panics
/// When it does not come up.
pub fn services(world: &mut World) {
    let files = world.scratch.path().join("served");
    let repository = files.join("repo.git");
    std::fs::create_dir_all(&repository).expect("the scratch directory can be written");
    std::fs::write(files.join("page"), "a page of the pod\n").expect("the scratch directory can be written");
    let script = "git init -q --bare -b main . && tree=$(git mktree </dev/null) && \
        commit=$(git -c user.name=a -c user.email=a@example.org commit-tree -m first $tree) && \
        git update-ref refs/heads/main $commit && git update-server-info";
    let made = std::process::Command::new("sh")
        .args(["-ec", script])
        .current_dir(&repository)
        .status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "git is needed: `cargo xtask test` installs it"
    );
    let directory = files.to_str().expect("a path in text").to_owned();
    let server = [
        "/usr/bin/python3",
        "-u",
        "-m",
        "http.server",
        "8000",
        "--bind",
        "10.77.0.40",
        "--directory",
        &directory,
    ];
    world.service(&server, "Serving HTTP");
    world.service(
        &[
            "redis-server",
            "--bind",
            "10.77.0.40",
            "--port",
            "6379",
            "--save",
            "",
            "--protected-mode",
            "no",
        ],
        "Ready to accept",
    );
}

/// A file below conformance/guests/programs.
pub(crate) fn source(name: &str) -> String {
    guests::source(&format!("programs/{name}"))
}

/// Ended well, and printed this.
pub(crate) fn printed(ended: &Ended, wanted: &str) -> Outcome {
    if ended.code() == 0 && ended.stdout.contains(wanted) {
        return Ok(());
    }
    Err(format!(
        "expected success and `{wanted}`; came, with {}:\n{}\nstderr:\n{}",
        ended.status, ended.stdout, ended.stderr
    ))
}

/// The layer alone says of which process that it cannot enter it.
///
/// # Errors
/// When it runs all the same, or is not named.
pub fn refused(program: &Program, stage: &Stage<'_>) -> Outcome {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (program.check)(stage))) {
        Ok(Ok(())) => Err("it was served, against the table: remove the refusal from it".to_owned()),
        Ok(Err(text)) if text.contains("was refused: ") => Ok(()),
        Ok(Err(text)) => Err(format!("expected a refusal that names the process; came:\n{text}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map_or("", String::as_str);
            if text.contains("was refused: ") {
                Ok(())
            } else {
                Err(format!("expected a refusal; came:\n{text}"))
            }
        }
    }
}
