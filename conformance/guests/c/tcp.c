/* Outgoing TCP: blocking, not blocking, refused. */
#include "guest.h"

struct sockaddr_in address(const char *ip, int port) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &in.sin_addr);
    return in;
}

const char *shown(const void *address) {
    static char lines[4][128];
    static int next;
    char *line = lines[next++ % 4], ip[64];
    const struct sockaddr_in *in = address;
    const struct sockaddr_in6 *six = address;
    if (in->sin_family == AF_INET) {
        inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip);
        snprintf(line, sizeof *lines, "%s:%d", ip, ntohs(in->sin_port));
    } else if (in->sin_family == AF_INET6) {
        inet_ntop(AF_INET6, &six->sin6_addr, ip, sizeof ip);
        snprintf(line, sizeof *lines, "[%s]:%d", ip, ntohs(six->sin6_port));
    } else {
        snprintf(line, sizeof *lines, "family %d", in->sin_family);
    }
    return line;
}

const char *peer_of(int fd) {
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    /* Any call that is answered from outside can be interrupted, also this one. */
    while (getpeername(fd, (struct sockaddr *)&peer, &length) < 0)
        if (errno != EINTR) return error_name(errno);
    return shown(&peer);
}

int so_error(int fd) {
    int error = 0;
    socklen_t length = sizeof error;
    while (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
        if (errno != EINTR) return errno;
    return error;
}

int dial(const char *ip, int port) {
    struct sockaddr_in to = address(ip, port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

int write_all(int fd, const char *bytes, size_t length) {
    while (length) {
        ssize_t written = write(fd, bytes, length);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return -1;
        bytes += written;
        length -= written;
    }
    return 0;
}

char *talk(int fd, const char *text) {
    static char back[256];
    size_t wanted = strlen(text), got = 0;
    if (write_all(fd, text, wanted) < 0) return "write failed";
    while (got < wanted) {
        ssize_t length = read(fd, back + got, wanted - got);
        if (length < 0 && errno == EINTR) continue;
        if (length <= 0) return length < 0 ? (char *)error_name(errno) : "end too early";
        got += length;
    }
    back[got] = 0;
    return back;
}

void converse(int fd) {
    say("peer %s", peer_of(fd));
    say("%s", talk(fd, "ping"));
    shutdown(fd, SHUT_WR);
    char byte;
    ssize_t length = read(fd, &byte, 1);
    length == 0 ? say("end") : length < 0 ? say_error("read") : say("more");
    close(fd);
}

static void blocking(const char *argument) {
    (void)argument;
    int fd = dial(ECHO, ECHO_PORT);
    fd < 0 ? say_error("connect") : converse(fd);
}

static void six(const char *argument) {
    (void)argument;
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(ECHO_PORT)};
    inet_pton(AF_INET6, ECHO_SIX, &to.sin6_addr);
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    connect(fd, (struct sockaddr *)&to, sizeof to) < 0 ? say_error("connect") : converse(fd);
}

/* Connects by epoll; the socket's error, or 0 and the socket. */
static int by_epoll(const char *ip, int port, int *out) {
    struct sockaddr_in to = address(ip, port);
    int fd = *out = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return 0;
    if (errno != EINPROGRESS) return errno;
    int queue = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event wanted = {.events = EPOLLOUT}, got = {0};
    epoll_ctl(queue, EPOLL_CTL_ADD, fd, &wanted);
    while (epoll_wait(queue, &got, 1, -1) < 0 && errno == EINTR) {}
    close(queue);
    return so_error(fd);
}

static void nonblocking(const char *argument) {
    (void)argument;
    int fd, error = by_epoll(ECHO, ECHO_PORT, &fd);
    if (error) return say("connect %s", error_name(error));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    converse(fd);
}

static void refused(const char *argument) {
    (void)argument;
    int fd = dial(ECHO, CLOSED_PORT);
    fd < 0 ? say("%s", error_name(errno)) : say("connected");
}

static void refused_nonblocking(const char *argument) {
    (void)argument;
    int fd;
    say("%s", error_name(by_epoll(ECHO, CLOSED_PORT, &fd)));
    close(fd);
}

/* The error is there once. */
static void error_is_taken(const char *argument) {
    (void)argument;
    int fd;
    say("%s", error_name(by_epoll(ECHO, CLOSED_PORT, &fd)));
    say("%s", error_name(so_error(fd)));
    close(fd);
}

/* Each of the name's addresses in turn. */
static void by_name(const char *name) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(name, "7000", &hints, &found), fd = -1;
    if (error) return say("getaddrinfo %d", error);
    for (struct addrinfo *one = found; one; one = one->ai_next) {
        fd = socket(one->ai_family, one->ai_socktype, one->ai_protocol);
        if (fd >= 0 && connect(fd, one->ai_addr, one->ai_addrlen) == 0) break;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    fd < 0 ? say_error("connect") : converse(fd);
}

static void connect_name(const char *argument) { (void)argument, by_name("echo.shop.internal"); }
static void happy_eyeballs(const char *argument) { (void)argument, by_name("dual.shop.internal"); }

static void many(const char *argument) {
    (void)argument;
    enum { COUNT = 50 };
    struct pollfd sockets[COUNT];
    int connected = 0, refused = 0, other = 0;
    for (int i = 0; i < COUNT; i++) {
        struct sockaddr_in to = address(ECHO, i % 2 ? CLOSED_PORT : ECHO_PORT);
        sockets[i] = (struct pollfd){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), .events = POLLOUT};
        if (connect(sockets[i].fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
            return say_error("connect");
    }
    while (connected + refused + other < COUNT) {
        if (poll(sockets, COUNT, -1) < 0) return say_error("poll");
        for (int i = 0; i < COUNT; i++) {
            if (sockets[i].fd < 0 || !sockets[i].revents) continue;
            int error = so_error(sockets[i].fd);
            *(error == 0 ? &connected : error == ECONNREFUSED ? &refused : &other) += 1;
            close(sockets[i].fd);
            sockets[i].fd = -1;
        }
    }
    say("%d connected, %d refused, %d other", connected, refused, other);
}

const struct behaviour tcp[] = {
    {"connect", blocking},
    {"connect-six", six},
    {"connect-nonblocking", nonblocking},
    {"connect-name", connect_name},
    {"refused", refused},
    {"refused-nonblocking", refused_nonblocking},
    {"so-error", error_is_taken},
    {"happy-eyeballs", happy_eyeballs},
    {"many", many},
    {NULL, NULL},
};
