//! The table of hooks: libc's name, its C type, and what it means as a kernel call.
//!
//! Names that differ only by `64` are the same on x86-64, where offsets have 64 bits anyway. Variadic functions are declared
//! with fixed arguments: they are in the same registers.

use core::ffi::{c_char, c_int, c_long, c_void};

use libc::{addrinfo, gid_t, mmsghdr, mode_t, msghdr, sockaddr, socklen_t, timespec, uid_t};

use crate::next::next;
use crate::sys::{self, Arguments};
use crate::{actions, directory, exec, host, names, paths, sockets, whole};

type Path = *const c_char;
type Buffer = *mut c_void;
type Strings = *const *const c_char;

macro_rules! hooks {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) -> $result:ty { $body:expr })*) => {
        $(
            #[cfg_attr(feature = "standalone", unsafe(no_mangle))]
            unsafe extern "C" fn $name($($argument: $type),*) -> $result {
                // SAFETY: the caller keeps the contract of libc's function of that name.
                #[allow(clippy::cast_lossless, reason = "as C would")]
                unsafe { $body }
            }
        )*

        /// What is hooked, the stubs below included.
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name),)* "syscall", "execl", "execlp", "execle"];
    };
}

const NOFOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;
const CREATE: u64 = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64;

hooks! {
    // Opening.
    fn open(path: Path, flags: c_int, mode: mode_t) -> c_int { paths::here(libc::SYS_openat, path, [flags as u64, mode as u64, 0, 0]) as c_int }
    fn open64(path: Path, flags: c_int, mode: mode_t) -> c_int { paths::here(libc::SYS_openat, path, [flags as u64, mode as u64, 0, 0]) as c_int }
    fn openat(at: c_int, path: Path, flags: c_int, mode: mode_t) -> c_int { paths::at(libc::SYS_openat, at, path, [flags as u64, mode as u64, 0, 0]) as c_int }
    fn openat64(at: c_int, path: Path, flags: c_int, mode: mode_t) -> c_int { paths::at(libc::SYS_openat, at, path, [flags as u64, mode as u64, 0, 0]) as c_int }
    fn __open_2(path: Path, flags: c_int) -> c_int { paths::here(libc::SYS_openat, path, [flags as u64, 0, 0, 0]) as c_int }
    fn __open64_2(path: Path, flags: c_int) -> c_int { paths::here(libc::SYS_openat, path, [flags as u64, 0, 0, 0]) as c_int }
    fn __openat_2(at: c_int, path: Path, flags: c_int) -> c_int { paths::at(libc::SYS_openat, at, path, [flags as u64, 0, 0, 0]) as c_int }
    fn __openat64_2(at: c_int, path: Path, flags: c_int) -> c_int { paths::at(libc::SYS_openat, at, path, [flags as u64, 0, 0, 0]) as c_int }
    fn creat(path: Path, mode: mode_t) -> c_int { paths::here(libc::SYS_openat, path, [CREATE, mode as u64, 0, 0]) as c_int }
    fn creat64(path: Path, mode: mode_t) -> c_int { paths::here(libc::SYS_openat, path, [CREATE, mode as u64, 0, 0]) as c_int }

    // Looking.
    fn stat(path: Path, to: Buffer) -> c_int { paths::here(libc::SYS_newfstatat, path, [to as u64, 0, 0, 0]) as c_int }
    fn stat64(path: Path, to: Buffer) -> c_int { paths::here(libc::SYS_newfstatat, path, [to as u64, 0, 0, 0]) as c_int }
    fn lstat(path: Path, to: Buffer) -> c_int { paths::here(libc::SYS_newfstatat, path, [to as u64, NOFOLLOW, 0, 0]) as c_int }
    fn lstat64(path: Path, to: Buffer) -> c_int { paths::here(libc::SYS_newfstatat, path, [to as u64, NOFOLLOW, 0, 0]) as c_int }
    fn fstat(descriptor: c_int, to: Buffer) -> c_int { sys::returned(sys::raw(libc::SYS_fstat, [descriptor as u64, to as u64, 0, 0, 0, 0])) as c_int }
    fn fstat64(descriptor: c_int, to: Buffer) -> c_int { sys::returned(sys::raw(libc::SYS_fstat, [descriptor as u64, to as u64, 0, 0, 0, 0])) as c_int }
    fn fstatat(at: c_int, path: Path, to: Buffer, flags: c_int) -> c_int { paths::at(libc::SYS_newfstatat, at, path, [to as u64, flags as u64, 0, 0]) as c_int }
    fn fstatat64(at: c_int, path: Path, to: Buffer, flags: c_int) -> c_int { paths::at(libc::SYS_newfstatat, at, path, [to as u64, flags as u64, 0, 0]) as c_int }
    fn __xstat(_version: c_int, path: Path, to: Buffer) -> c_int { paths::here(libc::SYS_newfstatat, path, [to as u64, 0, 0, 0]) as c_int }
    fn __xstat64(_version: c_int, path: Path, to: Buffer) -> c_int { paths::here(libc::SYS_newfstatat, path, [to as u64, 0, 0, 0]) as c_int }
    fn __lxstat(_version: c_int, path: Path, to: Buffer) -> c_int { paths::here(libc::SYS_newfstatat, path, [to as u64, NOFOLLOW, 0, 0]) as c_int }
    fn __lxstat64(_version: c_int, path: Path, to: Buffer) -> c_int { paths::here(libc::SYS_newfstatat, path, [to as u64, NOFOLLOW, 0, 0]) as c_int }
    fn __fxstat(_version: c_int, descriptor: c_int, to: Buffer) -> c_int { sys::returned(sys::raw(libc::SYS_fstat, [descriptor as u64, to as u64, 0, 0, 0, 0])) as c_int }
    fn __fxstat64(_version: c_int, descriptor: c_int, to: Buffer) -> c_int { sys::returned(sys::raw(libc::SYS_fstat, [descriptor as u64, to as u64, 0, 0, 0, 0])) as c_int }
    fn __fxstatat(_version: c_int, at: c_int, path: Path, to: Buffer, flags: c_int) -> c_int { paths::at(libc::SYS_newfstatat, at, path, [to as u64, flags as u64, 0, 0]) as c_int }
    fn __fxstatat64(_version: c_int, at: c_int, path: Path, to: Buffer, flags: c_int) -> c_int { paths::at(libc::SYS_newfstatat, at, path, [to as u64, flags as u64, 0, 0]) as c_int }
    fn statx(at: c_int, path: Path, flags: c_int, mask: u32, to: Buffer) -> c_int { paths::at(libc::SYS_statx, at, path, [flags as u64, mask as u64, to as u64, 0]) as c_int }
    fn access(path: Path, mode: c_int) -> c_int { paths::here(libc::SYS_faccessat, path, [mode as u64, 0, 0, 0]) as c_int }
    fn faccessat(at: c_int, path: Path, mode: c_int, flags: c_int) -> c_int { paths::at(access_call(flags), at, path, [mode as u64, flags as u64, 0, 0]) as c_int }
    fn euidaccess(path: Path, mode: c_int) -> c_int { paths::here(libc::SYS_faccessat2, path, [mode as u64, libc::AT_EACCESS as u64, 0, 0]) as c_int }
    fn eaccess(path: Path, mode: c_int) -> c_int { paths::here(libc::SYS_faccessat2, path, [mode as u64, libc::AT_EACCESS as u64, 0, 0]) as c_int }
    fn readlink(path: Path, to: Buffer, room: usize) -> isize { paths::here(libc::SYS_readlinkat, path, [to as u64, room as u64, 0, 0]) }
    fn __readlink_chk(path: Path, to: Buffer, size: usize, room: usize) -> isize {{ sockets::checked(size, room); paths::here(libc::SYS_readlinkat, path, [to as u64, size as u64, 0, 0]) }}
    fn __readlinkat_chk(at: c_int, path: Path, to: Buffer, size: usize, room: usize) -> isize {{ sockets::checked(size, room); paths::at(libc::SYS_readlinkat, at, path, [to as u64, size as u64, 0, 0]) }}
    fn readlinkat(at: c_int, path: Path, to: Buffer, room: usize) -> isize { paths::at(libc::SYS_readlinkat, at, path, [to as u64, room as u64, 0, 0]) }
    fn statfs(path: Path, to: Buffer) -> c_int { paths::first(libc::SYS_statfs, path, [to as u64, 0, 0, 0, 0]) as c_int }
    fn statfs64(path: Path, to: Buffer) -> c_int { paths::first(libc::SYS_statfs, path, [to as u64, 0, 0, 0, 0]) as c_int }
    fn getxattr(path: Path, name: Path, to: Buffer, size: usize) -> isize { paths::first(libc::SYS_getxattr, path, [name as u64, to as u64, size as u64, 0, 0]) }
    fn lgetxattr(path: Path, name: Path, to: Buffer, size: usize) -> isize { paths::first(libc::SYS_lgetxattr, path, [name as u64, to as u64, size as u64, 0, 0]) }
    fn listxattr(path: Path, to: Buffer, size: usize) -> isize { paths::first(libc::SYS_listxattr, path, [to as u64, size as u64, 0, 0, 0]) }
    fn llistxattr(path: Path, to: Buffer, size: usize) -> isize { paths::first(libc::SYS_llistxattr, path, [to as u64, size as u64, 0, 0, 0]) }

    // The working directory.
    fn chdir(path: Path) -> c_int { paths::first(libc::SYS_chdir, path, [0; 5]) as c_int }
    fn fchdir(descriptor: c_int) -> c_int { sys::returned(directory::enter(descriptor)) as c_int }
    fn getcwd(to: *mut c_char, size: usize) -> *mut c_char { directory::getcwd(to, size) }
    fn __getcwd_chk(to: *mut c_char, size: usize, room: usize) -> *mut c_char { directory::getcwd_checked(to, size, room) }
    fn get_current_dir_name() -> *mut c_char { directory::get_current_dir_name() }
    fn getwd(to: *mut c_char) -> *mut c_char { directory::getwd(to) }
    fn __getwd_chk(to: *mut c_char, _room: usize) -> *mut c_char { directory::getwd(to) }

    // Changing.
    fn truncate(path: Path, length: i64) -> c_int { paths::first(libc::SYS_truncate, path, [length as u64, 0, 0, 0, 0]) as c_int }
    fn truncate64(path: Path, length: i64) -> c_int { paths::first(libc::SYS_truncate, path, [length as u64, 0, 0, 0, 0]) as c_int }
    fn mkdir(path: Path, mode: mode_t) -> c_int { paths::here(libc::SYS_mkdirat, path, [mode as u64, 0, 0, 0]) as c_int }
    fn mkdirat(at: c_int, path: Path, mode: mode_t) -> c_int { paths::at(libc::SYS_mkdirat, at, path, [mode as u64, 0, 0, 0]) as c_int }
    fn rmdir(path: Path) -> c_int { paths::here(libc::SYS_unlinkat, path, [libc::AT_REMOVEDIR as u64, 0, 0, 0]) as c_int }
    fn unlink(path: Path) -> c_int { paths::here(libc::SYS_unlinkat, path, [0; 4]) as c_int }
    fn unlinkat(at: c_int, path: Path, flags: c_int) -> c_int { paths::at(libc::SYS_unlinkat, at, path, [flags as u64, 0, 0, 0]) as c_int }
    fn symlink(target: Path, path: Path) -> c_int { symlink_at(target, libc::AT_FDCWD, path) }
    fn symlinkat(target: Path, at: c_int, path: Path) -> c_int { symlink_at(target, at, path) }
    fn link(from: Path, to: Path) -> c_int { two(libc::SYS_linkat, libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) }
    fn linkat(from_at: c_int, from: Path, to_at: c_int, to: Path, flags: c_int) -> c_int { two(libc::SYS_linkat, from_at, from, to_at, to, flags) }
    fn rename(from: Path, to: Path) -> c_int { two(libc::SYS_renameat2, libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) }
    fn renameat(from_at: c_int, from: Path, to_at: c_int, to: Path) -> c_int { two(libc::SYS_renameat2, from_at, from, to_at, to, 0) }
    fn renameat2(from_at: c_int, from: Path, to_at: c_int, to: Path, flags: u32) -> c_int { two(libc::SYS_renameat2, from_at, from, to_at, to, flags as c_int) }
    fn chmod(path: Path, mode: mode_t) -> c_int { paths::here(libc::SYS_fchmodat, path, [mode as u64, 0, 0, 0]) as c_int }
    fn fchmodat(at: c_int, path: Path, mode: mode_t, flags: c_int) -> c_int { chmod_at(at, path, mode, flags) }
    fn chown(path: Path, user: uid_t, group: gid_t) -> c_int { paths::here(libc::SYS_fchownat, path, [user as u64, group as u64, 0, 0]) as c_int }
    fn lchown(path: Path, user: uid_t, group: gid_t) -> c_int { paths::here(libc::SYS_fchownat, path, [user as u64, group as u64, NOFOLLOW, 0]) as c_int }
    fn fchownat(at: c_int, path: Path, user: uid_t, group: gid_t, flags: c_int) -> c_int { paths::at(libc::SYS_fchownat, at, path, [user as u64, group as u64, flags as u64, 0]) as c_int }
    fn utimensat(at: c_int, path: Path, times: *const timespec, flags: c_int) -> c_int { paths::at(libc::SYS_utimensat, at, path, [times as u64, flags as u64, 0, 0]) as c_int }
    fn setxattr(path: Path, name: Path, value: *const c_void, size: usize, flags: c_int) -> c_int { paths::first(libc::SYS_setxattr, path, [name as u64, value as u64, size as u64, flags as u64, 0]) as c_int }
    fn lsetxattr(path: Path, name: Path, value: *const c_void, size: usize, flags: c_int) -> c_int { paths::first(libc::SYS_lsetxattr, path, [name as u64, value as u64, size as u64, flags as u64, 0]) as c_int }
    fn removexattr(path: Path, name: Path) -> c_int { paths::first(libc::SYS_removexattr, path, [name as u64, 0, 0, 0, 0]) as c_int }
    fn lremovexattr(path: Path, name: Path) -> c_int { paths::first(libc::SYS_lremovexattr, path, [name as u64, 0, 0, 0, 0]) as c_int }
    fn mknod(path: Path, mode: mode_t, device: u64) -> c_int { paths::here(libc::SYS_mknodat, path, [mode as u64, device, 0, 0]) as c_int }
    fn mknodat(at: c_int, path: Path, mode: mode_t, device: u64) -> c_int { paths::at(libc::SYS_mknodat, at, path, [mode as u64, device, 0, 0]) as c_int }
    fn mkfifo(path: Path, mode: mode_t) -> c_int { paths::here(libc::SYS_mknodat, path, [(mode | libc::S_IFIFO) as u64, 0, 0, 0]) as c_int }
    fn mkfifoat(at: c_int, path: Path, mode: mode_t) -> c_int { paths::at(libc::SYS_mknodat, at, path, [(mode | libc::S_IFIFO) as u64, 0, 0, 0]) as c_int }

    // What opens paths by inner calls.
    fn opendir(path: Path) -> Buffer { whole::opendir(path) }
    fn fopen(path: Path, mode: Path) -> Buffer { whole::fopen(path, mode) }
    fn fopen64(path: Path, mode: Path) -> Buffer { whole::fopen64(path, mode) }
    fn freopen(path: Path, mode: Path, stream: Buffer) -> Buffer { whole::freopen(path, mode, stream) }
    fn freopen64(path: Path, mode: Path, stream: Buffer) -> Buffer { whole::freopen64(path, mode, stream) }
    fn scandir(path: Path, names: Buffer, filter: Buffer, compare: Buffer) -> c_int { whole::scandir(path, names, filter, compare) }
    fn scandir64(path: Path, names: Buffer, filter: Buffer, compare: Buffer) -> c_int { whole::scandir64(path, names, filter, compare) }
    fn statvfs(path: Path, to: Buffer) -> c_int { whole::statvfs(path, to) }
    fn statvfs64(path: Path, to: Buffer) -> c_int { whole::statvfs64(path, to) }
    fn pathconf(path: Path, name: c_int) -> c_long { whole::pathconf(path, name) }
    fn utime(path: Path, times: Buffer) -> c_int { whole::utime(path, times) }
    fn utimes(path: Path, times: Buffer) -> c_int { whole::utimes(path, times) }
    fn lutimes(path: Path, times: Buffer) -> c_int { whole::lutimes(path, times) }
    fn remove(path: Path) -> c_int { whole::remove(path) }
    fn mkstemp(path: Path) -> c_int { whole::mkstemp(path) }
    fn mkstemp64(path: Path) -> c_int { whole::mkstemp64(path) }
    fn mkostemp(path: Path, flags: c_int) -> c_int { whole::mkostemp(path, flags) }
    fn mkostemp64(path: Path, flags: c_int) -> c_int { whole::mkostemp64(path, flags) }
    fn mkstemps(path: Path, suffix: c_int) -> c_int { whole::mkstemps(path, suffix) }
    fn mkstemps64(path: Path, suffix: c_int) -> c_int { whole::mkstemps64(path, suffix) }
    fn mkostemps(path: Path, suffix: c_int, flags: c_int) -> c_int { whole::mkostemps(path, suffix, flags) }
    fn mkostemps64(path: Path, suffix: c_int, flags: c_int) -> c_int { whole::mkostemps64(path, suffix, flags) }
    fn mkdtemp(path: Path) -> Buffer { whole::mkdtemp(path) }
    fn realpath(path: Path, resolved: *mut c_char) -> *mut c_char { whole::realpath(path, resolved) }
    fn __realpath_chk(path: Path, resolved: *mut c_char, _room: usize) -> *mut c_char { whole::realpath(path, resolved) }
    fn canonicalize_file_name(path: Path) -> *mut c_char { whole::canonicalize_file_name(path) }
    fn ftw(path: Path, visit: Buffer, depth: c_int) -> c_int { whole::ftw(path, visit, depth) }
    fn ftw64(path: Path, visit: Buffer, depth: c_int) -> c_int { whole::ftw64(path, visit, depth) }
    fn nftw(path: Path, visit: Buffer, depth: c_int, flags: c_int) -> c_int { whole::nftw(path, visit, depth, flags) }
    fn nftw64(path: Path, visit: Buffer, depth: c_int, flags: c_int) -> c_int { whole::nftw64(path, visit, depth, flags) }
    fn fts_open(roots: Strings, options: c_int, compare: Buffer) -> Buffer { whole::fts_open(roots, options, compare) }
    fn fts64_open(roots: Strings, options: c_int, compare: Buffer) -> Buffer { whole::fts64_open(roots, options, compare) }
    fn glob(path: Path, flags: c_int, error: Buffer, found: Buffer) -> c_int { whole::glob(path, flags, error, found) }
    fn glob64(path: Path, flags: c_int, error: Buffer, found: Buffer) -> c_int { whole::glob64(path, flags, error, found) }

    // Names.
    fn getaddrinfo(node: Path, service: Path, hints: *const addrinfo, result: *mut *mut addrinfo) -> c_int { names::getaddrinfo(node, service, hints, result) }
    fn gethostbyname(name: Path) -> Buffer { names::gethostbyname(name) }
    fn gethostbyname2(name: Path, family: c_int) -> Buffer { names::gethostbyname2(name, family) }
    fn gethostbyname_r(name: Path, entry: Buffer, room: *mut c_char, size: usize, result: *mut Buffer, error: *mut c_int) -> c_int { names::gethostbyname_r(name, entry, room, size, result, error) }
    fn gethostbyname2_r(name: Path, family: c_int, entry: Buffer, room: *mut c_char, size: usize, result: *mut Buffer, error: *mut c_int) -> c_int { names::gethostbyname2_r(name, family, entry, room, size, result, error) }
    fn getnameinfo(address: *const sockaddr, length: socklen_t, host: *mut c_char, host_size: socklen_t, service: *mut c_char, service_size: socklen_t, flags: c_int) -> c_int { names::getnameinfo(address, length, host, host_size, service, service_size, flags) }

    // Sockets.
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int { sockets::socket(domain, kind, protocol) }
    fn connect(socket: c_int, address: *const sockaddr, length: socklen_t) -> c_int { sockets::connect(socket, address, length) }
    fn bind(socket: c_int, address: *const sockaddr, length: socklen_t) -> c_int { sockets::bind(socket, address, length) }
    fn listen(socket: c_int, backlog: c_int) -> c_int { sockets::listen(socket, backlog) }
    fn accept(socket: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int { sockets::accept(socket, address, length) }
    fn accept4(socket: c_int, address: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int { sockets::accept4(socket, address, length, flags) }
    fn getpeername(socket: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int { sockets::getpeername(socket, address, length) }
    fn getsockname(socket: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int { sockets::getsockname(socket, address, length) }
    fn getsockopt(socket: c_int, level: c_int, name: c_int, value: Buffer, length: *mut socklen_t) -> c_int { sockets::getsockopt(socket, level, name, value, length) }
    fn sendto(socket: c_int, data: *const c_void, size: usize, flags: c_int, address: *const sockaddr, length: socklen_t) -> isize { sockets::sendto(socket, data, size, flags, address, length) }
    fn recvfrom(socket: c_int, data: Buffer, size: usize, flags: c_int, address: *mut sockaddr, length: *mut socklen_t) -> isize { sockets::recvfrom(socket, data, size, flags, address, length) }
    fn __recvfrom_chk(socket: c_int, data: Buffer, size: usize, room: usize, flags: c_int, address: *mut sockaddr, length: *mut socklen_t) -> isize {{ sockets::checked(size, room); sockets::recvfrom(socket, data, size, flags, address, length) }}
    fn sendmsg(socket: c_int, message: *const msghdr, flags: c_int) -> isize { sockets::sendmsg(socket, message, flags) }
    fn recvmsg(socket: c_int, message: *mut msghdr, flags: c_int) -> isize { sockets::recvmsg(socket, message, flags) }
    fn sendmmsg(socket: c_int, messages: *mut mmsghdr, count: u32, flags: c_int) -> c_int { sockets::sendmmsg(socket, messages, count, flags) }
    fn recvmmsg(socket: c_int, messages: *mut mmsghdr, count: u32, flags: c_int, timeout: *mut timespec) -> c_int { sockets::recvmmsg(socket, messages, count, flags, timeout) }

    // The host.
    fn uname(name: *mut libc::utsname) -> c_int { host::uname(name) }
    fn gethostname(room: *mut c_char, length: usize) -> c_int { host::gethostname(room, length) }

    // Programs.
    fn execve(path: Path, arguments: Strings, environment: Strings) -> c_int { exec::execve(path, arguments, environment) }
    fn execv(path: Path, arguments: Strings) -> c_int { exec::execv(path, arguments) }
    fn execvp(file: Path, arguments: Strings) -> c_int { exec::execvp(file, arguments) }
    fn execvpe(file: Path, arguments: Strings, environment: Strings) -> c_int { exec::execvpe(file, arguments, environment) }
    fn execveat(at: c_int, path: Path, arguments: Strings, environment: Strings, flags: c_int) -> c_int { exec::execveat(at, path, arguments, environment, flags) }
    fn fexecve(descriptor: c_int, arguments: Strings, environment: Strings) -> c_int { exec::fexecve(descriptor, arguments, environment) }
    fn posix_spawn(pid: *mut libc::pid_t, path: Path, actions: *const c_void, attributes: *const c_void, arguments: Strings, environment: Strings) -> c_int { exec::posix_spawn(pid, path, actions, attributes, arguments, environment) }
    fn posix_spawnp(pid: *mut libc::pid_t, file: Path, actions: *const c_void, attributes: *const c_void, arguments: Strings, environment: Strings) -> c_int { exec::posix_spawnp(pid, file, actions, attributes, arguments, environment) }
    fn posix_spawn_file_actions_addchdir_np(actions: Buffer, path: Path) -> c_int { actions::addchdir(actions, path) }
    fn posix_spawn_file_actions_addfchdir_np(actions: Buffer, descriptor: c_int) -> c_int { actions::addfchdir(actions, descriptor) }
    fn posix_spawn_file_actions_addopen(actions: Buffer, descriptor: c_int, path: Path, flags: c_int, mode: mode_t) -> c_int { actions::addopen(actions, descriptor, path, flags, mode) }
    fn system(command: Path) -> c_int { exec::system(command) }
    fn popen(command: Path, kind: Path) -> Buffer { exec::popen(command, kind) }
}

/// With flags libc does more than one call.
unsafe fn chmod_at(at: c_int, path: Path, mode: mode_t, flags: c_int) -> c_int {
    // SAFETY: the hook's; libc's function of that name has this type.
    unsafe {
        if flags == 0 {
            return paths::at(libc::SYS_fchmodat, at, path, [u64::from(mode), 0, 0, 0]) as c_int;
        }
        next!(
            "fchmodat",
            (at => c_int, path => Path, mode => mode_t, flags => c_int) -> c_int,
            sys::returned(-(libc::ENOSYS as isize)) as c_int
        )
    }
}

/// Without flags the older call says the same, and every kernel has it.
fn access_call(flags: c_int) -> i64 {
    if flags == 0 {
        libc::SYS_faccessat
    } else {
        libc::SYS_faccessat2
    }
}

unsafe fn symlink_at(target: Path, at: c_int, path: Path) -> c_int {
    // SAFETY: the hook's.
    sys::returned(unsafe { paths::issue(libc::SYS_symlinkat, [target as u64, at as u64, path as u64, 0, 0, 0]) })
        as c_int
}

unsafe fn two(number: i64, from_at: c_int, from: Path, to_at: c_int, to: Path, flags: c_int) -> c_int {
    let arguments = [from_at as u64, from as u64, to_at as u64, to as u64, flags as u64, 0];
    // SAFETY: the hook's.
    sys::returned(unsafe { paths::issue(number, arguments) }) as c_int
}

/// `syscall(2)` with a number that is hooked elsewhere.
unsafe extern "C" fn by_number(number: c_long, a: u64, b: u64, c: u64, d: u64, e: u64) -> isize {
    let arguments: Arguments = [a, b, c, d, e, 0];
    if number == libc::SYS_io_uring_setup {
        return sys::returned(-(libc::ENOSYS as isize));
    }
    // SAFETY: the caller's.
    sys::returned(unsafe {
        match number {
            libc::SYS_getcwd => directory::call(a as *mut c_void, b as usize),
            libc::SYS_fchdir => directory::enter(a as c_int),
            _ => paths::issue(number, arguments),
        }
    })
}

/// Whether [`by_number`] is for this number. Rings, whose calls nobody sees, do not exist; under the filter it says so.
extern "C" fn is_hooked_number(number: c_long) -> bool {
    paths::is_path_call(number)
        || matches!(number, libc::SYS_getcwd | libc::SYS_fchdir)
        || (number == libc::SYS_io_uring_setup && crate::image::is_alone())
}

#[cfg(feature = "standalone")]
mod stubs {
    //! Functions that must see the registers and the stack as the caller left them.

    use core::arch::naked_asm;

    use super::{by_number, is_hooked_number};
    use crate::{exec, sys};

    /// `syscall(2)` must not leave anything on the stack of a call that it passes on: a child of vfork or clone returns
    /// through it too.
    #[unsafe(no_mangle)]
    #[unsafe(naked)]
    unsafe extern "C" fn syscall() {
        naked_asm!(
            // clone, vfork and clone3 go straight on.
            "cmp rdi, {clone}",
            "je 2f",
            "cmp rdi, {vfork}",
            "je 2f",
            "cmp rdi, {clone3}",
            "je 2f",
            "push rdi",
            "push rsi",
            "push rdx",
            "push rcx",
            "push r8",
            "push r9",
            "sub rsp, 8",
            "call {is_hooked}",
            "add rsp, 8",
            "pop r9",
            "pop r8",
            "pop rcx",
            "pop rdx",
            "pop rsi",
            "pop rdi",
            "test al, al",
            "jz 2f",
            "jmp {by_number}",
            "2:",
            "mov rax, rdi",
            "mov rdi, rsi",
            "mov rsi, rdx",
            "mov rdx, rcx",
            "mov r10, r8",
            "mov r8, r9",
            "mov r9, [rsp + 8]",
            "syscall",
            "cmp rax, -4095",
            "jae 3f",
            "ret",
            "3:",
            "mov rdi, rax",
            "jmp {returned}",
            clone = const libc::SYS_clone,
            vfork = const libc::SYS_vfork,
            clone3 = const libc::SYS_clone3,
            is_hooked = sym is_hooked_number,
            by_number = sym by_number,
            returned = sym returned,
        )
    }

    extern "C" fn returned(result: isize) -> isize {
        sys::returned(result)
    }

    /// A variadic exec function: its register arguments are laid beside those that are on the stack already, and the
    /// function that takes a table gets them.
    macro_rules! variadic {
        ($name:ident, $to:path) => {
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "C" fn $name() {
                naked_asm!(
                    // The return address moves away, so that the table is in one piece.
                    "pop rax",
                    "push r9",
                    "push r8",
                    "push rcx",
                    "push rdx",
                    "push rsi",
                    "mov rsi, rsp",
                    "push rax",
                    "sub rsp, 8",
                    "and rsp, -16",
                    "push rsi",
                    "push rsi",
                    "call {to}",
                    "pop rsi",
                    // Above the table: its five registers are given back.
                    "mov rcx, [rsi - 8]",
                    "lea rsp, [rsi + 40]",
                    "jmp rcx",
                    to = sym $to,
                )
            }
        };
    }
    variadic!(execl, exec::execl);
    variadic!(execlp, exec::execlp);
    variadic!(execle, exec::execle);
}
