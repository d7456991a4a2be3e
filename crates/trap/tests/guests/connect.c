// 50 non-blocking connects watched by epoll; then three that fail in different ways, blocking.
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in to(const char *ip) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(80)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}

int main(void) {
    int epoll = epoll_create1(0), early = 0, done = 0;
    struct sockaddr_in a = to("10.9.0.1");
    struct epoll_event e;
    for (int i = 0; i < 50; i++) {
        int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(s, (void *)&a, sizeof a) == 0 || errno != EINPROGRESS) early++;
        e = (struct epoll_event){.events = EPOLLOUT | EPOLLET, .data.fd = s};
        epoll_ctl(epoll, EPOLL_CTL_ADD, s, &e);
    }
    printf("early %d\n", early);
    while (done < 50 && epoll_wait(epoll, &e, 1, 20000) == 1) {
        int error = -1;
        socklen_t length = sizeof error;
        getsockopt(e.data.fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error == 0 && write(e.data.fd, "x", 1) == 1) done++;
    }
    printf("connected %d\n", done);
    const char *bad[] = {"10.9.0.2", "10.9.0.3", "10.9.0.4"};
    for (int i = 0; i < 3; i++) {
        a = to(bad[i]);
        printf("%d%c", connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&a, sizeof a) ? errno : 0, i < 2 ? ' ' : '\n');
    }
    return 0;
}
