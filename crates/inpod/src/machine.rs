//! What this machine allows, all of it in one value: it decides how a program can be served.

use std::ffi::OsString;

use trap::Engine;
use trap::machine::{Capability, Explanation};
use view::{Allowed, Backend};

use crate::error::{CliError, Kind};

/// For tests: a comma-separated list of what is to be taken as absent, by the names that `inpod doctor --json` uses.
pub const WITHOUT: &str = "INPOD_WITHOUT";

const SWITCHED_OFF: &str = "switched off by INPOD_WITHOUT";
/// What the file view depends on, beside the capabilities of the trap.
pub const FUSE: &str = "fuse";
pub const USER_NAMESPACES: &str = "user_namespaces";

/// What a session finds.
#[derive(Debug, Clone)]
pub struct Machine {
    pub trap: trap::machine::Machine,
    pub backend: Backend,
}

impl Machine {
    /// Tries it, in child processes: about two milliseconds. What `without` names counts as absent.
    ///
    /// # Errors
    /// When there is no process to be had.
    pub fn probe(without: &Without) -> Result<Self, CliError> {
        let trap = trap::machine::Machine::probe().map_err(|error| CliError::new(Kind::Machine, &error))?;
        let filtered = trap.is_filtered();
        Ok(Self {
            trap: without
                .capabilities
                .iter()
                .fold(trap, |machine, capability| machine.without(*capability)),
            backend: without.backend(view::choose(filtered)),
        })
    }

    /// Which engine `--engine auto` stands for, and why not the better one.
    #[must_use]
    pub fn engine(&self) -> (Engine, Option<(Capability, Explanation)>) {
        match self.trap.can_trap() {
            Ok(()) => (Engine::TrapAndLayer, None),
            Err(missing) => (Engine::Layer, Some(missing)),
        }
    }
}

/// What is to be taken as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Without {
    capabilities: Vec<Capability>,
    fuse: bool,
    user_namespaces: bool,
}

impl Without {
    /// # Errors
    /// An unknown name, with those that there are.
    pub fn read(variables: &[(OsString, OsString)]) -> Result<Self, CliError> {
        let value = variables.iter().find(|(name, _)| name == WITHOUT);
        let value = value.map(|(_, value)| value.to_string_lossy()).unwrap_or_default();
        let mut without = Self::default();
        for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let capability = Capability::ALL.into_iter().find(|capability| capability.key() == name);
            match (capability, name) {
                (Some(capability), _) => without.capabilities.push(capability),
                (None, FUSE) => without.fuse = true,
                (None, USER_NAMESPACES) => without.user_namespaces = true,
                (None, _) => return Err(unknown(name)),
            }
        }
        Ok(without)
    }

    /// The choice as it would be without them.
    fn backend(&self, found: Backend) -> Backend {
        let missing = match found {
            Backend::Namespace { .. } if self.fuse => "/dev/fuse is",
            Backend::Namespace { user: true } if self.user_namespaces => "user namespaces are",
            other => return other,
        };
        Backend::Copy {
            why: format!("{missing} {SWITCHED_OFF}"),
        }
    }

    /// The same for what the choice depends on.
    #[must_use]
    pub fn allowed(&self, mut found: Allowed) -> Allowed {
        if self.fuse {
            found.fuse = Err(SWITCHED_OFF.to_owned());
        }
        if self.user_namespaces {
            found.user_namespaces = Err(SWITCHED_OFF.to_owned());
        }
        found
    }
}

fn unknown(name: &str) -> CliError {
    let known: Vec<&str> = Capability::ALL
        .into_iter()
        .map(Capability::key)
        .chain([FUSE, USER_NAMESPACES])
        .collect();
    CliError {
        kind: Kind::Usage,
        message: format!("{WITHOUT} names {name:?}, which nothing is called"),
        causes: Vec::new(),
        hints: vec![format!("it takes {}", known.join(", "))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Without, CliError> {
        Without::read(&[(WITHOUT.into(), value.into())])
    }

    #[test]
    fn names_are_read_and_unknown_ones_refused() {
        let without = read("notification, pidfd_getfd,fuse,").unwrap();
        assert_eq!(
            without,
            Without {
                capabilities: vec![Capability::Notification, Capability::PidfdGetfd],
                fuse: true,
                user_namespaces: false,
            }
        );
        assert_eq!(Without::read(&[]).unwrap(), Without::default());
        let error = read("fuze").unwrap_err();
        assert_eq!(error.message, "INPOD_WITHOUT names \"fuze\", which nothing is called");
        assert!(error.hints[0].contains("process_vm, pidfd_getfd"), "{:?}", error.hints);
    }

    #[test]
    fn the_file_view_is_chosen_without_them() {
        let namespace = |user| Backend::Namespace { user };
        let copy = |why: &str| Backend::Copy { why: why.to_owned() };
        for (value, found, expected) in [
            ("", namespace(true), namespace(true)),
            ("notification", namespace(true), namespace(true)),
            ("user_namespaces", namespace(false), namespace(false)),
            (
                "user_namespaces",
                namespace(true),
                copy("user namespaces are switched off by INPOD_WITHOUT"),
            ),
            (
                "fuse",
                namespace(false),
                copy("/dev/fuse is switched off by INPOD_WITHOUT"),
            ),
            ("fuse", copy("there is none"), copy("there is none")),
        ] {
            assert_eq!(read(value).unwrap().backend(found), expected, "{value}");
        }
    }

    #[test]
    fn the_engine_follows() {
        let machine = |value: &str| Machine::probe(&read(value).unwrap()).unwrap();
        assert_eq!(
            machine("sync_wake_up,pidfd_thread,fuse").engine(),
            (Engine::TrapAndLayer, None)
        );
        let (engine, why) = machine("pidfd_getfd").engine();
        assert_eq!(
            (engine, why.map(|(what, _)| what)),
            (Engine::Layer, Some(Capability::PidfdGetfd))
        );
    }
}
