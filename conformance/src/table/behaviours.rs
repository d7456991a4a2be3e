//! The rows.

use super::{Behaviour, Group, How, Place};
use crate::language::Language::{
    self, Bash, Busybox, C, CMusl, CRaw, CStatic, GoCgo, GoPie, GoRace, GoStatic, GoStripped, Java, Node, Python, Rust,
    RustStatic,
};

/// A set of languages, written once.
macro_rules! languages {
    ($($name:ident = [$($language:ident),*];)*) => { $(const $name: &[Language] = &[$($language),*];)* };
}

languages! {
    ALL = [C, CStatic, CRaw, CMusl, GoStatic, GoStripped, GoCgo, GoRace, GoPie, Rust, RustStatic, Python, Node, Java, Bash, Busybox];
    NO_SHELL = [C, CStatic, CRaw, CMusl, GoStatic, GoStripped, GoCgo, GoRace, GoPie, Rust, RustStatic, Python, Node, Java];
    SHELLS = [Bash, Busybox];
    // The raw guest has no resolver of its own, busybox' nslookup does not read the hosts file.
    RESOLVERS = [C, CStatic, CMusl, GoStatic, GoStripped, GoCgo, GoRace, GoPie, Rust, RustStatic, Python, Node, Java, Bash];
    // getent cannot tell an absent name from a failure, and takes an address for a name only where there is a network.
    ASKERS = [C, CStatic, CMusl, GoStatic, GoStripped, GoCgo, GoRace, GoPie, Rust, RustStatic, Python, Node, Java];
    // Java cannot change its directory, and binds to the pod's address as a server only.
    NO_JAVA = [C, CStatic, CRaw, CMusl, GoStatic, GoStripped, GoCgo, GoRace, GoPie, Rust, RustStatic, Python, Node, Bash, Busybox];
    NO_JAVA_OR_SHELL = [C, CStatic, CRaw, CMusl, GoStatic, GoStripped, GoCgo, GoRace, GoPie, Rust, RustStatic, Python, Node];
    // Node never blocks.
    BLOCKING = [C, CStatic, CRaw, CMusl, GoStatic, GoStripped, GoCgo, GoRace, GoPie, Rust, RustStatic, Python, Java];
    BLOCKING_OR_SHELL = [C, CStatic, CRaw, CMusl, GoStatic, GoStripped, GoCgo, GoRace, GoPie, Rust, RustStatic, Python, Java, Bash, Busybox];
    // Rust's standard library has no event loop.
    LOOPS = [C, CStatic, CRaw, CMusl, GoStatic, GoStripped, GoCgo, GoRace, GoPie, Python, Node, Java];
    MAPS = [C, CStatic, CRaw, CMusl, GoStatic, GoStripped, GoCgo, GoRace, GoPie, Python, Java];
    // Where a program can make any system call it likes.
    CALLS = [C, CStatic, CRaw, CMusl, GoStatic, GoStripped, GoCgo, GoRace, GoPie, Python];
    // Go does not fork.
    FORKS = [C, CStatic, CRaw, CMusl, Python];
    // The other builds of Go and Rust make the same path calls in the same way.
    DIFFERENT_PATH_CALLS = [C, CStatic, CRaw, CMusl, GoStatic, GoCgo, Rust, Python, Node, Java, Bash, Busybox];
    ONLY_C = [C, CStatic, CRaw, CMusl];
}

/// Who is tried with the views in which path calls are trapped.
pub const TRAPPING: &[Language] = DIFFERENT_PATH_CALLS;

const CONVERSATION: &[&str] = &["peer 10.77.0.40:7000", "ping", "end"];
const CHILD: &[&str] = &["child: hello from the pod", "child: ping"];
const SERVED: &[&str] = &["listening", "client {client}, twice", "said ping"];

