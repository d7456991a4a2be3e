/* Children, however they are started, are served as their parent is. */
#include "guest.h"

static void child(const char *argument) {
    (void)argument;
    char *line = first_line(AT_FDCWD, FILES "text");
    line ? say("child: %s", line) : say_error("child: text");
    int fd = dial(ECHO, ECHO_PORT);
    fd < 0 ? say_error("child: connect") : say("child: %s", talk(fd, "ping"));
}

static void end_of(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    if (status) say("status %x", status);
}

static void by_vfork(const char *argument) {
    (void)argument;
    char *const words[] = {(char *)self, "child", NULL};
    pid_t pid = vfork();
    if (pid == 0) {
        execve(self, words, environ);
        _exit(1);
    }
    pid < 0 ? say_error("vfork") : end_of(pid);
}

static void by_fork(const char *argument) {
    (void)argument;
    pid_t pid = fork();
    if (pid == 0) {
        execl(self, self, "child", (char *)NULL);
        _exit(1);
    }
    pid < 0 ? say_error("fork") : end_of(pid);
}

static void by_spawn(const char *argument) {
    (void)argument;
    char *const words[] = {(char *)self, "child", NULL};
    pid_t pid;
    int error = posix_spawn(&pid, self, NULL, NULL, words, environ);
    error ? say("posix_spawn %s", error_name(error)) : end_of(pid);
}

static const char *line_for_shell(void) {
    static char line[4200];
    snprintf(line, sizeof line, "'%s' child", self);
    return line;
}

static void by_system(const char *argument) {
    (void)argument;
    int status = system(line_for_shell());
    if (status) say("status %x", status);
}

static void by_popen(const char *argument) {
    (void)argument;
    FILE *pipe = popen(line_for_shell(), "r");
    if (!pipe) return say_error("popen");
    char line[512];
    while (fgets(line, sizeof line, pipe)) {
        line[strcspn(line, "\n")] = 0;
        say("%s", line);
    }
    int status = pclose(pipe);
    if (status) say("status %x", status);
}

static void with_nothing(const char *argument) {
    (void)argument;
    pid_t pid = fork();
    if (pid == 0) {
        execve(self, (char *[]){(char *)self, "child", NULL}, (char *[]){NULL});
        _exit(1);
    }
    pid < 0 ? say_error("fork") : end_of(pid);
}

const struct behaviour children[] = {
    {"child", child},
    {"spawn-child", by_fork},
    {"vfork", by_vfork},
    {"posix-spawn", by_spawn},
    {"system", by_system},
    {"popen", by_popen},
    {"bare-environment", with_nothing},
    {NULL, NULL},
};
