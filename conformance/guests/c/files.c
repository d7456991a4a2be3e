/* The pod's files, environment and host name. */
#include "guest.h"

static void read_file(const char *argument) {
    (void)argument;
    char *line = first_line(AT_FDCWD, FILES "text");
    line ? say("%s", line) : say_error("text");
    line = first_line(AT_FDCWD, FILES "absent");
    line ? say("%s", line) : say_error("absent");
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *argument) {
    (void)argument;
    DIR *directory = opendir(FILES "directory");
    if (!directory) return say_error("opendir");
    char *found[64], line[1024] = "";
    int count = 0;
    struct dirent *entry;
    while ((entry = readdir(directory)) && count < 64)
        if (entry->d_name[0] != '.') found[count++] = strdup(entry->d_name);
    closedir(directory);
    qsort(found, count, sizeof *found, by_name);
    for (int i = 0; i < count; i++) {
        strcat(line, i ? " " : "");
        strcat(line, found[i]);
        free(found[i]);
    }
    say("%s", line);
}

static void cwd(const char *argument) {
    (void)argument;
    char here[4096];
    const char *found = getcwd(here, sizeof here);
    found ? say("cwd %s", found) : say_error("getcwd");
}

static void change_directory(const char *argument) {
    (void)argument;
    char before[4096], here[4096];
    const char *found = getcwd(before, sizeof before);
    if (!found) return say_error("getcwd");
    if (chdir(FILES "directory") < 0) return say_error("chdir");
    found = getcwd(here, sizeof here);
    found ? say("%s", found) : say_error("getcwd");
    char *line = first_line(AT_FDCWD, "one");
    line ? say("one: %s", line) : say_error("one:");
    line = first_line(AT_FDCWD, "../text");
    line ? say("text: %s", line) : say_error("text:");
    if (chdir(before) < 0) say_error("chdir back");
}

static void dirfd_relative(const char *argument) {
    (void)argument;
    int directory = open(FILES "directory", O_RDONLY | O_DIRECTORY);
    if (directory < 0) return say_error("open");
    char *line = first_line(directory, "one");
    line ? say("one: %s", line) : say_error("one:");
    struct stat found;
    fstatat(directory, "one", &found, 0) < 0 ? say_error("fstatat") : say("size %ld", (long)found.st_size);
    close(directory);
}

static void symlinks(const char *argument) {
    (void)argument;
    char target[4096];
    ssize_t length = readlink(FILES "link", target, sizeof target - 1);
    if (length < 0) return say_error("readlink");
    target[length] = 0;
    say("link -> %s", target);
    realpath(FILES "link/one", target) ? say("%s", target) : say_error("realpath");
}

static void map(const char *argument) {
    (void)argument;
    int fd = open(FILES "blob", O_RDONLY);
    if (fd < 0) return say_error("open");
    struct stat found;
    fstat(fd, &found);
    unsigned char *bytes = mmap(NULL, found.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (bytes == MAP_FAILED) return say_error("mmap");
    unsigned long sum = 0;
    for (off_t i = 0; i < found.st_size; i++) sum += bytes[i];
    munmap(bytes, found.st_size);
    say("%ld bytes, sum %lu", (long)found.st_size, sum);
}

static void say_kind(const char *name, const struct stat *found) {
    if (S_ISREG(found->st_mode)) say("%s file %ld", name, (long)found->st_size);
    else say("%s %s", name, S_ISDIR(found->st_mode) ? "directory" : S_ISLNK(found->st_mode) ? "link" : "something");
}

static void status(const char *argument) {
    (void)argument;
    struct stat found;
    stat(FILES "text", &found) < 0 ? say_error("text") : say_kind("text", &found);
    stat(FILES "directory", &found) < 0 ? say_error("directory") : say_kind("directory", &found);
    lstat(FILES "link", &found) < 0 ? say_error("link") : say_kind("link", &found);
    stat(FILES "absent", &found) < 0 ? say_error("absent") : say_kind("absent", &found);
}

static void access_file(const char *argument) {
    (void)argument;
    access(FILES "text", R_OK) < 0 ? say_error("text") : say("text yes");
    access(FILES "absent", F_OK) < 0 ? say_error("absent") : say("absent yes");
}

static void write_file(const char *argument) {
    (void)argument;
    int fd = open(FILES "text", O_WRONLY);
    fd < 0 ? say_error("open") : say("open for writing");
    if (fd >= 0) close(fd);
}

/* argument: a directory of this machine. */
static void local_file(const char *argument) {
    char path[4096];
    snprintf(path, sizeof path, "%s/mine-%d", argument, (int)getpid());
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    if (fd < 0) return say_error("create");
    write_all(fd, "kept here\n", 10);
    close(fd);
    char *line = first_line(AT_FDCWD, path);
    line ? say("%s", line) : say_error("read");
    unlink(path) < 0 ? say_error("unlink") : say("removed");
}

static void script(const char *argument) {
    (void)argument;
    pid_t child = fork();
    if (child == 0) {
        execve(FILES "script", (char *[]){FILES "script", "hello", NULL}, environ);
        say_error("execve");
        _exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status) say("status %d", WEXITSTATUS(status));
}

static void environment(const char *argument) {
    (void)argument;
    const char *currency = getenv("SHOP_CURRENCY");
    say("%s", currency ? currency : "unset");
    say("NODE_OPTIONS %s", getenv("NODE_OPTIONS") ? "set" : "unset");
}

static void host_name(const char *argument) {
    (void)argument;
    struct utsname name;
    uname(&name) < 0 ? say_error("uname") : say("%s", name.nodename);
}

const struct behaviour files[] = {
    {"read", read_file},
    {"list", list},
    {"cwd", cwd},
    {"chdir", change_directory},
    {"dirfd", dirfd_relative},
    {"symlinks", symlinks},
    {"mmap", map},
    {"stat", status},
    {"access", access_file},
    {"write", write_file},
    {"local-file", local_file},
    {"script", script},
    {"environment", environment},
    {"host-name", host_name},
    {NULL, NULL},
};
