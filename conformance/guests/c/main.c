/* guest BEHAVIOUR[=ARGUMENT]...: for each `== BEHAVIOUR` and the lines of what it saw. */
#include "guest.h"

const char *self;

static const struct behaviour *const all[] = {files, names, tcp, more_tcp, datagrams, local, children, serving};

void say(const char *format, ...) {
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    line[length++] = '\n';
    /* One call for each line: several processes print to the same file. */
    if (write(1, line, length) != length) _exit(8);
}

const char *error_name(int error) {
    static const struct {
        int error;
        const char *name;
    } known[] = {
        {0, "0"},
        {EACCES, "EACCES"},
        {EADDRINUSE, "EADDRINUSE"},
        {EADDRNOTAVAIL, "EADDRNOTAVAIL"},
        {EAGAIN, "EAGAIN"},
        {EALREADY, "EALREADY"},
        {EBADF, "EBADF"},
        {ECONNABORTED, "ECONNABORTED"},
        {ECONNREFUSED, "ECONNREFUSED"},
        {ECONNRESET, "ECONNRESET"},
        {EHOSTUNREACH, "EHOSTUNREACH"},
        {EINPROGRESS, "EINPROGRESS"},
        {EINTR, "EINTR"},
        {EINVAL, "EINVAL"},
        {EISCONN, "EISCONN"},
        {ENETUNREACH, "ENETUNREACH"},
        {ENOENT, "ENOENT"},
        {ENOSYS, "ENOSYS"},
        {ENOTCONN, "ENOTCONN"},
        {ENOTDIR, "ENOTDIR"},
        {EPERM, "EPERM"},
        {EROFS, "EROFS"},
        {ETIMEDOUT, "ETIMEDOUT"},
    };
    static char number[32];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].error == error) return known[i].name;
    snprintf(number, sizeof number, "errno %d", error);
    return number;
}

void say_error(const char *what) { say("%s %s", what, error_name(errno)); }

char *first_line(int directory, const char *path) {
    static char text[4096];
    int fd = openat(directory, path, O_RDONLY);
    if (fd < 0) return NULL;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length < 0) return NULL;
    text[length] = 0;
    text[strcspn(text, "\n")] = 0;
    return text;
}

static const struct behaviour *find(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (const struct behaviour *one = all[i]; one->name; one++)
            if (strlen(one->name) == length && !memcmp(one->name, name, length)) return one;
    return NULL;
}

int main(int count, char **arguments) {
    static char path[4096];
    self = arguments[0];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length > 0) self = path;
    signal(SIGPIPE, SIG_IGN);
    for (int i = 1; i < count; i++) {
        size_t name = strcspn(arguments[i], "=");
        const char *argument = arguments[i][name] ? arguments[i] + name + 1 : "";
        const struct behaviour *one = find(arguments[i], name);
        /* A child's lines belong to what its parent was told to do. */
        if (strcmp(arguments[i], "child")) say("== %.*s", (int)name, arguments[i]);
        if (one) one->run(argument);
        else say("unknown to this guest");
    }
    return 0;
}
