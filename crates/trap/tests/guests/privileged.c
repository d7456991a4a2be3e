// Listens on port 81 and says where it believes to be.
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>

int main(void) {
    int l = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(81), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    if (bind(l, (void *)&a, sizeof a) || listen(l, 5)) return perror("bind"), 1;
    getsockname(l, (void *)&a, &length);
    printf("listening at %d\n", ntohs(a.sin_port));
    return 0;
}
