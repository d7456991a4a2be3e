// Answers each datagram once with who sent it, taken by recvfrom and by recvmmsg in turns; ends after as many as were asked
// for. Dual stack.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int count = argc > 2 ? atoi(argv[2]) : 1;
    int s = socket(AF_INET6, SOCK_DGRAM, 0), no = 0;
    setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    struct sockaddr_in6 own = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(argv[1]))};
    if (bind(s, (struct sockaddr *)&own, sizeof own)) return perror("bind"), 1;
    for (int i = 0; i < count; i++) {
        char data[99], name[64], answer[200];
        struct sockaddr_in6 from;
        ssize_t length;
        socklen_t size = sizeof from;
        if (i % 2) {
            struct iovec part = {data, sizeof data};
            struct mmsghdr batch = {.msg_hdr = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1}};
            if (recvmmsg(s, &batch, 1, 0, NULL) != 1) return perror("recvmmsg"), 1;
            length = batch.msg_len;
            size = batch.msg_hdr.msg_namelen;
        } else {
            length = recvfrom(s, data, sizeof data, 0, (struct sockaddr *)&from, &size);
            if (length < 0) return perror("recvfrom"), 1;
        }
        inet_ntop(AF_INET6, &from.sin6_addr, name, sizeof name);
        int n = snprintf(answer, sizeof answer, "%s %d %.*s", name, ntohs(from.sin6_port), (int)length, data);
        if (sendto(s, answer, n, 0, (struct sockaddr *)&from, size) != n) return perror("sendto"), 1;
    }
    usleep(200000);
    return 0;
}
