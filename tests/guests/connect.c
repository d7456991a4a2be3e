/* Connects as told, and prints one line for each thing seen.
 *
 * connect blocking IP PORT      "connected PEER" or the error's name
 * connect nonblocking IP PORT   the same by poll, SO_ERROR and getpeername, and "early" when the socket was writable or
 *                               had a peer before that
 * connect many IP PORT N        N at once: how many connected, and the milliseconds
 * connect own                   to a listener of this process
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in address(const char *ip, const char *port) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    if (inet_pton(AF_INET, ip, &in.sin_addr) != 1) exit(9);
    return in;
}

static int fail(int error) {
    puts(strerrorname_np(error));
    return 0;
}

static int peer(int fd) {
    struct sockaddr_in in;
    socklen_t length = sizeof in;
    if (getpeername(fd, (struct sockaddr *)&in, &length) < 0) return fail(errno);
    char text[64];
    printf("connected %s:%d\n", inet_ntop(AF_INET, &in.sin_addr, text, sizeof text), ntohs(in.sin_port));
    return 0;
}

static int blocking(struct sockaddr_in to) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) return fail(errno);
    return peer(fd);
}

static int so_error(int fd) {
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0) return errno;
    return error;
}

static int nonblocking(struct sockaddr_in to) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return puts("at once"), 0;
    if (errno != EINPROGRESS) return fail(errno);
    for (;;) {
        struct sockaddr_in in;
        socklen_t length = sizeof in;
        int had_peer = getpeername(fd, (struct sockaddr *)&in, &length) == 0;
        struct pollfd entry = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
        poll(&entry, 1, 0);
        if (entry.revents == 0) {
            if (had_peer) puts("early peer");
            int again = connect(fd, (struct sockaddr *)&to, sizeof to) < 0 ? errno : 0;
            /* Between the two looks it may have been decided. */
            if (again != EALREADY) {
                if (again && again != EISCONN) return fail(again);
                return peer(fd);
            }
            poll(&entry, 1, -1);
        }
        int error = so_error(fd);
        if (error) {
            if (!(entry.revents & POLLERR)) printf("writable before it failed: %x\n", entry.revents);
            return fail(error);
        }
        if (entry.revents & POLLOUT) return peer(fd);
        printf("woken for %x\n", entry.revents);
        return 0;
    }
}

static int many(struct sockaddr_in to, int count) {
    struct pollfd entries[256];
    struct timespec begun, ended;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    for (int i = 0; i < count; i++) {
        entries[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        entries[i].events = POLLOUT;
        if (connect(entries[i].fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) return fail(errno);
    }
    int connected = 0, failed = 0;
    while (connected + failed < count) {
        if (poll(entries, count, -1) < 0) return fail(errno);
        for (int i = 0; i < count; i++) {
            if (entries[i].fd < 0 || !entries[i].revents) continue;
            if (so_error(entries[i].fd)) failed++;
            else connected++;
            entries[i].fd = -1;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%d connected, %d failed\n", connected, failed);
    fprintf(stderr, "%ld ms\n", (ended.tv_sec - begun.tv_sec) * 1000 + (ended.tv_nsec - begun.tv_nsec) / 1000000);
    return 0;
}

static int own(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in in = address("127.0.0.1", "0");
    socklen_t length = sizeof in;
    if (bind(listener, (struct sockaddr *)&in, sizeof in) < 0 || listen(listener, 8) < 0) return fail(errno);
    getsockname(listener, (struct sockaddr *)&in, &length);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&in, sizeof in) < 0) return fail(errno);
    struct sockaddr_in from, here;
    socklen_t from_length = sizeof from, here_length = sizeof here;
    int accepted = accept(listener, (struct sockaddr *)&from, &from_length);
    if (accepted < 0) return fail(errno);
    getsockname(fd, (struct sockaddr *)&here, &here_length);
    puts(from.sin_port == here.sin_port && from.sin_addr.s_addr == here.sin_addr.s_addr ? "own" : "another's");
    return 0;
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *what = count > 1 ? arguments[1] : "";
    if (!strcmp(what, "own")) return own();
    if (count < 4) return 9;
    struct sockaddr_in to = address(arguments[2], arguments[3]);
    if (!strcmp(what, "blocking")) return blocking(to);
    if (!strcmp(what, "nonblocking")) return nonblocking(to);
    if (!strcmp(what, "many") && count > 4) return many(to, atoi(arguments[4]));
    return 9;
}
