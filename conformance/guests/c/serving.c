/* Incoming connections. argument: the port. */
#include "guest.h"

static int listen_at(const char *ip, const char *port, int flags) {
    struct sockaddr_in in = address(ip, atoi(port));
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&in, sizeof in) < 0) return say_error("bind"), -1;
    if (listen(fd, 64) < 0) return say_error("listen"), -1;
    say("listening");
    return fd;
}

/* Until a line feed or the end. */
static char *line_from(int fd) {
    static char text[256];
    size_t length = 0;
    while (length < sizeof text - 1) {
        ssize_t got = read(fd, text + length, 1);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0 || text[length] == '\n') break;
        length += got;
    }
    text[length] = 0;
    return text;
}

/* Tells who called and what was said, and answers. */
static void answer(int fd, const struct sockaddr_in *from) {
    say("client %s, %s", shown(from), !strcmp(peer_of(fd), shown(from)) ? "twice" : peer_of(fd));
    say("said %s", line_from(fd));
    write_all(fd, "pong\n", 5);
    close(fd);
}

static void one_from(const char *ip, const char *port) {
    int listener = listen_at(ip, port, 0);
    struct sockaddr_in from = {0};
    socklen_t length = sizeof from;
    if (listener < 0) return;
    int fd = accept(listener, (struct sockaddr *)&from, &length);
    fd < 0 ? say_error("accept") : answer(fd, &from);
    close(listener);
}

static void serve(const char *port) { one_from("0.0.0.0", port); }
static void serve_pod_address(const char *port) { one_from(POD, port); }

static void serve_nonblocking(const char *port) {
    int listener = listen_at("0.0.0.0", port, SOCK_NONBLOCK), queue = epoll_create1(EPOLL_CLOEXEC), fd;
    if (listener < 0) return;
    struct epoll_event wanted = {.events = EPOLLIN}, got;
    epoll_ctl(queue, EPOLL_CTL_ADD, listener, &wanted);
    struct sockaddr_in from = {0};
    do {
        while (epoll_wait(queue, &got, 1, -1) < 0 && errno == EINTR) {}
        socklen_t length = sizeof from;
        fd = accept4(listener, (struct sockaddr *)&from, &length, SOCK_CLOEXEC);
    } while (fd < 0 && errno == EAGAIN);
    fd < 0 ? say_error("accept4") : answer(fd, &from);
    close(listener);
}

/* Three workers on one listener; each says what it was sent, and `last` ends whoever gets it. */
static void prefork(const char *port) {
    int listener = listen_at("0.0.0.0", port, 0);
    if (listener < 0) return;
    for (int worker = 0; worker < 3; worker++) {
        if (fork()) continue;
        for (int is_last = 0; !is_last;) {
            int fd = accept(listener, NULL, NULL);
            if (fd < 0) say_error("accept"), _exit(1);
            char *line = line_from(fd);
            is_last = !strcmp(line, "last");
            if (!is_last) say("got %s", line);
            write_all(fd, "pong\n", 5);
            close(fd);
        }
        _exit(0);
    }
    close(listener);
    while (wait(NULL) > 0) {}
}

const struct behaviour serving[] = {
    {"serve", serve},
    {"serve-mirrored", serve},
    {"serve-pod-address", serve_pod_address},
    {"serve-nonblocking", serve_nonblocking},
    {"prefork", prefork},
    {NULL, NULL},
};
