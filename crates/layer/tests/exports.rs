//! Every function of this machine's libc that takes a path or an address is hooked, or stands here with the reason why not.
//! What it has is read from its headers and its symbols, so a libc with a new function fails here.
#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeSet;
use std::process::Command;

use regex::Regex;

/// Functions that look as if they belonged here, and why they are not hooked.
const NOT_HOOKED: &[(&str, &[&str])] = &[
    (
        "strings and variables, no file",
        &[
            "basename",
            "getenv",
            "secure_getenv",
            "setenv",
            "unsetenv",
            "glob_pattern_p",
            "dlsym",
            "dlvsym",
            "freeaddrinfo",
            "bindtextdomain",
            "setlogin",
            "strcat",
            "strcpy",
            "strncat",
            "strncpy",
            "stpcpy",
            "stpncpy",
            "__stpcpy",
            "__stpncpy",
            "strxfrm",
            "strxfrm_l",
        ],
    ),
    (
        "a descriptor that is decided already; control data of a message that is",
        &[
            "fgetxattr",
            "fsetxattr",
            "fremovexattr",
            "__cmsg_nxthdr",
            "inet6_option_alloc",
            "inet6_option_append",
            "inet6_option_find",
            "inet6_option_init",
            "inet6_option_next",
            "getsourcefilter",
            "setsourcefilter",
            "process_madvise",
            "vmsplice",
        ],
    ),
    (
        "rights over this machine: it means this machine",
        &[
            "acct",
            "chroot",
            "fanotify_mark",
            "fspick",
            "mount",
            "mount_setattr",
            "open_tree",
            "revoke",
            "setdomainname",
            "sethostname",
            "swapoff",
            "swapon",
            "umount",
            "umount2",
        ],
    ),
    (
        "databases of this machine: users, services, sessions, file systems",
        &[
            "getgrnam",
            "getgrnam_r",
            "getnetbyname",
            "getnetbyname_r",
            "getprotobyname",
            "getprotobyname_r",
            "getpwnam",
            "getpwnam_r",
            "getrpcbyname",
            "getrpcbyname_r",
            "getservbyname",
            "getservbyname_r",
            "getspnam",
            "getspnam_r",
            "gethostent_r",
            "setmntent",
            "utmpname",
            "utmpxname",
        ],
    ),
    (
        "names in this machine's own spaces, not in its file system",
        &[
            "mq_open",
            "mq_unlink",
            "sem_open",
            "sem_unlink",
            "shm_open",
            "shm_unlink",
        ],
    ),
    (
        "a wrapper would change whose RUNPATH is searched; libraries are this machine's",
        &["dlopen", "dlmopen"],
    ),
    (
        "obsolete, or by inner calls only: a path of the pod is not found, an address not looked up (layer alone)",
        &[
            "bindresvport",
            "ftok",
            "futimesat",
            "gethostbyaddr_r",
            "lchmod",
            "mktemp",
            "name_to_handle_at",
            "rcmd",
            "rcmd_af",
            "rexec",
            "rexec_af",
            "scandirat",
            "scandirat64",
            "tempnam",
        ],
    ),
    (
        "watches what lies on this machine: changes in the pod are not seen",
        &["inotify_add_watch"],
    ),
];

const HEADERS: &str = "stdio stdlib unistd fcntl dirent sys/stat sys/statvfs sys/vfs sys/socket sys/xattr sys/time sys/mount \
    sys/inotify sys/fanotify sys/swap sys/utsname sys/un utime ftw fts glob spawn netdb resolv dlfcn mntent utmp utmpx ifaddrs \
    libintl locale sys/ipc sys/mman mqueue semaphore wchar pwd grp shadow sys/acct net/if";

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Declared with a path, an address or a message among its parameters, and exported.
fn candidates() -> BTreeSet<String> {
    let source = tempfile::Builder::new().suffix(".c").tempfile().unwrap();
    let includes = HEADERS
        .split_whitespace()
        .map(|header| format!("#include <{header}.h>\n"));
    std::fs::write(
        source.path(),
        format!("#define _GNU_SOURCE\n{}", includes.collect::<String>()),
    )
    .unwrap();
    let declared = output(Command::new("gcc").args(["-E", "-P"]).arg(source.path())).replace('\n', " ");
    let libc = output(Command::new("gcc").arg("-print-file-name=libc.so.6"));
    let symbols = output(Command::new("nm").args(["-D", "--defined-only", libc.trim()]));
    let exported: BTreeSet<&str> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().last()?.split('@').next())
        .collect();
    let function = Regex::new(r"\b(\w+)\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)").unwrap();
    let parameter = Regex::new(
        r"(?x) sockaddr | msghdr | utsname | iovec | addrinfo | hostent | char\s\*__template
        | const\schar\s\*(__restrict\s)?_*(path|file|filename|pathname|file1|template|from|to|old|new|oldpath|newpath|fname|dir
            |root|special_file|src|name|linkpath|target|fifo|dev|pattern|node|command|cmd|object|dirname)\b",
    )
    .unwrap();
    declared
        .split(';')
        .filter(|declaration| declaration.contains("extern"))
        .filter_map(|declaration| function.captures(declaration))
        .filter(|found| parameter.is_match(&found[2]))
        .map(|found| found[1].to_owned())
        .filter(|name| exported.contains(name.as_str()))
        .collect()
}

#[test]
fn every_function_with_a_path_or_an_address_is_hooked_or_explained() {
    let hooked: BTreeSet<&str> = inpod_layer::hooked().iter().copied().collect();
    let explained: BTreeSet<&str> = NOT_HOOKED.iter().flat_map(|(_, names)| *names).copied().collect();
    let both: Vec<_> = hooked.intersection(&explained).collect();
    assert!(both.is_empty(), "hooked, and explained why not: {both:?}");
    let candidates = candidates();
    assert!(
        candidates.len() > 150,
        "the headers were not understood: {candidates:?}"
    );
    let missing: Vec<_> = candidates
        .iter()
        .filter(|name| !hooked.contains(name.as_str()) && !explained.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "neither hooked nor explained: {missing:?}");
}

/// So that any libc will do, and none: a dynamic program without one (Go, `-buildmode=pie`) would not start for want of a
/// symbol. The compiler may call for more (`memmove`) than the source says.
#[test]
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn the_built_file_needs_no_library_and_no_symbol() {
    let Some(layer) = std::env::var_os("INPOD_LAYER") else {
        return eprintln!("SKIPPED: INPOD_LAYER names no built layer; `cargo xtask test` does");
    };
    let wanted = output(Command::new("nm").args(["-D", "--undefined-only"]).arg(&layer));
    let strong: Vec<&str> = wanted
        .lines()
        .filter(|line| !line.trim_start().starts_with("w "))
        .collect();
    assert!(strong.is_empty(), "to be made weak in exec.rs: {strong:?}");
    let needs = output(
        Command::new("readelf")
            .args(["--dynamic", "--version-info"])
            .arg(&layer),
    );
    for word in ["(NEEDED)", "(VERNEED)"] {
        assert!(!needs.contains(word), "{needs}");
    }
}
