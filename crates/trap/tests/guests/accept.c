// Accepts 200 clients, each of which says its number, while a timer interrupts a thousand times a second.
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static void nothing(int s) { (void)s; }

int main(int c, char **v) {
    (void)c;
    struct sigaction action = {.sa_handler = nothing, .sa_flags = strcmp(v[2], "restart") ? 0 : SA_RESTART};
    sigaction(SIGALRM, &action, 0);
    int l = socket(AF_INET, SOCK_STREAM, 0), yes = 1, seen[200] = {0}, count = 0, distinct = 0;
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(v[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(l, (void *)&a, sizeof a)) return perror("bind"), 1;
    struct itimerval timer = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &timer, 0);
    while (listen(l, 1000)) if (errno != EINTR) return perror("listen"), 1;
    while (count < 200) {
        socklen_t length = sizeof a;
        int s = accept(l, (void *)&a, &length);
        if (s < 0 && errno == EINTR) continue;
        if (s < 0) return perror("accept"), 1;
        char text[16] = {0};
        size_t have = 0;
        ssize_t n;
        while ((n = read(s, text + have, sizeof text - 1 - have)) > 0 || (n < 0 && errno == EINTR)) if (n > 0) have += n;
        int number = atoi(text);
        if (ntohs(a.sin_port) != 20000 + number) return printf("client %d has port %d\n", number, ntohs(a.sin_port)), 1;
        if (!seen[number]++) distinct++;
        count++;
        close(s);
    }
    memset(&timer, 0, sizeof timer);
    setitimer(ITIMER_REAL, &timer, 0);
    printf("accepted %d, distinct %d\n", count, distinct);
    return 0;
}
