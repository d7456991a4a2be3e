/* The same calls by `syscall` instructions of the program's own, as runtimes that leave libc aside make them. */
#include <sys/syscall.h>

static inline long raw(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    if (result < 0 && result > -4096) {
        errno = -result;
        return -1;
    }
    return result;
}

#define RAW6(number, a, b, c, d, e, f) raw(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define RAW3(number, a, b, c) RAW6(number, a, b, c, 0, 0, 0)

static inline int raw_openat(int directory, const char *path, int flags, int mode) {
    return RAW6(SYS_openat, directory, path, flags, mode, 0, 0);
}
#define MODE_OF(first, ...) first
#define openat(directory, path, ...) raw_openat(directory, path, MODE_OF(__VA_ARGS__, 0), 0600)
#define open(path, ...) raw_openat(AT_FDCWD, path, MODE_OF(__VA_ARGS__, 0), 0600)
#define fstatat(directory, path, found, flags) RAW6(SYS_newfstatat, directory, path, found, flags, 0, 0)
#define access(path, mode) RAW3(SYS_access, path, mode, 0)
#define readlink(path, text, size) RAW3(SYS_readlink, path, text, size)
#define chdir(path) RAW3(SYS_chdir, path, 0, 0)
#define unlink(path) RAW3(SYS_unlink, path, 0, 0)
#define uname(name) RAW3(SYS_uname, name, 0, 0)
#define connect(fd, to, length) RAW3(SYS_connect, fd, to, length)
#define bind(fd, to, length) RAW3(SYS_bind, fd, to, length)
#define listen(fd, backlog) RAW3(SYS_listen, fd, backlog, 0)
#define accept(fd, from, length) RAW3(SYS_accept, fd, from, length)
#define accept4(fd, from, length, flags) RAW6(SYS_accept4, fd, from, length, flags, 0, 0)
#define getsockname(fd, to, length) RAW3(SYS_getsockname, fd, to, length)
#define getpeername(fd, to, length) RAW3(SYS_getpeername, fd, to, length)
#define getsockopt(fd, level, name, value, length) RAW6(SYS_getsockopt, fd, level, name, value, length, 0)
#define sendto(fd, bytes, size, flags, to, length) RAW6(SYS_sendto, fd, bytes, size, flags, to, length)
#define recvfrom(fd, bytes, size, flags, from, length) RAW6(SYS_recvfrom, fd, bytes, size, flags, from, length)
#define send(fd, bytes, size, flags) RAW6(SYS_sendto, fd, bytes, size, flags, 0, 0)
#define recv(fd, bytes, size, flags) RAW6(SYS_recvfrom, fd, bytes, size, flags, 0, 0)
#define sendmsg(fd, message, flags) RAW3(SYS_sendmsg, fd, message, flags)
#define recvmsg(fd, message, flags) RAW3(SYS_recvmsg, fd, message, flags)
static inline int raw_stat(const char *path, struct stat *found) {
    return RAW6(SYS_newfstatat, AT_FDCWD, path, found, 0, 0, 0);
}
static inline int raw_lstat(const char *path, struct stat *found) {
    return RAW6(SYS_newfstatat, AT_FDCWD, path, found, AT_SYMLINK_NOFOLLOW, 0, 0);
}
static inline char *raw_getcwd(char *text, size_t size) {
    return RAW3(SYS_getcwd, text, size, 0) > 0 ? text : NULL;
}
static inline int raw_execve(const char *path, char *const *words, char *const *variables) {
    return RAW3(SYS_execve, path, words, variables);
}
#define getcwd(text, size) raw_getcwd(text, size)
#define execve raw_execve
#define stat(path, found) raw_stat(path, found)
#define lstat(path, found) raw_lstat(path, found)
