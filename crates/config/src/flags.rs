//! Flags, as the command line hands them over.

use std::path::PathBuf;

use rules::{IncomingMode, WhenTaken};

use crate::resolve::EngineChoice;
use crate::value::Node;

/// What was said on the command line; the strongest source.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `-f`: the file, instead of the one that would be found.
    pub file: Option<PathBuf>,
    pub target: Option<String>,
    pub namespace: Option<String>,
    pub context: Option<String>,
    pub container: Option<String>,
    /// `--mirror`, `--steal` or `--no-incoming`.
    pub incoming: Option<IncomingMode>,
    /// `--header`, each `Name=value` or `re:PATTERN`.
    pub headers: Vec<String>,
    /// `--filter`, each a condition.
    pub filters: Vec<String>,
    /// `--wait` or `--take-over`.
    pub when_taken: Option<WhenTaken>,
    /// `--reconnect-clients`.
    pub reconnect_clients: bool,
    /// `--tls`, each `PORT=CERTIFICATE,KEY`.
    pub tls: Vec<String>,
    pub agent_image: Option<String>,
    /// `--engine`.
    pub engine: Option<EngineChoice>,
}

impl Flags {
    /// Key, flag and value of each one that was given.
    pub(crate) fn entries(&self) -> Vec<(&'static str, &'static str, Node)> {
        let texts = [
            ("target", "--target", &self.target),
            ("namespace", "--namespace", &self.namespace),
            ("context", "--context", &self.context),
            ("container", "--container", &self.container),
            ("agent.image", "--agent-image", &self.agent_image),
        ];
        let mut entries: Vec<_> = texts
            .into_iter()
            .filter_map(|(key, flag, value)| Some((key, flag, Node::text(value.as_ref()?))))
            .collect();
        if let Some(engine) = self.engine {
            entries.push(("engine", "--engine", Node::text(engine.as_str())));
        }
        if let Some(mode) = self.incoming {
            let (flag, value) = match mode {
                IncomingMode::Mirror => ("--mirror", "mirror"),
                IncomingMode::Steal => ("--steal", "steal"),
                IncomingMode::Off => ("--no-incoming", "off"),
            };
            entries.push(("incoming.mode", flag, Node::text(value)));
        }
        match self.when_taken {
            Some(WhenTaken::Wait) => entries.push(("incoming.when_taken", "--wait", Node::text("wait"))),
            Some(WhenTaken::TakeOver) => entries.push(("incoming.when_taken", "--take-over", Node::text("take-over"))),
            Some(WhenTaken::Refuse) | None => {}
        }
        if self.reconnect_clients {
            entries.push(("incoming.reconnect_clients", "--reconnect-clients", Node::switch(true)));
        }
        if !self.tls.is_empty() {
            let ports = self.tls.iter();
            let ports = ports.map(|text| text.split_once('=').unwrap_or((text, "")));
            entries.push(("incoming.tls", "--tls", Node::table(ports)));
        }
        let flag = match (self.headers.is_empty(), self.filters.is_empty()) {
            (true, true) => return entries,
            (false, true) => "--header",
            (true, false) => "--filter",
            (false, false) => "--header and --filter",
        };
        let conditions = self.headers.iter().chain(&self.filters).cloned();
        entries.push(("incoming.filter", flag, Node::list(conditions)));
        entries
    }
}
