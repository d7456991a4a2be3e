/* What is done with a connection: names, duplicates, descriptors, much data, signals. */
#include "guest.h"

/* The service says in its answer from where it was called. */
static void socket_names(const char *argument) {
    (void)argument;
    int fd = dial(POD, POD_PORT);
    if (fd < 0) return say_error("connect");
    say("peer %s", peer_of(fd));
    struct sockaddr_in here;
    socklen_t length = sizeof here;
    if (getsockname(fd, (struct sockaddr *)&here, &length) < 0) return say_error("getsockname");
    const char *request = "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    char answer[4096], wanted[128];
    write_all(fd, request, strlen(request));
    size_t got = 0;
    ssize_t more;
    while ((more = read(fd, answer + got, sizeof answer - 1 - got)) > 0) got += more;
    answer[got] = 0;
    close(fd);
    snprintf(wanted, sizeof wanted, "\nclient=%s\n", shown(&here));
    say(strstr(answer, wanted) ? "the server saw this address" : "the server saw another address");
}

static void duplicate(const char *argument) {
    (void)argument;
    int fd = dial(ECHO, ECHO_PORT);
    if (fd < 0) return say_error("connect");
    int other = dup(fd), third = fcntl(fd, F_DUPFD_CLOEXEC, 50);
    close(fd);
    say("%s", talk(other, "ping"));
    close(other);
    converse(third);
}

static void fork_it(const char *argument) {
    (void)argument;
    int fd = dial(ECHO, ECHO_PORT);
    if (fd < 0) return say_error("connect");
    pid_t child = fork();
    if (child == 0) {
        say("child: %s", talk(fd, "ping"));
        close(fd);
        int own = dial(ECHO, ECHO_PORT);
        own < 0 ? say_error("own connect") : say("own: %s", talk(own, "ping"));
        _exit(0);
    }
    waitpid(child, NULL, 0);
    converse(fd);
}

static void *in_thread(void *argument) {
    int fd = dial(ECHO, ECHO_PORT);
    char byte = 'x', back = 0;
    if (fd >= 0 && write_all(fd, &byte, 1) == 0 && read(fd, &back, 1) == 1 && back == 'x') *(int *)argument = 1;
    int file = open(FILES "text", O_RDONLY);
    if (file < 0) *(int *)argument = 0;
    close(file);
    close(fd);
    return NULL;
}

static void threads(const char *argument) {
    (void)argument;
    enum { COUNT = 8 };
    pthread_t all[COUNT];
    int echoed[COUNT] = {0}, sum = 0;
    for (int i = 0; i < COUNT; i++) pthread_create(&all[i], NULL, in_thread, &echoed[i]);
    for (int i = 0; i < COUNT; i++) pthread_join(all[i], NULL), sum += echoed[i];
    say("%d echoes", sum);
}

/* With nothing open, descriptors are counted from 0 (open(2): the lowest that is free). */
static void closed_descriptors(const char *argument) {
    (void)argument;
    int kept[3];
    for (int i = 0; i < 3; i++) kept[i] = fcntl(i, F_DUPFD_CLOEXEC, 200);
    for (int i = 0; i < 3; i++) close(i);
    int file = open(FILES "text", O_RDONLY);
    int socket_of = dial(ECHO, ECHO_PORT), copy = dup(file);
    char line[64] = "";
    const char *echoed = socket_of < 0 ? error_name(errno) : talk(socket_of, "ping");
    ssize_t length = read(copy, line, sizeof line - 1);
    line[strcspn(line, "\n")] = 0;
    for (int i = 0; i < 3; i++) dup2(kept[i], i), close(kept[i]);
    say("file %d, socket %d, copy %d", file, socket_of, copy);
    say("%s, %s", length > 0 ? line : "nothing read", echoed);
}

struct flow {
    int fd;
    size_t length;
};

static unsigned char pattern(size_t at) { return at * 2654435761u >> 24; }

