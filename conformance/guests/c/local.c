/* What is this machine's: unix sockets, own listeners; and descriptors that are passed on. */
#include "guest.h"

static void pass(int through, int fd) {
    union {
        char bytes[CMSG_SPACE(sizeof fd)];
        struct cmsghdr aligned;
    } control = {0};
    struct iovec one = {"x", 1};
    struct msghdr message = {
        .msg_iov = &one, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    if (sendmsg(through, &message, 0) < 0) say_error("sendmsg");
}

static int take(int through) {
    int fd = -1;
    union {
        char bytes[CMSG_SPACE(sizeof fd)];
        struct cmsghdr aligned;
    } control = {0};
    char byte;
    struct iovec one = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &one, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (recvmsg(through, &message, 0) < 0) return -1;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head && head->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(head), sizeof fd);
    return fd;
}

/* A connection of the pod's, made here and used by another process that never saw it made. */
static void rights(const char *argument) {
    (void)argument;
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    pid_t child = fork();
    if (child == 0) {
        close(pair[0]);
        int fd = take(pair[1]);
        fd < 0 ? say_error("recvmsg") : converse(fd);
        _exit(0);
    }
    close(pair[1]);
    int fd = dial(ECHO, ECHO_PORT);
    if (fd < 0) say_error("connect");
    else pass(pair[0], fd);
    close(fd);
    close(pair[0]);
    waitpid(child, NULL, 0);
}

static void between(const char *name, const struct sockaddr_un *at, socklen_t length) {
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (const struct sockaddr *)at, length) < 0) return say_error(name);
    listen(listener, 1);
    if (connect(client, (const struct sockaddr *)at, length) < 0) return say_error(name);
    int accepted = accept(listener, NULL, NULL);
    char back[8] = "";
    if (accepted < 0 || write(client, "ping", 4) != 4 || read(accepted, back, 4) != 4) return say_error(name);
    say("%s %s", name, back);
    close(listener), close(client), close(accepted);
}

/* argument: a directory of this machine. */
static void unix_sockets(const char *argument) {
    int pair[2];
    char back[8] = "";
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || write(pair[0], "ping", 4) != 4 || read(pair[1], back, 4) != 4)
        return say_error("pair");
    say("pair %s", back);
    close(pair[0]), close(pair[1]);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s/s%d", argument, (int)getpid());
    between("path", &at, sizeof at);
    unlink(at.sun_path);
    at = (struct sockaddr_un){.sun_family = AF_UNIX};
    int length = snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "inpod-conformance-%d", (int)getpid());
    between("abstract", &at, offsetof(struct sockaddr_un, sun_path) + 1 + length);
}

static void own_listener(const char *argument) {
    (void)argument;
    struct sockaddr_in in = address("127.0.0.1", 0), here, from;
    socklen_t length = sizeof in, here_length = sizeof here, from_length = sizeof from;
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&in, sizeof in) < 0 || listen(listener, 8) < 0) return say_error("listen");
    getsockname(listener, (struct sockaddr *)&in, &length);
    if (connect(fd, (struct sockaddr *)&in, sizeof in) < 0) return say_error("connect");
    int accepted = accept(listener, (struct sockaddr *)&from, &from_length);
    if (accepted < 0) return say_error("accept");
    getsockname(fd, (struct sockaddr *)&here, &here_length);
    say(from.sin_port == here.sin_port && from.sin_addr.s_addr == here.sin_addr.s_addr ? "own" : "another's");
    close(listener), close(fd), close(accepted);
}

static void bind_pod_address(const char *argument) {
    (void)argument;
    struct sockaddr_in in = address(POD, 0);
    socklen_t length = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&in, sizeof in) < 0) return say_error("bind");
    if (getsockname(fd, (struct sockaddr *)&in, &length) < 0) return say_error("getsockname");
    char text[64];
    say("bound to %s", inet_ntop(AF_INET, &in.sin_addr, text, sizeof text));
    close(fd);
}

const struct behaviour local[] = {
    {"scm-rights", rights},
    {"unix", unix_sockets},
    {"own-listener", own_listener},
    {"bind-pod-address", bind_pod_address},
    {NULL, NULL},
};
