//! `inpod doctor`: what this machine allows, what that means, and what to do about what is missing.

use std::io::{self, Write};

use serde_json::{Value, json};
use trap::machine::{Capability, Explanation, LOOSEN};
use view::{Allowed, Backend};

use crate::cli::DoctorArgs;
use crate::error::{CliError, Kind};
use crate::machine::{FUSE, FUSERMOUNT, Machine, USER_NAMESPACES, Without};

/// Tells it on stdout.
///
/// # Errors
/// When `INPOD_WITHOUT` is wrong, or there is no process to be had.
pub fn run(arguments: &DoctorArgs) -> Result<(), CliError> {
    let variables: Vec<_> = std::env::vars_os().collect();
    let without = Without::read(&variables)?;
    let machine = Machine::probe(&without)?;
    let findings = Findings {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        user: rustix::process::geteuid().as_raw(),
        allowed: without.allowed(Allowed::probe(machine.trap.is_filtered())),
        machine,
    };
    let text = if arguments.json {
        format!("{:#}\n", findings.json())
    } else {
        findings.table()
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::new(Kind::Machine, &error)),
        _ => Ok(()),
    }
}

/// Everything that is told.
struct Findings {
    kernel: String,
    user: u32,
    machine: Machine,
    allowed: Allowed,
}

/// One thing that is there or not.
struct Row {
    key: &'static str,
    name: &'static str,
    about: &'static str,
    missing: Option<Explanation>,
}

impl Findings {
    fn rows(&self) -> Vec<Row> {
        let capabilities = Capability::ALL.into_iter().map(|capability| Row {
            key: capability.key(),
            name: capability.name(),
            about: capability.about(),
            missing: self.machine.trap.explain(capability),
        });
        capabilities
            .chain([self.fuse(), self.user_namespaces(), self.fusermount()])
            .collect()
    }

    fn fuse(&self) -> Row {
        Row {
            key: FUSE,
            name: "/dev/fuse",
            about: "the pod's files lie at their real places, without it they are copied on first use",
            missing: missing(
                &self.allowed.fuse,
                "load the module (`sudo modprobe fuse`), let the user open it (`sudo chmod 0666 /dev/fuse`), or start \
                 the container with --device /dev/fuse",
            ),
        }
    }

    fn user_namespaces(&self) -> Row {
        let sysctls = "allow them with the sysctl that this system has: user.max_user_namespaces above 0, \
                       kernel.unprivileged_userns_clone=1 (Debian), kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)";
        Row {
            key: USER_NAMESPACES,
            name: "user namespaces",
            about: "the same for a user without rights; root needs none",
            missing: missing(
                &self.allowed.user_namespaces,
                if self.machine.trap.is_filtered() {
                    LOOSEN
                } else {
                    sysctls
                },
            ),
        }
    }

    fn fusermount(&self) -> Row {
        Row {
            key: FUSERMOUNT,
            name: "fusermount3",
            about: "where namespaces are refused the files are still mounted, aside",
            missing: missing(
                &self.allowed.fusermount,
                "install the package fuse3, whose fusermount3 is set-user-ID root, and let the user open /dev/fuse",
            ),
        }
    }

    fn table(&self) -> String {
        let rows = self.rows();
        let width = rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
        let mut text = format!("Linux {}, user {}\n\n", self.kernel, self.user);
        for row in &rows {
            let there = if row.missing.is_none() { "yes" } else { "no " };
            text.push_str(&format!("{:width$}  {there}  {}\n", row.name, row.about));
            let Some(Explanation { why, help }) = &row.missing else {
                continue;
            };
            text.push_str(&format!("{:width$}       why: {why}\n", ""));
            if let Some(help) = help {
                text.push_str(&format!("{:width$}       do:  {help}\n", ""));
            }
        }
        let (engine, better) = self.machine.engine();
        text.push_str(&format!("\nengine: {engine}"));
        if let Some((missing, _)) = better {
            text.push_str(&format!(
                ", because trap needs {}: programs that the layer cannot enter (static ones, Go) are refused",
                missing.name()
            ));
        }
        text.push_str(&format!("\n{}\n", self.machine.backend));
        text
    }

    fn json(&self) -> Value {
        let row = |row: &Row| {
            let missing = row.missing.as_ref();
            json!({
                "name": row.key,
                "there": missing.is_none(),
                "about": row.about,
                "why": missing.map(|missing| &missing.why),
                "help": missing.and_then(|missing| missing.help.as_ref()),
            })
        };
        let (engine, better) = self.machine.engine();
        let (files, why) = match &self.machine.backend {
            Backend::Namespace { user: false } => ("namespace", None),
            Backend::Namespace { user: true } => ("user-namespace", None),
            Backend::Path { why } => ("path", Some(why)),
            Backend::Copy { why } => ("copy", Some(why)),
        };
        json!({
            "kernel": self.kernel,
            "user": self.user,
            "capabilities": self.rows().iter().map(row).collect::<Vec<_>>(),
            "engine": {"name": engine.to_string(), "because": better.map(|(missing, _)| missing.key())},
            "files": {"name": files, "because": why},
        })
    }
}

fn missing(found: &Result<(), String>, help: &str) -> Option<Explanation> {
    let why = found.as_ref().err()?;
    Some(Explanation {
        why: why.clone(),
        help: Some(help.to_owned()),
    })
}

#[cfg(test)]
#[path = "doctor_tests.rs"]
mod tests;
