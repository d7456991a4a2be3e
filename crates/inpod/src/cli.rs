//! The arguments of every subcommand; what they mean together with file and variables is decided by `config`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{ArgAction, Args, Parser, Subcommand};
use rules::IncomingMode;

use crate::error::Kind;

/// Which build this is: the embedded agent decides.
pub const BUILD: &str = match option_env!("INPOD_BUILD") {
    Some(build) => build,
    None => "development",
};

static VERSION: LazyLock<String> = LazyLock::new(|| format!("{} (build {BUILD})", env!("CARGO_PKG_VERSION")));

const EXAMPLES: &str = "\
Examples:
  inpod ls
        what can be a target here
  inpod exec -t deploy/checkout -- npm start
        with a copy of the pod's traffic
  inpod exec -t deploy/checkout --steal --header 'X-User=me' -- npm start
        answer the requests that are yours; all others stay with the pod
  inpod exec -t deploy/checkout --no-incoming -- psql
        only be inside: names, connections, files, environment
  inpod exec -- sh
        target and all else from inpod.toml

The configuration file, all its keys and their environment variables: docs/config.md";

const EXEC: &str = "\
The program gets the pod's environment variables, reads the pod's files, resolves names and opens connections from inside the
pod. What the pod receives reaches the program too, once it listens on the same port: as a copy (--mirror, the default), or
instead of the pod (--steal). When the program ends, everything is as before; nothing in the workload is changed.

inpod ends with the program's own exit status, 128+n when a signal n ended it, or one of these when inpod itself fails:
";

const PLAN: &str = "\
Tell which paths would be the pod's (remote), this machine's (local) or absent (hidden), and by which rule, before anything
starts. Nothing is changed in the cluster: of the target its spec alone is read. The working directory counts as exec's.";

const SESSIONS: &str = "\
List the sessions at a target: who they are by their own account, since when, and for each port that one holds the mode, the \
filter and what has come: requests (connections, where they are not taken apart) that were seen, that matched and went to the \
session, that passed to the real app, that were mirrored, and copies that were dropped. Nothing is started in the cluster.";

const DUMP: &str = "\
Show what clients send to a target, as it comes: HTTP/1 by request, with its fields and body, all else by its bytes. It is a copy: \
the pod answers as always, and what it answers is not shown. Ctrl-C ends it.";

/// Run a program on this machine as if it ran inside a Kubernetes pod.
#[derive(Debug, Parser)]
#[command(name = "inpod", version = VERSION.as_str(), after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program as if it ran inside a pod.
    #[command(long_about = exec_about(), after_help = EXAMPLES)]
    Exec(Box<ExecArgs>),
    /// List what can be a target.
    Ls(LsArgs),
    /// Tell which paths would be the pod's and by which rule, before anything starts.
    #[command(long_about = PLAN)]
    Plan(PlanArgs),
    /// List who holds what at a target; `sessions stop` ends one of them.
    #[command(long_about = SESSIONS)]
    Sessions(SessionsArgs),
    /// Show what comes to a target, live; nothing is touched.
    #[command(long_about = DUMP)]
    Dump(DumpArgs),
    /// Tell what this machine allows, and what to do about what it does not.
    Doctor(DoctorArgs),
}

/// `inpod exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub incoming: IncomingArgs,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Where somebody else steals the same requests: wait until their session ends
    #[arg(long, conflicts_with_all = ["mirror", "no_incoming", "take_over"])]
    pub wait: bool,
    /// Where somebody else steals the same requests: end their session
    #[arg(long, conflicts_with_all = ["mirror", "no_incoming"])]
    pub take_over: bool,
    /// Close connections that were open before, once they are idle, so that their clients come back through inpod
    #[arg(long, conflicts_with = "no_incoming")]
    pub reconnect_clients: bool,
    /// Terminate TLS of this port with the app's certificate and key, so that filters look into it; repeatable. PEM files of the pod,
    /// or of this machine with `local:` before. `PORT=CERT,KEY,plain` for a program that speaks no TLS itself: docs/tls.md
    #[arg(long = "tls", value_name = "PORT=CERT,KEY", conflicts_with_all = ["mirror", "no_incoming"])]
    pub tls: Vec<String>,
    /// Try, once the program listens, whether connections to the pod and through its Services reach it: docs/check.md
    #[arg(long)]
    pub check: bool,
    /// How the program's calls are seen: a seccomp filter (trap), a preloaded library (layer), or both [default: auto]
    #[arg(long, value_name = "ENGINE", value_parser = engine)]
    pub engine: Option<config::EngineChoice>,
    /// Image of the agent, for targets whose own image has no shell
    #[arg(long, value_name = "IMAGE")]
    pub agent_image: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// How the pod's traffic reaches the program; one of them.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct IncomingArgs {
    /// Take the pod's traffic and answer it
    #[arg(long)]
    pub steal: bool,
    /// Get a copy of the pod's traffic; refused where it cannot work [the default, but then only warned of]
    #[arg(long)]
    pub mirror: bool,
    /// Leave the pod's traffic alone
    #[arg(long, conflicts_with_all = ["headers", "filters", "check"])]
    pub no_incoming: bool,
}

