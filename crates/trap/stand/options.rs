//! What the tests can ask for.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use rules::{AddressRule, Endpoints, FileMode, IncomingMode, NamePattern, PathPattern, Plan};
use trap::PathView;

/// What a dial to an address does instead of being refused.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    To(SocketAddr),
    /// Fails with this errno, after so many milliseconds.
    Fails(i32, u64),
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) fates: Vec<(SocketAddr, Fate)>,
    pub(crate) unix: Vec<(PathBuf, PathBuf)>,
    pub(crate) names: Vec<(IpAddr, String)>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) hostname: String,
    pub(crate) view: PathView,
    pub(crate) copy_from: PathBuf,
    pub(crate) cache: PathBuf,
    pub(crate) remote_paths: Vec<PathBuf>,
    pub(crate) local_paths: Vec<PathBuf>,
    pub(crate) local: Vec<AddressRule>,
    pub(crate) skip: Vec<String>,
    pub(crate) incoming: bool,
    /// How many connections the server makes to each port the app listens on, as if from the pod.
    pub(crate) clients: usize,
    /// Where events and what the server sees are written, a line each.
    pub(crate) events: Option<PathBuf>,
    /// The server ends when the app first dials.
    pub(crate) server_dies: bool,
    pub(crate) delay_ms: u64,
    /// `trap`, `trap+layer` or `layer`; the layer's file is `$INPOD_LAYER`.
    pub(crate) engine: String,
    /// Supervisor threads that answer.
    pub(crate) threads: usize,
    pub(crate) command: Vec<OsString>,
}

impl Options {
    pub(crate) fn parse(arguments: &[OsString]) -> Self {
        let mut options = Self {
            fates: Vec::new(),
            unix: Vec::new(),
            names: Vec::new(),
            addresses: Vec::new(),
            hostname: "stand-in".to_owned(),
            view: PathView::Native,
            copy_from: PathBuf::new(),
            cache: PathBuf::new(),
            remote_paths: Vec::new(),
            local_paths: Vec::new(),
            local: Vec::new(),
            skip: Vec::new(),
            incoming: false,
            clients: 0,
            events: None,
            server_dies: false,
            delay_ms: 0,
            engine: "trap".to_owned(),
            threads: trap::DEFAULT_THREADS,
            command: Vec::new(),
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let name = argument.to_str().unwrap();
            if name == "--" {
                options.command = rest.cloned().collect();
                break;
            }
            if name == "--server-dies" {
                options.server_dies = true;
                continue;
            }
            let value = rest
                .next()
                .unwrap_or_else(|| panic!("{name} needs a value"))
                .to_str()
                .unwrap();
            options.set(name, value);
        }
        options
    }

    fn set(&mut self, name: &str, value: &str) {
        let pair = || value.split_once('=').unwrap_or_else(|| panic!("{name} needs A=B"));
        match name {
            "--map" => self
                .fates
                .push((pair().0.parse().unwrap(), Fate::To(pair().1.parse().unwrap()))),
            "--fail" => {
                let (errno, delay) = pair().1.split_once(',').unwrap_or((pair().1, "0"));
                self.fates.push((
                    pair().0.parse().unwrap(),
                    Fate::Fails(errno.parse().unwrap(), delay.parse().unwrap()),
                ));
            }
            "--engine" => value.clone_into(&mut self.engine),
            "--threads" => self.threads = value.parse().unwrap(),
            "--unix" => self.unix.push((pair().0.into(), pair().1.into())),
            "--name" => self.names.push((pair().0.parse().unwrap(), pair().1.to_owned())),
            "--local-name" => self.local.push(AddressRule {
                endpoints: Endpoints::Name(NamePattern::new(value)),
                port: None,
                source: value.to_owned(),
            }),
            "--local-port" => self.local.push(AddressRule {
                endpoints: Endpoints::Any,
                port: Some(value.parse().unwrap()),
                source: value.to_owned(),
            }),
            "--address" => self.addresses.push(value.parse().unwrap()),
            "--hostname" => self.hostname = value.to_owned(),
            "--translated" => self.view = PathView::Translated { root: value.into() },
            "--copy" => {
                (self.copy_from, self.cache) = (pair().0.into(), pair().1.into());
                self.view = PathView::Copy {
                    root: self.cache.clone(),
                };
            }
            "--local-path" => self.local_paths.push(value.into()),
            "--remote-path" => self.remote_paths.push(value.into()),
            "--skip" => self.skip.push(value.to_owned()),
            "--clients" => {
                self.incoming = true;
                self.clients = value.parse().unwrap();
            }
            "--events" => self.events = Some(value.into()),
            "--delay-ms" => self.delay_ms = value.parse().unwrap(),
            other => panic!("unknown option {other}"),
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        plan.files.mode = FileMode::Local;
        let prefixes = |paths: &[PathBuf]| paths.iter().cloned().map(PathPattern::Prefix).collect();
        plan.files.remote = prefixes(&self.remote_paths);
        plan.files.local = prefixes(&self.local_paths);
        plan.outgoing.unix = self
            .unix
            .iter()
            .map(|(path, _)| PathPattern::Prefix(path.clone()))
            .collect();
        plan.outgoing.local.clone_from(&self.local);
        plan.skip.programs.clone_from(&self.skip);
        plan.incoming.mode = if self.incoming {
            IncomingMode::Steal
        } else {
            IncomingMode::Off
        };
        plan
    }
}
