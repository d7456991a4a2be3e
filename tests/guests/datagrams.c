// As datagrams.py, with recvmsg and sendmsg.
// usage: datagrams PORT
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    static char data[65536], answer[66000];
    int server = socket(AF_INET6, SOCK_DGRAM, 0), no = 0;
    struct sockaddr_in6 own = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(argv[argc - 1]))}, from;
    setsockopt(server, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (bind(server, (struct sockaddr *)&own, sizeof own)) return perror("bind"), 1;
    for (;;) {
        struct iovec part = {data, sizeof data};
        struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1};
        ssize_t length = recvmsg(server, &message, 0);
        if (length < 0) return perror("recvmsg"), 1;
        char name[INET6_ADDRSTRLEN];
        inet_ntop(AF_INET6, &from.sin6_addr, name, sizeof name);
        char *shown = strncmp(name, "::ffff:", 7) ? name : name + 7;
        int head = sprintf(answer, "local %s:%d ", shown, ntohs(from.sin6_port));
        memcpy(answer + head, data, length);
        printf("got %s:%d %zd\n", shown, ntohs(from.sin6_port), length);
        fflush(stdout);
        part = (struct iovec){answer, head + length};
        if (sendmsg(server, &message, 0) < 0) return perror("sendmsg"), 1;
    }
}
