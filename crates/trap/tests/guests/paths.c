// The open and stat families by their system calls.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int c, char **v) {
    (void)c;
    char text[32] = {0};
    struct stat st;
    struct statx stx;
    struct open_how how = {.flags = O_RDONLY};
    int fd = openat(AT_FDCWD, v[1], O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n - 1 : 0] = 0;
    printf("openat %s\n", text);
    fd = syscall(SYS_open, v[1], O_RDONLY);
    fstat(fd, &st);
    printf("open %ld\n", (long)st.st_size);
    fd = syscall(SYS_openat2, AT_FDCWD, v[1], &how, sizeof how);
    fstat(fd, &st);
    printf("openat2 %ld\n", (long)st.st_size);
    statx(AT_FDCWD, v[1], 0, STATX_SIZE, &stx);
    printf("statx %ld\n", (long)stx.stx_size);
    printf("gone %d\n", syscall(SYS_stat, "/data/none", &st) ? errno : 0);
    return 0;
}
