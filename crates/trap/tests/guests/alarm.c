// A blocking connect and a signal in the middle of it.
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static void nothing(int s) { (void)s; }

int main(int c, char **v) {
    (void)c;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(80)};
    inet_pton(AF_INET, "10.9.0.1", &a.sin_addr);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (!strcmp(v[1], "timeout")) {
        struct timeval t = {0, 100000};
        setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
        printf("%d\n", connect(s, (void *)&a, sizeof a) ? errno : 0);
        return 0;
    }
    struct sigaction action = {.sa_handler = nothing, .sa_flags = strcmp(v[1], "restart") ? 0 : SA_RESTART};
    sigaction(SIGALRM, &action, 0);
    struct itimerval timer = {{0, strcmp(v[1], "restart") ? 0 : 20000}, {0, 50000}};
    setitimer(ITIMER_REAL, &timer, 0);
    int result = connect(s, (void *)&a, sizeof a);
    if (result && errno == EINTR) {
        printf("interrupted\n");
        struct pollfd p = {s, POLLOUT, 0};
        int error = -1;
        socklen_t length = sizeof error;
        poll(&p, 1, 20000);
        getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &length);
        result = error;
    }
    memset(&timer, 0, sizeof timer);
    setitimer(ITIMER_REAL, &timer, 0);
    if (result) return perror("connect"), 1;
    if (write(s, "x", 1) == 1) printf("connected\n");
    return 0;
}
