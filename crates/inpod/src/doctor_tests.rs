//! What is told of made-up machines.

use rustix::io::Errno;
use trap::machine::{Absent, Surroundings};

use super::*;

fn good() -> Findings {
    Findings {
        kernel: "6.18.1".to_owned(),
        user: 0,
        machine: Machine {
            trap: trap::machine::Machine::made_up(Surroundings::default(), |_| Ok(())),
            backend: Backend::Namespace { user: false },
        },
        allowed: Allowed {
            fuse: Ok(()),
            user_namespaces: Ok(()),
            fusermount: Ok(()),
        },
    }
}

/// Docker's default profile with an old kernel, as a plain user.
fn bad() -> Findings {
    let around = Surroundings {
        ptrace_scope: Some(1),
        filtered: true,
    };
    let fuse = "/dev/fuse is not usable by this user (mode 0600)";
    Findings {
        kernel: "5.15.0".to_owned(),
        user: 1000,
        machine: Machine {
            trap: trap::machine::Machine::made_up(around, |capability| match capability {
                Capability::PidfdGetfd => Err(Absent::Refused(Errno::PERM)),
                Capability::SynchronousWakeUp | Capability::PidfdThread => Err(Absent::Refused(Errno::INVAL)),
                _ => Ok(()),
            }),
            backend: Backend::Copy { why: fuse.to_owned() },
        },
        allowed: Allowed {
            fuse: Err(fuse.to_owned()),
            user_namespaces: Err("refused".to_owned()),
            fusermount: Err("there is no fusermount3 on this machine".to_owned()),
        },
    }
}

#[test]
fn a_machine_that_allows_everything() {
    let expected = "\
Linux 6.18.1, user 0

seccomp notification   yes  calls of any program can be answered, static ones and children with a changed environment too
answers by descriptor  yes  a trapped open or accept can return a descriptor
process_vm_readv       yes  the paths and addresses of trapped calls can be read
pidfd_getfd            yes  the sockets of the program can be connected and looked at
synchronous wake-up    yes  a trapped call costs about 4 us, without it about 45
thread pidfds          yes  a thread is still served when the first thread of its process has ended
/dev/fuse              yes  the pod's files lie at their real places, without it they are copied on first use
user namespaces        yes  the same for a user without rights; root needs none
fusermount3            yes  where namespaces are refused the files are still mounted, aside

engine: trap+layer
files: mount namespace
";
    assert_eq!(good().table(), expected);
}

#[test]
fn what_is_missing_is_told_with_its_reason_and_its_remedy() {
    let text = bad().table();
    for expected in [
        "\
pidfd_getfd            no   the sockets of the program can be connected and looked at
                            why: the container's seccomp profile, or a policy, refuses pidfd_getfd
                            do:  give the container the capability SYS_PTRACE (docker run --cap-add SYS_PTRACE; in Kubernetes \
         securityContext.capabilities.add), or start the container without a seccomp profile",
        "\
                            why: this kernel has no synchronous wake-up (it came with Linux 6.6), or the container's seccomp \
         profile hides it
",
        "\
/dev/fuse              no   the pod's files lie at their real places, without it they are copied on first use
                            why: /dev/fuse is not usable by this user (mode 0600)
                            do:  load the module",
        "\
                            why: refused
                            do:  start the container without a seccomp profile (docker run --security-opt seccomp=unconfined",
        "\
fusermount3            no   where namespaces are refused the files are still mounted, aside
                            why: there is no fusermount3 on this machine
                            do:  install the package fuse3",
        "
engine: layer, because trap needs pidfd_getfd: programs that the layer cannot enter (static ones, Go) are refused
files: copied on first use, because /dev/fuse is not usable by this user (mode 0600)
",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
}

#[test]
fn json_has_the_same() {
    let value = bad().json();
    assert_eq!(value["kernel"], "5.15.0");
    assert_eq!(value["engine"], json!({"name": "layer", "because": "pidfd_getfd"}));
    assert_eq!(value["files"]["name"], "copy");
    let rows = value["capabilities"].as_array().unwrap();
    let names: Vec<_> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(
        names,
        [
            "notification",
            "addfd",
            "process_vm",
            "pidfd_getfd",
            "sync_wake_up",
            "pidfd_thread",
            "fuse",
            "user_namespaces",
            "fusermount"
        ]
    );
    assert_eq!(rows[0]["there"], true);
    assert_eq!(rows[0]["why"], Value::Null);
    assert_eq!(rows[3]["there"], false);
    assert_eq!(
        rows[3]["why"],
        "the container's seccomp profile, or a policy, refuses pidfd_getfd"
    );
    let why = "user namespaces are not allowed for this user";
    let mut aside = good();
    aside.machine.backend = Backend::Path { why: why.to_owned() };
    assert_eq!(aside.json()["files"], json!({"name": "path", "because": why}));
    assert!(
        aside
            .table()
            .ends_with(&format!("\nfiles: mounted aside by fusermount3, because {why}\n"))
    );
    assert_eq!(good().json()["engine"], json!({"name": "trap+layer", "because": null}));
}