/// Which requests.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only requests with this header; repeatable, all must match. `re:PATTERN` searches a regular expression in `Name: value`
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    /// Only requests that fulfil this; repeatable, all must. `path:/a*`, `method:POST`, `grpc:shop.Cart`, `json:@.user == 'me'`,
    /// `not:...` and others: docs/filters.md
    #[arg(long = "filter", value_name = "CONDITION")]
    pub filters: Vec<String>,
}

/// Which pod or process, and where.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// The target: deploy/NAME, pod/NAME[/container/C], process/PID, ...
    #[arg(short, long, value_name = "KIND/NAME")]
    pub target: Option<String>,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Container of the pod [default: its default container]
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
}

/// Which cluster, where in it, and the configuration file.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Kubernetes namespace [default: the context's]
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig [default: $KUBECONFIG, ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The configuration [default: inpod.toml, .json or .yaml, here or in a directory above]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// What is told, and how.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Tell more: -v phases and processes, -vv each decision
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
    /// Tell events as JSON, one a line, on stderr or on an open file descriptor
    #[arg(long, value_name = "FD", num_args = 0..=1, require_equals = true, default_missing_value = "2")]
    #[arg(value_parser = clap::value_parser!(i32).range(2..))]
    pub json: Option<i32>,
}

/// `inpod ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `inpod plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Paths to decide [default: each border between the pod's and this machine's]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// `inpod sessions`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SessionsArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(subcommand)]
    pub action: Option<SessionsAction>,
}

#[derive(Debug, Subcommand)]
pub enum SessionsAction {
    /// End a session: its claims at once, then its program.
    Stop(StopArgs),
}

/// `inpod sessions stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// The session, as `inpod sessions` lists it
    #[arg(value_name = "SESSION")]
    pub session: String,
}

/// `inpod dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// A port of the pod; repeatable [default: those that its containers declare and those that something listens on]
    #[arg(short, long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Most bytes that are shown of a body, and of a connection that is not HTTP/1
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub bytes: usize,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `inpod doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Cli {
    /// Reads arguments; `Err` holds the exit code when there is nothing left to do (help, version, a mistake), which clap has
    /// printed.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, u8> {
        Self::try_parse_from(arguments).map_err(|error| {
            // Nobody is left to tell when stderr is closed.
            let _ = error.print();
            if error.use_stderr() { Kind::Usage.code() } else { 0 }
        })
    }
}

impl ExecArgs {
    /// As the strongest source of the configuration.
    #[must_use]
    pub fn flags(&self) -> config::Flags {
        config::Flags {
            incoming: self.incoming.mode(),
            headers: self.filter.headers.clone(),
            filters: self.filter.filters.clone(),
            when_taken: match (self.wait, self.take_over) {
                (true, _) => Some(rules::WhenTaken::Wait),
                (_, true) => Some(rules::WhenTaken::TakeOver),
                _ => None,
            },
            reconnect_clients: self.reconnect_clients,
            tls: self.tls.clone(),
            agent_image: self.agent_image.clone(),
            engine: self.engine,
            ..self.target.flags()
        }
    }
}

impl DumpArgs {
    /// As the strongest source of the configuration.
    #[must_use]
    pub fn flags(&self) -> config::Flags {
        config::Flags {
            incoming: Some(IncomingMode::Mirror),
            headers: self.filter.headers.clone(),
            filters: self.filter.filters.clone(),
            ..self.target.flags()
        }
    }
}

impl TargetArgs {
    /// As the strongest source of the configuration.
    #[must_use]
    pub fn flags(&self) -> config::Flags {
        config::Flags {
            target: self.target.clone(),
            container: self.container.clone(),
            ..self.place.flags()
        }
    }
}

impl PlaceArgs {
    /// As the strongest source of the configuration.
    #[must_use]
    pub fn flags(&self) -> config::Flags {
        config::Flags {
            file: self.file.clone(),
            namespace: self.namespace.clone(),
            context: self.context.clone(),
            ..config::Flags::default()
        }
    }

    /// As `target` takes it; the container is only asked for by `exec`.
    #[must_use]
    pub fn kube(&self, resolved: &config::Resolved) -> target::KubeOptions {
        target::KubeOptions {
            namespace: resolved.namespace.clone(),
            context: resolved.context.clone(),
            kubeconfig: self.kubeconfig.clone(),
            container: resolved.container.clone(),
        }
    }
}

impl IncomingArgs {
    fn mode(&self) -> Option<IncomingMode> {
        match (self.steal, self.mirror, self.no_incoming) {
            (true, ..) => Some(IncomingMode::Steal),
            (_, true, _) => Some(IncomingMode::Mirror),
            (.., true) => Some(IncomingMode::Off),
            _ => None,
        }
    }
}

fn engine(text: &str) -> Result<config::EngineChoice, String> {
    use config::EngineChoice::{Auto, Layer, Trap};
    let named = [Auto, Trap, Layer].into_iter().find(|choice| choice.as_str() == text);
    named.ok_or_else(|| "it is auto, trap or layer".to_owned())
}

fn exec_about() -> String {
    let codes = Kind::ALL
        .iter()
        .map(|kind| format!("  {:>3}  {}\n", kind.code(), kind.about()));
    format!(
        "Run a program as if it ran inside a pod.\n\n{EXEC}{}",
        codes.collect::<String>()
    )
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