static void *pour(void *argument) {
    const struct flow *flow = argument;
    char bytes[17321];
    for (size_t at = 0; at < flow->length;) {
        size_t length = flow->length - at < sizeof bytes ? flow->length - at : sizeof bytes;
        for (size_t i = 0; i < length; i++) bytes[i] = pattern(at + i);
        if (write_all(flow->fd, bytes, length) < 0) return NULL;
        at += length;
    }
    shutdown(flow->fd, SHUT_WR);
    return NULL;
}

/* Sends and receives at once, in pieces of odd sizes; how many bytes came back as they were sent. */
static size_t both_ways(int fd, size_t length) {
    struct flow flow = {fd, length};
    pthread_t writer;
    pthread_create(&writer, NULL, pour, &flow);
    char bytes[9973];
    size_t at = 0;
    for (;;) {
        ssize_t got = read(fd, bytes, sizeof bytes);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        for (ssize_t i = 0; i < got; i++, at++)
            if ((unsigned char)bytes[i] != pattern(at)) {
                shutdown(fd, SHUT_RDWR);
                pthread_join(writer, NULL);
                return at;
            }
    }
    pthread_join(writer, NULL);
    return at;
}

static void large(const char *argument) {
    (void)argument;
    int fd = dial(ECHO, ECHO_PORT);
    if (fd < 0) return say_error("connect");
    say("%zu bytes came back as they were sent", both_ways(fd, 8 << 20));
    close(fd);
}

static volatile sig_atomic_t ticks;
static void tick(int number) { (void)number, ticks++; }

/* What was interrupted may be under way, done, or not yet begun: asked again until there is an answer. */
static int dial_through_signals(int port) {
    struct sockaddr_in to = address(ECHO, port);
    int fd = socket(AF_INET, SOCK_STREAM, 0), error;
    while ((error = connect(fd, (struct sockaddr *)&to, sizeof to) < 0 ? errno : 0) == EINTR) {}
    if (error == EALREADY) {
        struct pollfd entry = {.fd = fd, .events = POLLOUT};
        while (poll(&entry, 1, -1) < 0 && errno == EINTR) {}
        error = so_error(fd);
    }
    if (error == EISCONN) error = 0;
    if (error == 0 && strcmp(peer_of(fd), ECHO ":7000")) error = ENOTCONN;
    if (error == 0) return fd;
    close(fd);
    errno = error;
    return -1;
}

static void interrupted(int flags) {
    struct sigaction action = {.sa_handler = tick, .sa_flags = flags}, before;
    sigaction(SIGALRM, &action, &before);
    struct itimerval every = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &every, NULL);
    int connected = 0, refused = 0, read_files = 0;
    for (int i = 0; i < 50; i++) {
        int fd = dial_through_signals(ECHO_PORT);
        if (fd < 0) say_error("connect");
        connected += fd >= 0;
        close(fd);
        fd = dial_through_signals(CLOSED_PORT);
        if (fd < 0 && errno != ECONNREFUSED) say_error("refused connect");
        refused += fd < 0 && errno == ECONNREFUSED;
        if (fd >= 0) close(fd);
        int file;
        while ((file = open(FILES "text", O_RDONLY)) < 0 && errno == EINTR) {}
        read_files += file >= 0;
        close(file);
    }
    int fd = dial_through_signals(ECHO_PORT);
    size_t moved = fd < 0 ? 0 : both_ways(fd, 4 << 20);
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);
    close(fd);
    say("%d connected, %d refused, %d opened, %zu bytes", connected, refused, read_files, moved);
    say(ticks > 10 ? "signals came" : "no signals");
}

static void interrupted_restart(const char *argument) { (void)argument, interrupted(SA_RESTART); }
static void interrupted_eintr(const char *argument) { (void)argument, interrupted(0); }

const struct behaviour more_tcp[] = {
    {"socket-names", socket_names},
    {"dup", duplicate},
    {"fork", fork_it},
    {"threads", threads},
    {"closed-descriptors", closed_descriptors},
    {"large", large},
    {"interrupted-restart", interrupted_restart},
    {"interrupted-eintr", interrupted_eintr},
    {NULL, NULL},
};