/// Rows in short: name, group, how, place, languages, title, expected lines.
macro_rules! rows {
    ($($name:literal $group:ident $how:ident $place:ident $languages:ident $title:literal => $expect:expr;)*) => {
        /// What programs do.
        pub const BEHAVIOURS: &[Behaviour] = &[$(Behaviour {
            name: $name,
            title: $title,
            group: Group::$group,
            how: How::$how,
            place: Place::$place,
            languages: $languages,
            expect: $expect,
        }),*];
    };
}

rows! {
    "read" Files Together Pod ALL "reads a file of the pod; an absent one is absent" => &["hello from the pod", "absent ENOENT"];
    "list" Files Together Pod ALL "lists a directory" => &["one three two"];
    "cwd" Files Together Machine ALL "its working directory stays this machine's" => &["cwd {cwd}"];
    "chdir" Files Together Pod NO_JAVA "changes into a directory of the pod; relative paths and getcwd from there"
        => &["/data/conformance/directory", "one: first", "text: hello from the pod"];
    "dirfd" Files Together Pod CALLS "openat and fstatat below an open directory" => &["one: first", "size 6"];
    "symlinks" Files Together Pod ALL "readlink and realpath" => &["link -> directory", "/data/conformance/directory/one"];
    "mmap" Files Together Pod MAPS "maps a file, 1 MiB" => &["1048576 bytes, sum 133693440"];
    "stat" Files Together Pod ALL "stat and lstat of a file, a directory, a link and an absent path"
        => &["text file 19", "directory directory", "link link", "absent ENOENT"];
    "access" Files Together Pod ALL "access of a present and an absent file" => &["text yes", "absent ENOENT"];
    "write" Files Together Pod NO_SHELL "opening a file of the pod for writing is refused" => &["open EROFS"];
    "local-file" Files TogetherWithScratch Machine ALL "creates, reads and removes a file of this machine" => &["kept here", "removed"];
    "script" Files Together Pod ALL "executes a script that lies in the pod" => &["script says hello"];
    "environment" Files Together Pod ALL "variables of the pod, without those that would break local programs"
        => &["EUR", "NODE_OPTIONS unset"];
    "host-name" Files Together Pod ALL "the host name" => &["shop-5c9d7"];

    "resolve" Names Together Pod RESOLVERS "a name that only the pod's name server knows" => &["10.77.0.40"];
    "resolve-hosts" Names Together Pod RESOLVERS "a name of the pod's hosts file" => &["10.77.0.20"];
    "resolve-search" Names Together Pod RESOLVERS "a short name, by the pod's search domain" => &["10.77.0.40"];
    "resolve-absent" Names Together Pod ASKERS "a name that nobody knows" => &["not found"];
    "resolve-numeric" Names Together Machine ASKERS "an address as a name" => &["10.1.2.3"];
    "interfaces" Names Together Machine LOOPS "getifaddrs: this machine's interfaces" => &["lo 127.0.0.1"];

    "connect" Outgoing Together Pod BLOCKING "connects, blocking; the peer's name, an echo, both ends' half-close" => CONVERSATION;
    "connect-six" Outgoing Together Pod NO_SHELL "the same over IPv6" => &["peer [fd00:77::40]:7000", "ping", "end"];
    "connect-nonblocking" Outgoing Together Pod LOOPS "connects without blocking: epoll, asyncio, libuv, NIO, Go's poller" => CONVERSATION;
    "connect-name" Outgoing Together Pod NO_SHELL "connects to a name" => CONVERSATION;
    "echo" Outgoing Together Pod SHELLS "connects with what a shell has (/dev/tcp, nc), and gets back what it sent" => &["ping"];
    "echo-name" Outgoing Together Pod SHELLS "the same by name" => &["ping"];
    "happy-eyeballs" Outgoing Together Pod NO_SHELL "connects to a name of which other addresses refuse" => CONVERSATION;
    "refused" Outgoing Together Pod BLOCKING_OR_SHELL "a refused connection is ECONNREFUSED" => &["ECONNREFUSED"];
    "refused-nonblocking" Outgoing Together Pod LOOPS "the same without blocking" => &["ECONNREFUSED"];
    "so-error" Outgoing Together Pod FORKS "SO_ERROR tells it, once" => &["ECONNREFUSED", "0"];
    "many" Outgoing Together Pod LOOPS "50 connections at once, every other refused" => &["25 connected, 25 refused, 0 other"];
    "socket-names" Outgoing Together Pod NO_SHELL "getpeername; getsockname is what the other end sees"
        => &["peer 10.77.0.10:8080", "the server saw this address"];
    "large" Outgoing Alone Pod NO_SHELL "8 MiB both ways at once, in pieces of odd sizes" => &["8388608 bytes came back as they were sent"];
    "udp-connected" Outgoing Together Pod NO_SHELL "a connected UDP socket" => &["10.77.0.40:7000 says ping"];
    "udp-unconnected" Outgoing Together Pod NO_SHELL "sendto and recvfrom" => &["10.77.0.40:7000 says ping"];
    "control" Outgoing Together Pod FORKS "sendmsg and recvmsg with control data, in parts"
        => &["10.77.0.40:7000 says pi ng", "with a time stamp"];

    "dup" Descriptors Together Pod CALLS "duplicates of a connection's descriptor" => &["ping", "peer 10.77.0.40:7000", "ping", "end"];
    "fork" Descriptors Together Pod FORKS "a connection used by parent and child" => &["child: ping", "own: ping", "peer 10.77.0.40:7000", "ping", "end"];
    "scm-rights" Descriptors Together Pod FORKS "a connection passed to another process" => CONVERSATION;
    "closed-descriptors" Descriptors Alone Pod CALLS "with 0, 1 and 2 closed, new descriptors are 0, 1 and 2"
        => &["file 0, socket 1, copy 2", "hello from the pod, ping"];
    "threads" Descriptors Together Pod NO_SHELL "eight threads connect and read at once" => &["8 echoes"];
    "unix" Descriptors TogetherWithScratch Machine FORKS "unix sockets of its own: pair, path, abstract" => &["pair ping", "path ping", "abstract ping"];
    "own-listener" Descriptors Together Machine NO_SHELL "a connection to a listener of its own on 127.0.0.1" => &["own"];
    "bind-pod-address" Descriptors Together Pod NO_JAVA_OR_SHELL "binds to the pod's own address" => &["bound to 10.77.0.10"];
    "interrupted-restart" Descriptors Alone Pod FORKS "connects, refused and not, opens, and 4 MiB both ways under a 1 kHz signal, restarted by the kernel"
        => &["50 connected, 50 refused, 50 opened, 4194304 bytes", "signals came"];
    "interrupted-eintr" Descriptors Alone Pod ONLY_C "the same, restarted by the program" => &["50 connected, 50 refused, 50 opened, 4194304 bytes", "signals came"];

    "spawn-child" Children Together Pod ALL "a child, started in the language's usual way" => CHILD;
    "vfork" Children Together Pod ONLY_C "vfork and execve" => CHILD;
    "posix-spawn" Children Together Pod FORKS "posix_spawn" => CHILD;
    "system" Children Together Pod FORKS "system" => CHILD;
    "popen" Children Together Pod FORKS "popen" => CHILD;
    "bare-environment" Children Together Pod ALL "a child with an empty environment" => CHILD;

    "serve" Incoming Stolen Pod NO_SHELL "a server that accepts, blocking; the caller's address as the pod sees it" => SERVED;
    "serve-mirrored" Incoming Mirrored Pod NO_SHELL "the same for a copy of the traffic" => SERVED;
    "serve-nonblocking" Incoming Stolen Pod LOOPS "a server on an event loop" => SERVED;
    "serve-pod-address" Incoming Stolen Pod NO_SHELL "a server on the pod's own address" => SERVED;
    "prefork" Incoming StolenByWorkers Pod FORKS "three workers accept on one listener"
        => &["listening", "got 0", "got 1", "got 2", "got 3", "got 4", "got 5", "got 6", "got 7", "got 8"];
}
