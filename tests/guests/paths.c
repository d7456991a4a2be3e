/* paths DIRECTORY FILE: looks at a directory and a file in it in every way, one line for each. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void failed(const char *what) { printf("%s: %s\n", what, strerrorname_np(errno)); }

static void content(const char *what, int fd) {
    char text[256];
    if (fd < 0) return failed(what);
    ssize_t length = read(fd, text, sizeof text - 1);
    if (length < 0) return failed(what);
    text[length] = 0;
    text[strcspn(text, "\n")] = 0;
    printf("%s: %s\n", what, text);
    close(fd);
}

static int by_name(const void *left, const void *right) { return strcmp(*(char **)left, *(char **)right); }

static void list(const char *what, DIR *directory) {
    if (!directory) return failed(what);
    char *names[256];
    int count = 0;
    struct dirent *entry;
    while ((entry = readdir(directory)) && count < 256) {
        if (entry->d_name[0] != '.') names[count++] = strdup(entry->d_name);
    }
    qsort(names, count, sizeof *names, by_name);
    printf("%s:", what);
    for (int i = 0; i < count; i++) printf(" %s", names[i]);
    putchar('\n');
    closedir(directory);
}

int main(int count, char **arguments) {
    if (count < 3) return 9;
    const char *directory = arguments[1], *name = arguments[2];
    char path[4096], target[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    content("open", open(path, O_RDONLY));
    struct stat status;
    if (stat(path, &status) < 0) failed("stat");
    else printf("stat: %c %03o %ld\n", S_ISREG(status.st_mode) ? 'f' : 'o', status.st_mode & 0777, (long)status.st_size);
    if (lstat(path, &status) < 0) failed("lstat");
    else printf("lstat: %c\n", S_ISLNK(status.st_mode) ? 'l' : S_ISREG(status.st_mode) ? 'f' : 'o');
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 0) failed("readlink");
    else printf("readlink: %.*s\n", (int)length, target);
    list("opendir", opendir(directory));
    int fd = open(directory, O_RDONLY | O_DIRECTORY);
    content("openat", openat(fd, name, O_RDONLY));
    if (fstatat(fd, name, &status, 0) < 0) failed("fstatat");
    else printf("fstatat: %ld\n", (long)status.st_size);
    list("fdopendir", fdopendir(fd));
    printf("access: %s\n", access(path, R_OK) < 0 ? strerrorname_np(errno) : "yes");
    printf("missing: %s\n", open("/etc/shop/missing", O_RDONLY) < 0 ? strerrorname_np(errno) : "there");
    printf("write: %s\n", open(path, O_WRONLY) < 0 ? strerrorname_np(errno) : "allowed");
    if (count > 3) {
        printf("realpath: %s\n", realpath(directory, target) ? target : strerrorname_np(errno));
        if (chdir(directory) < 0) failed("chdir");
        else printf("getcwd: %s\n", getcwd(target, sizeof target) ? target : strerrorname_np(errno));
        content("relative", open(name, O_RDONLY));
        list("here", opendir("."));
    }
    return 0;
}
