//! The source of truth: what programs do, who does it, and what must come of it.

mod behaviours;
mod exceptions;

pub use behaviours::{BEHAVIOURS, TRAPPING};
pub use exceptions::EXCEPTIONS;

use crate::language::{Engine, Language, View};

/// One thing that programs do.
#[derive(Debug)]
pub struct Behaviour {
    pub name: &'static str,
    /// For people who read the document.
    pub title: &'static str,
    pub group: Group,
    pub how: How,
    pub place: Place,
    /// Who does it: not every language has every call.
    pub languages: &'static [Language],
    /// The printed lines, the same for all. `{cwd}`, `{scratch}`, `{port}` and `{client}` are filled in.
    pub expect: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Files,
    Names,
    Outgoing,
    Descriptors,
    Children,
    Incoming,
}

pub const GROUPS: &[(Group, &str)] = &[
    (Group::Files, "Files, environment, host name"),
    (Group::Names, "Names and interfaces"),
    (Group::Outgoing, "Outgoing connections and datagrams"),
    (Group::Descriptors, "Descriptors, unix sockets, threads, signals"),
    (Group::Children, "Children"),
    (Group::Incoming, "Incoming connections"),
];

/// How it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// In one process with others: it leaves nothing behind.
    Together,
    Alone,
    /// The same, and the guest is told a directory of this machine.
    TogetherWithScratch,
    /// Stolen: someone in the pod calls the guest at a port.
    Stolen,
    /// The pod's own listener answers, the guest gets a copy.
    Mirrored,
    /// Stolen, with several connections, which any of the workers may take.
    StolenByWorkers,
}

/// Whether it can only hold in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Pod,
    /// This machine's own, which must stay as it is.
    Machine,
}

/// Where something else holds than the table's rule, and why.
#[derive(Debug)]
pub struct Exception {
    pub behaviours: &'static [&'static str],
    /// Empty: all.
    pub languages: &'static [Language],
    /// Empty: all.
    pub engines: &'static [Engine],
    /// Empty: all.
    pub views: &'static [View],
    /// What is printed instead; `None`: something that is not always the same.
    pub expect: Option<&'static [&'static str]>,
    /// What `inpod exec` tells of it; empty where there is nothing to tell.
    pub says: &'static str,
    pub reason: &'static str,
}

/// What depends on how the pod's files come: rows that open, look at or execute them.
#[must_use]
pub fn is_tried_with(behaviour: &Behaviour, language: Language, view: View) -> bool {
    let trapped = matches!(behaviour.group, Group::Files | Group::Children)
        || ["closed-descriptors", "interrupted-restart", "interrupted-eintr"].contains(&behaviour.name);
    behaviour.languages.contains(&language) && (view == View::Namespace || trapped && TRAPPING.contains(&language))
}

/// What a cell must show.
#[derive(Debug, Clone, Copy)]
pub enum Expectation {
    Prints(&'static [&'static str]),
    /// Another outcome than the rule's, for a listed reason.
    Differs(&'static Exception),
    /// `inpod exec` does not run it, and says which program and why.
    Refused,
}

/// One behaviour in one language.
#[must_use]
pub fn expectation(behaviour: &Behaviour, language: Language, engine: Engine, view: View) -> Expectation {
    if engine == Engine::Layer && !language.can_be_preloaded() {
        return Expectation::Refused;
    }
    match exception(behaviour, language, engine, view) {
        Some(exception) => Expectation::Differs(exception),
        None => Expectation::Prints(behaviour.expect),
    }
}

/// The first that speaks of it.
#[must_use]
pub fn exception(behaviour: &Behaviour, language: Language, engine: Engine, view: View) -> Option<&'static Exception> {
    EXCEPTIONS.iter().find(|exception| {
        exception.behaviours.contains(&behaviour.name)
            && (exception.languages.is_empty() || exception.languages.contains(&language))
            && (exception.engines.is_empty() || exception.engines.contains(&engine))
            && (exception.views.is_empty() || exception.views.contains(&view))
    })
}
