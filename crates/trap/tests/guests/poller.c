// Non-blocking connects that fail, each watched by a second thread in a tight loop: as poll, epoll (edge-triggered) or
// send. What no event loop may ever see is counted; the last line says how often each errno came by SO_ERROR.
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { POLL = 'p', EPOLL = 'e', SEND = 's' };

static int way, epoll;
static atomic_int watched = -1;
// Writable without an error; connected; written; a successful SO_ERROR; an errno of send that no kernel says.
static int writable, connected, written, no_error, strange;
static int by_errno[256];

static void wrong_event(unsigned events) {
    if ((events & POLLOUT) && !(events & (POLLERR | POLLHUP))) writable++;
}

// Looks once; whether the connect is over.
static int look(int s) {
    struct pollfd p = {s, POLLIN | POLLOUT, 0};
    struct epoll_event e;
    switch (way) {
    case POLL:
        if (poll(&p, 1, 0) < 1) return 0;
        wrong_event(p.revents);
        return 1;
    case EPOLL:
        if (epoll_wait(epoll, &e, 1, 0) < 1) return 0;
        wrong_event(e.events);
        return 1;
    default:
        if (send(s, "x", 1, MSG_NOSIGNAL) >= 0) return ++written;
        if (errno == EAGAIN) return 0;
        // Between two steps of a refusal ECONNRESET may be read (ARCHITECTURE.md, Known limits).
        strange += errno != ECONNREFUSED && errno != ECONNRESET && errno != EPIPE;
        return 1;
    }
}

static void *watch(void *nothing) {
    for (;;) {
        int s = atomic_load(&watched);
        if (s == -2) return nothing;
        if (s < 0 || !look(s)) continue;
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        connected += getpeername(s, (void *)&peer, &length) == 0;
        int error = -1;
        length = sizeof error;
        getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &length);
        no_error += error == 0;
        by_errno[error & 255]++;
        atomic_store(&watched, -1);
    }
}

int main(int count, char **arguments) {
    way = arguments[1][0];
    int rounds = atoi(arguments[2]);
    epoll = epoll_create1(0);
    pthread_t watcher;
    pthread_create(&watcher, NULL, watch, NULL);
    for (int i = 0; i < rounds; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(80)};
        inet_pton(AF_INET, arguments[3 + i % (count - 3)], &to.sin_addr);
        int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(s, (void *)&to, sizeof to) == 0 || errno != EINPROGRESS) {
            printf("connect: %s\n", strerror(errno));
            return 1;
        }
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
        if (way == EPOLL) epoll_ctl(epoll, EPOLL_CTL_ADD, s, &e);
        atomic_store(&watched, s);
        while (atomic_load(&watched) == s) usleep(100);
        close(s);
    }
    atomic_store(&watched, -2);
    pthread_join(watcher, NULL);
    printf("writable %d connected %d written %d no error %d strange %d\n", writable, connected, written, no_error,
           strange);
    for (int i = 0; i < 256; i++)
        if (by_errno[i]) printf("%d: %d ", i, by_errno[i]);
    printf("\n");
    return 0;
}
