//! From sources to the one result.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Problem, Problems};
use crate::key::{KEYS, Key};
use crate::parse::{self, Format};
use crate::reader::Reader;
use crate::source::{Origin, Source};
use crate::suggest::nearest;
use crate::value::{Entry, Node, Value, quoted};
use crate::{Error, FILE_VARIABLE, Input, file, variable};

/// The whole configuration of a session; immutable from here on.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    pub target: Option<String>,
    pub namespace: Option<String>,
    pub context: Option<String>,
    pub container: Option<String>,
    pub agent: AgentSettings,
    pub engine: EngineChoice,
    pub plan: rules::Plan,
    /// In file mode `write-local`, where changes are kept.
    pub changes: Option<PathBuf>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Where each key was written that does not have its default.
    pub sources: BTreeMap<&'static str, Origin>,
    /// What is not wrong, but probably not meant.
    pub warnings: Vec<String>,
}

/// What the session asks of the agent itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSettings {
    pub image: Option<String>,
    /// How long it stays after its last session.
    pub linger: Duration,
    pub log: LogLevel,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            image: None,
            linger: Duration::from_secs(120),
            log: LogLevel::Warn,
        }
    }
}

/// How the program's calls are to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// The best that this machine allows.
    #[default]
    Auto,
    /// The filter alone.
    Trap,
    /// The preloaded layer alone.
    Layer,
}

impl EngineChoice {
    /// As in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Trap => "trap",
            Self::Layer => "layer",
        }
    }
}

/// How much the agent writes to its container's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Finds and reads the file, then lays variables and flags over it.
///
/// # Errors
/// When the file cannot be read or is ambiguous, and for every problem in any source, all of them at once.
pub fn load(input: &Input) -> Result<Resolved, Error> {
    let variable = input
        .variables
        .iter()
        .find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
    let named = input
        .flags
        .file
        .as_deref()
        .or(variable.map(|(_, path)| Path::new(path)));
    match file::find(input, named)? {
        Some(path) => from_bytes(input, &path, &file::read(&path)?),
        None => layered(input, None),
    }
}

/// [`load`] with the file's bytes at hand.
pub(crate) fn from_bytes(input: &Input, path: &Path, bytes: &[u8]) -> Result<Resolved, Error> {
    let format = Format::of(path).ok_or_else(|| Error::Format { path: path.to_owned() })?;
    if bytes.len() as u64 > file::MAX_FILE_BYTES {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let shown = path.strip_prefix(&input.working_directory).unwrap_or(path);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (valid, _) = bytes.split_at(error.valid_up_to());
        let source = Source::File {
            path: shown,
            text: std::str::from_utf8(valid).unwrap_or_default(),
        };
        Problem::new(source, valid.len(), "the file is not UTF-8 from here on")
    })?;
    let tree = parse::parse(format, shown, text)?;
    let source = Source::File { path: shown, text };
    let base = path.parent().unwrap_or(Path::new("/"));
    let mut resolved = layered(
        input,
        Some(&FileLayer {
            source,
            base,
            tree: &tree,
        }),
    )?;
    resolved.file = Some(path.to_owned());
    Ok(resolved)
}

struct FileLayer<'a> {
    source: Source<'a>,
    base: &'a Path,
    tree: &'a Node,
}

fn layered(input: &Input, file: Option<&FileLayer<'_>>) -> Result<Resolved, Error> {
    let mut layers = Layers {
        input,
        resolved: Resolved::default(),
        problems: Problems::default(),
    };
    if let Some(&FileLayer { source, base, tree }) = file
        && let Value::Table(entries) = &tree.value
    {
        layers.section("", entries, source, base);
        layers.problems.sort();
    }
    let (entries, problems) = variable::entries(&input.variables);
    problems
        .into_iter()
        .for_each(|problem| layers.problems.push(|| problem));
    for (key, name, node) in &entries {
        layers.set(key, node, Source::Variable(name), &input.working_directory);
    }
    for (path, flag, node) in input.flags.entries() {
        if let Some(key) = KEYS.iter().find(|key| key.path == path) {
            layers.set(key, &node, Source::Flag(flag), &input.working_directory);
        }
    }
    let Layers {
        mut resolved, problems, ..
    } = layers;
    problems.into_result()?;
    resolved.plan.files.local_names = !resolved.plan.dns.on;
    resolved.warnings = variable::warnings(&input.variables);
    Ok(resolved)
}

struct Layers<'a> {
    input: &'a Input,
    resolved: Resolved,
    problems: Problems,
}

impl Layers<'_> {
    fn set(&mut self, key: &Key, node: &Node, source: Source<'_>, base: &Path) {
        let home = self.input.home.as_deref();
        let mut reader = Reader {
            key: key.path,
            source,
            base,
            home,
            problems: &mut self.problems,
        };
        (key.set)(&mut reader, node, &mut self.resolved);
        self.resolved.sources.insert(key.path, source.origin(node.at));
    }

    /// `section` is empty, or a name with its dot.
    fn section(&mut self, section: &str, entries: &[Entry], source: Source<'_>, base: &Path) {
        for Entry { key: name, at, node } in entries {
            let path = format!("{section}{name}");
            // A dot inside a quoted name leads into no section.
            let key = KEYS.iter().find(|key| key.path == path && !name.contains('.'));
            if let Some(key) = key {
                self.set(key, node, source, base);
                continue;
            }
            let path = format!("{path}.");
            let is_section = !name.contains('.') && KEYS.iter().any(|key| key.path.starts_with(&path));
            match &node.value {
                Value::Table(entries) if is_section => self.section(&path, entries, source, base),
                Value::Null if is_section => {}
                _ if is_section => {
                    let keys = KEYS.iter().filter_map(|key| key.path.strip_prefix(&path));
                    let hint = format!("its keys are {}", keys.collect::<Vec<_>>().join(", "));
                    let message = format!("`{name}` is a section, found {}", node.describe());
                    self.problems
                        .push(|| Problem::new(source, node.at, message).with_hint(Some(hint)));
                }
                _ => {
                    let message = format!("unknown key {}", quoted(&format!("{section}{name}")).replace('"', "`"));
                    self.problems
                        .push(|| Problem::new(source, *at, message).with_hint(suggestion(section, name)));
                }
            }
        }
    }
}

/// The key or section that was meant: here, or one of that name elsewhere.
fn suggestion(section: &str, name: &str) -> Option<String> {
    let here = KEYS.iter().filter_map(|key| key.path.strip_prefix(section));
    let here: Vec<&str> = here
        .map(|rest| rest.split_once('.').map_or(rest, |(first, _)| first))
        .collect();
    if let Some(near) = nearest(name, here.iter().copied()) {
        return Some(format!("did you mean `{section}{near}`?"));
    }
    if let Some((inside, last)) = KEYS
        .iter()
        .find_map(|key| key.path.split_once('.').filter(|_| key.path == name))
    {
        return Some(format!("write it as `{last}` inside of `{inside}`"));
    }
    let last = |key: &'static Key| key.path.rsplit('.').next().unwrap_or(key.path);
    let exact: Vec<_> = KEYS
        .iter()
        .filter(|key| last(key) == name)
        .map(|key| format!("`{}`", key.path))
        .collect();
    if !exact.is_empty() {
        return Some(format!("did you mean {}?", exact.join(" or ")));
    }
    let known = if section.is_empty() {
        "keys and sections are"
    } else {
        "its keys are"
    };
    let mut names = here;
    names.dedup();
    Some(format!("{known} {}", names.join(", ")))
}
