//! What this machine allows, all of it in one value: it decides how a program can be served.

use std::ffi::OsString;

use trap::Engine;
use trap::machine::{Capability, Explanation};
use view::{Allowed, Backend};

use crate::error::{CliError, Kind};
use crate::variables;

/// For tests: a comma-separated list of what is to be taken as absent, by the names that `inpod doctor --json` uses.
pub const WITHOUT: &str = "INPOD_WITHOUT";

const SWITCHED_OFF: &str = "switched off by INPOD_WITHOUT";
/// What the file view depends on, beside the capabilities of the trap.
pub const FUSE: &str = "fuse";
pub const USER_NAMESPACES: &str = "user_namespaces";
pub const FUSERMOUNT: &str = "fusermount";
/// No mount namespace of any kind, so that a machine which allows both takes `fusermount3`.
const MOUNT_NAMESPACES: &str = "mount_namespaces";
/// Their names, for the switch.
const OF_FILES: [&str; 4] = [FUSE, USER_NAMESPACES, MOUNT_NAMESPACES, FUSERMOUNT];

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
            backend: Backend::of(without.namespace(|users| view::try_namespace(filtered, users)), || {
                without.fusermount(|| view::try_fusermount(filtered))
            }),
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
    /// Of what the file view depends on.
    files: Vec<&'static str>,
}

impl Without {
    /// # Errors
    /// An unknown name, with those that there are.
    pub fn read(variables: &[(OsString, OsString)]) -> Result<Self, CliError> {
        let value = variables::value(variables, WITHOUT);
        let value = value.map(std::ffi::OsStr::to_string_lossy).unwrap_or_default();
        let mut without = Self::default();
        for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let capability = Capability::ALL.into_iter().find(|capability| capability.key() == name);
            let files = OF_FILES.into_iter().find(|known| *known == name);
            match (capability, files) {
                (Some(capability), _) => without.capabilities.push(capability),
                (None, Some(known)) => without.files.push(known),
                (None, None) => return Err(unknown(name)),
            }
        }
        Ok(without)
    }

    fn has(&self, what: &str) -> bool {
        self.files.contains(&what)
    }

    /// Of these the first that is switched off, with what it is called.
    fn off(&self, parts: &[(&str, &str)]) -> Result<(), String> {
        match parts.iter().find(|(part, _)| self.has(part)) {
            Some((_, name)) => Err(format!("{name} {SWITCHED_OFF}")),
            None => Ok(()),
        }
    }

    /// `tried` is given whether a user namespace is to be had.
    fn namespace(&self, tried: impl FnOnce(Result<(), String>) -> Result<bool, String>) -> Result<bool, String> {
        self.off(&[(FUSE, "/dev/fuse is"), (MOUNT_NAMESPACES, "mount namespaces are")])?;
        tried(self.off(&[(USER_NAMESPACES, "user namespaces are")]))
    }

    fn fusermount(&self, tried: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        self.off(&[(FUSE, "/dev/fuse is"), (FUSERMOUNT, "fusermount3 is")])?;
        tried()
    }

    /// The same for what the choice depends on.
    #[must_use]
    pub fn allowed(&self, mut found: Allowed) -> Allowed {
        for (name, part) in [
            (FUSE, &mut found.fuse),
            (USER_NAMESPACES, &mut found.user_namespaces),
            (FUSERMOUNT, &mut found.fusermount),
        ] {
            if self.has(name) {
                *part = Err(SWITCHED_OFF.to_owned());
            }
        }
        found
    }
}

fn unknown(name: &str) -> CliError {
    let known: Vec<&str> = Capability::ALL
        .into_iter()
        .map(Capability::key)
        .chain(OF_FILES)
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
                files: vec![FUSE],
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
        let path = |why: &str| Backend::Path { why: why.to_owned() };
        let copy = |why: &str| Backend::Copy { why: why.to_owned() };
        // Whether the user is root, whether fusermount3 works.
        for (value, root, fusermount, expected) in [
            ("", false, true, namespace(true)),
            ("notification,fusermount", false, true, namespace(true)),
            ("user_namespaces", true, true, namespace(false)),
            (
                "user_namespaces",
                false,
                true,
                path("user namespaces are switched off by INPOD_WITHOUT"),
            ),
            (
                "mount_namespaces",
                true,
                true,
                path("mount namespaces are switched off by INPOD_WITHOUT"),
            ),
            (
                "mount_namespaces,fusermount",
                true,
                true,
                copy(
                    "mount namespaces are switched off by INPOD_WITHOUT, and fusermount3 is switched off by INPOD_WITHOUT",
                ),
            ),
            (
                "user_namespaces",
                false,
                false,
                copy("user namespaces are switched off by INPOD_WITHOUT, and there is none"),
            ),
            ("fuse", true, true, copy("/dev/fuse is switched off by INPOD_WITHOUT")),
        ] {
            let without = read(value).unwrap();
            let tried = |users: Result<(), String>| if root { Ok(false) } else { users.map(|()| true) };
            let mounts = || {
                if fusermount {
                    Ok(())
                } else {
                    Err("there is none".to_owned())
                }
            };
            let backend = Backend::of(without.namespace(tried), || without.fusermount(mounts));
            assert_eq!(backend, expected, "{value}");
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
