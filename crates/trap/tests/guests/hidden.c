// Connects, openly or after hiding from other processes.
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

int main(int c, char **v) {
    (void)c;
    if (!strcmp(v[1], "hidden")) prctl(PR_SET_DUMPABLE, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(80)};
    inet_pton(AF_INET, "10.9.0.1", &a.sin_addr);
    if (connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&a, sizeof a)) printf("%d\n", errno);
    else printf("connected\n");
    return 0;
}
