//! The table of keys: the one place that knows them. It validates files, names the variables, and prints the reference.

use crate::Resolved;
use crate::reader::{PathSide, Reader};
use crate::resolve::{EngineChoice, LogLevel};
use crate::value::Node;
use rules::{FileMode, IncomingMode, WhenTaken};

/// One key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// `section.name`, or a name without section.
    pub path: &'static str,
    pub takes: Takes,
    /// As the reference prints it.
    pub default: &'static str,
    /// The flag that says the same.
    pub flag: Option<&'static str>,
    pub about: &'static str,
    pub(crate) set: fn(&mut Reader<'_>, &Node, &mut Resolved),
}

/// The form of a value, in words for the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    One(&'static str),
    /// A list; its variable separates entries by commas.
    List(&'static str),
    /// A list whose entries may hold commas; its variable has one on each line.
    Lines(&'static str),
    /// Names to values; it has no variable.
    Table(&'static str),
}

impl Key {
    /// The environment variable that says the same: `incoming.mode` is `INPOD_INCOMING_MODE`.
    #[must_use]
    pub fn variable(&self) -> Option<String> {
        let has = !matches!(self.takes, Takes::Table(_));
        has.then(|| {
            format!(
                "{}{}",
                crate::variable::PREFIX,
                self.path.replace('.', "_").to_ascii_uppercase()
            )
        })
    }
}

const INCOMING: &[(&str, IncomingMode)] = &[
    ("mirror", IncomingMode::Mirror),
    ("steal", IncomingMode::Steal),
    ("off", IncomingMode::Off),
];
const WHEN_TAKEN: &[(&str, WhenTaken)] = &[
    ("refuse", WhenTaken::Refuse),
    ("wait", WhenTaken::Wait),
    ("take-over", WhenTaken::TakeOver),
];
const FILES: &[(&str, FileMode)] = &[
    ("read", FileMode::Read),
    ("write", FileMode::Write),
    ("write-local", FileMode::WriteLocal),
    ("local", FileMode::Local),
];
const ENGINES: &[(&str, EngineChoice)] = &[
    ("auto", EngineChoice::Auto),
    ("trap", EngineChoice::Trap),
    ("layer", EngineChoice::Layer),
];
const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

const PATHS: Takes = Takes::List("paths, globs or `re:PATTERN`");
const NAMES: Takes = Takes::List("names or `*.suffix`");
const VARIABLES: Takes = Takes::List("variable names or globs");
const ADDRESSES: Takes =
    Takes::List("`name`, `*.suffix`, `ip` or `network/length`, each with or without `:port`, or `:port`");
const SWITCH: Takes = Takes::One("`true` or `false`");

/// All keys, in the order of the reference.
pub const KEYS: &[Key] = &[
    Key {
        path: "target",
        takes: Takes::One("`pod/NAME`, `deploy/NAME`, `process/PID`, ..."),
        default: "",
        flag: Some("-t, --target"),
        about: "Where the program runs as if it were there; `inpod ls` lists what there is.",
        set: |reader, node, out| out.target = reader.text(node),
    },
    Key {
        path: "namespace",
        takes: Takes::One("a namespace"),
        default: "the context's",
        flag: Some("-n, --namespace"),
        about: "Kubernetes namespace of the target.",
        set: |reader, node, out| out.namespace = reader.text(node),
    },
    Key {
        path: "context",
        takes: Takes::One("a context"),
        default: "the current one",
        flag: Some("--context"),
        about: "Context of the kubeconfig.",
        set: |reader, node, out| out.context = reader.text(node),
    },
    Key {
        path: "container",
        takes: Takes::One("a container"),
        default: "the pod's default container",
        flag: Some("-c, --container"),
        about: "Container of the pod. By default the one the annotation `kubectl.kubernetes.io/default-container` names, \
                else the first that is not a known sidecar.",
        set: |reader, node, out| out.container = reader.text(node),
    },
    Key {
        path: "engine",
        takes: Takes::One("`auto`, `trap` or `layer`"),
        default: "`auto`",
        flag: Some("--engine"),
        about: "How the program's calls are seen. `trap`: a seccomp filter, which serves every program. `layer`: a preloaded \
                library, which serves dynamic programs only and refuses the others. `auto`: both together, or the layer alone \
                where this machine allows no filter with notification (`inpod doctor` says what it allows).",
        set: |reader, node, out| reader.choice(node, ENGINES, &mut out.engine),
    },
    Key {
        path: "env.include",
        takes: VARIABLES,
        default: "all but the list below",
        flag: None,
        about: "Take only these of the pod's variables, also those that are left out by default.",
        set: |reader, node, out| out.plan.env.include = reader.list(node, Reader::variables),
    },
    Key {
        path: "env.exclude",
        takes: VARIABLES,
        default: "none",
        flag: None,
        about: "Do not take these of the pod's variables; wins over `env.include` and `env.map`.",
        set: |reader, node, out| out.plan.env.exclude = reader.list(node, Reader::variables),
    },
    Key {
        path: "env.override",
        takes: Takes::Table("variable = value"),
        default: "none",
        flag: None,
        about: "Set these variables last, whatever the pod or the machine says.",
        set: |reader, node, out| {
            out.plan.env.overrides = reader
                .table(node, Reader::variable, Reader::plain)
                .into_iter()
                .collect();
        },
    },
    Key {
        path: "env.map",
        takes: Takes::Table("variable of the pod = its name here"),
        default: "none",
        flag: None,
        about: "Take a variable of the pod under another name, also one that is left out by default.",
        set: |reader, node, out| {
            out.plan.env.map = reader
                .table(node, Reader::variable, Reader::variable_node)
                .into_iter()
                .collect();
        },
    },
    Key {
        path: "env.unset",
        takes: VARIABLES,
        default: "none",
        flag: None,
        about: "Remove these variables, the machine's too; `env.override` still sets.",
        set: |reader, node, out| out.plan.env.unset = reader.list(node, Reader::variables),
    },
    Key {
        path: "files.mode",
        takes: Takes::One("`read`, `write`, `write-local` or `local`"),
        default: "`read`",
        flag: None,
        about: "`read`: the pod's volumes, and all paths that are neither the system's nor a developer's, come from the pod, \
                read-only. `write`: the same paths, and what the program writes there is written in the pod. \
                `write-local`: the same paths, and what it writes there is kept on this machine (`files.changes`). `local`: \
                only what `files.remote`, `files.write` and `files.map` list comes from the pod.",
        set: |reader, node, out| reader.choice(node, FILES, &mut out.plan.files.mode),
    },
    Key {
        path: "files.remote",
        takes: PATHS,
        default: "none",
        flag: None,
        about: "These paths, and all below them, come from the pod.",
        set: |reader, node, out| out.plan.files.remote = reader.list(node, Reader::path_pattern),
    },
    Key {
        path: "files.write",
        takes: PATHS,
        default: "none",
        flag: None,
        about: "These come from the pod too, and can be written in any mode, as far as the target's user may; wins over \
                `files.remote`.",
        set: |reader, node, out| out.plan.files.write = reader.list(node, Reader::path_pattern),
    },
    Key {
        path: "files.changes",
        takes: Takes::One("a directory of this machine"),
        default: "one for each session, in `$XDG_STATE_HOME/inpod/changes`",
        flag: None,
        about: "In mode `write-local`, where changes of the pod's files are kept. The next session with the same directory \
                goes on from there.",
        set: |reader, node, out| out.changes = reader.local_path(node),
    },
    Key {
        path: "files.local",
        takes: PATHS,
        default: "none",
        flag: None,
        about: "These are this machine's; wins over `files.write`.",
        set: |reader, node, out| out.plan.files.local = reader.list(node, Reader::path_pattern),
    },
    Key {
        path: "files.hidden",
        takes: PATHS,
        default: "none",
        flag: None,
        about: "These do not exist for the program; wins over `files.local`.",
        set: |reader, node, out| out.plan.files.hidden = reader.list(node, Reader::path_pattern),
    },
    Key {
        path: "files.map",
        takes: Takes::Table("path here = absolute path in the pod"),
        default: "none",
        flag: None,
        about: "What the program opens below the first comes from below the second; the longest match counts.",
        set: |reader, node, out| {
            out.plan.files.map = reader.table(
                node,
                |reader, text, at| reader.path(text, at, PathSide::Here),
                Reader::pod_path,
            );
        },
    },
    Key {
        path: "incoming.mode",
        takes: Takes::One("`mirror`, `steal` or `off`"),
        default: "`mirror`",
        flag: Some("--mirror, --steal, --no-incoming"),
        about: "`mirror`: the program gets a copy of the pod's incoming traffic. `steal`: it gets the traffic and answers it. A \
                mode that is written down or given as a flag is a demand: where it cannot work, the session is refused. \
                Mirroring that is only the default is then left out with a warning.",
        set: |reader, node, out| {
            reader.choice(node, INCOMING, &mut out.plan.incoming.mode);
            out.plan.incoming.explicit = true;
        },
    },
    Key {
        path: "incoming.ports",
        takes: Takes::List("ports of the pod"),
        default: "each port the program listens on",
        flag: None,
        about: "Take traffic of these ports only.",
        set: |reader, node, out| out.plan.incoming.ports = reader.list(node, Reader::port),
    },
    Key {
        path: "incoming.port_map",
        takes: Takes::Table("port here = port of the pod"),
        default: "the same port",
        flag: None,
        about: "Which port of the pod a port of the program stands for, where they differ.",
        set: |reader, node, out| out.plan.incoming.port_map = reader.port_map(node),
    },
    Key {
        path: "incoming.filter",
        takes: Takes::Lines("conditions, and tables `{ any = [...] }`, `{ all = [...] }`, `{ not = ... }`"),
        default: "every connection",
        flag: Some("--header, --filter"),
        about: "Take only HTTP requests that fulfil all of these. `Name=value` is a header, exactly (names without case); \
                `re:PATTERN` is a regular expression searched without case in `Name: value` of each header. Others look at the \
                path, method, host, gRPC method, JSON body, baggage or tracestate: see [Filters](filters.md).",
        set: |reader, node, out| out.plan.incoming.filter = reader.filter(node),
    },
    Key {
        path: "incoming.when_taken",
        takes: Takes::One("`refuse`, `wait` or `take-over`"),
        default: "`refuse`",
        flag: Some("--wait, --take-over"),
        about: "What to do where somebody else steals the same requests. `refuse`: say who it is, and run without them. `wait`: until \
                their session ends. `take-over`: end it, as `inpod sessions stop` does.",
        set: |reader, node, out| reader.choice(node, WHEN_TAKEN, &mut out.plan.incoming.when_taken),
    },
    Key {
        path: "incoming.reconnect_clients",
        takes: SWITCH,
        default: "`false`",
        flag: Some("--reconnect-clients"),
        about: "Connections that were open before belong to the real app until they close, and clients that keep theirs (proxies, \
                connection pools) never come through inpod. This closes them once they are idle: see \
                [Open connections](incoming.md#open-connections).",
        set: |reader, node, out| reader.switch(node, &mut out.plan.incoming.reconnect_clients),
    },
    Key {
        path: "incoming.tls",
        takes: Takes::Table("port of the pod = `\"CERTIFICATE,KEY\"`, or a table"),
        default: "TLS is passed on as it is",
        flag: Some("--tls"),
        about: "TLS of these ports ends at the agent, with the app's certificate, so that filters look into it; a steal only. The table \
                has `certificate`, `key`, `app`, `client_ca`, `client_certificate` and `client_key`: see [TLS](tls.md).",
        set: |reader, node, out| out.plan.incoming.tls = reader.tls(node),
    },
    Key {
        path: "outgoing.tcp",
        takes: SWITCH,
        default: "`true`",
        flag: None,
        about: "TCP connections go out from the pod.",
        set: |reader, node, out| reader.switch(node, &mut out.plan.outgoing.tcp),
    },
    Key {
        path: "outgoing.udp",
        takes: SWITCH,
        default: "`true`",
        flag: None,
        about: "UDP datagrams go out from the pod.",
        set: |reader, node, out| reader.switch(node, &mut out.plan.outgoing.udp),
    },
    Key {
        path: "outgoing.unix",
        takes: PATHS,
        default: "none",
        flag: None,
        about: "Unix sockets with these paths are the pod's.",
        set: |reader, node, out| out.plan.outgoing.unix = reader.list(node, Reader::path_pattern),
    },
    Key {
        path: "outgoing.local",
        takes: ADDRESSES,
        default: "none",
        flag: None,
        about: "These destinations are reached from this machine; wins over `outgoing.remote`.",
        set: |reader, node, out| out.plan.outgoing.local = reader.list(node, Reader::parsed),
    },
    Key {
        path: "outgoing.remote",
        takes: ADDRESSES,
        default: "everything",
        flag: None,
        about: "Only these destinations are reached from the pod.",
        set: |reader, node, out| out.plan.outgoing.remote = reader.list(node, Reader::parsed),
    },
    Key {
        path: "dns.on",
        takes: SWITCH,
        default: "`true`",
        flag: None,
        about: "Names are looked up in the pod.",
        set: |reader, node, out| reader.switch(node, &mut out.plan.dns.on),
    },
    Key {
        path: "dns.local",
        takes: NAMES,
        default: "none",
        flag: None,
        about: "These names, as the program says them, are looked up on this machine; wins over `dns.remote`.",
        set: |reader, node, out| out.plan.dns.local = reader.list(node, Reader::name_pattern),
    },
    Key {
        path: "dns.remote",
        takes: NAMES,
        default: "everything",
        flag: None,
        about: "Only these names are looked up in the pod.",
        set: |reader, node, out| out.plan.dns.remote = reader.list(node, Reader::name_pattern),
    },
    Key {
        path: "agent.image",
        takes: Takes::One("an image"),
        default: "the target's own",
        flag: Some("--agent-image"),
        about: "Image of the agent's container, for targets whose own image has no shell: any small image with one.",
        set: |reader, node, out| out.agent.image = reader.text(node),
    },
    Key {
        path: "agent.linger",
        takes: Takes::One("a duration: `90s`, `10m`, `1h30m`"),
        default: "`2m`",
        flag: None,
        about: "How long the agent stays after its last session, so that the next one starts faster; at most `24h`.",
        set: |reader, node, out| reader.duration(node, &mut out.agent.linger),
    },
    Key {
        path: "agent.log",
        takes: Takes::One("`error`, `warn`, `info`, `debug` or `trace`"),
        default: "`warn`",
        flag: None,
        about: "How much the agent writes to its container's log. It never writes contents, values or addresses of clients.",
        set: |reader, node, out| reader.choice(node, LEVELS, &mut out.agent.log),
    },
    Key {
        path: "skip.build_tools",
        takes: SWITCH,
        default: "`true`",
        flag: None,
        about: "Compilers, linkers, git and package managers (listed below) run untouched; what they start is decided anew.",
        set: |reader, node, out| reader.switch(node, &mut out.plan.skip.build_tools),
    },
    Key {
        path: "skip.programs",
        takes: Takes::List("file names or absolute paths"),
        default: "none",
        flag: None,
        about: "These programs too.",
        set: |reader, node, out| out.plan.skip.programs = reader.list(node, Reader::program),
    },
];
