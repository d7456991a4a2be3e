// sendmmsg, recvmsg and recvmmsg to two destinations; a thread that waits in recvfrom before anything was sent.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in to(const char *ip) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(53)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}

static int early;

static void *reader(void *nothing) {
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    char data[16];
    recvfrom(early, data, sizeof data, 0, (void *)&from, &length);
    printf("reader %s\n", inet_ntoa(from.sin_addr));
    return nothing;
}

int main(void) {
    early = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in any = {.sin_family = AF_INET};
    bind(early, (void *)&any, sizeof any);
    pthread_t thread;
    pthread_create(&thread, 0, reader, 0);

    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in names[3] = {to("10.9.0.1"), to("10.9.0.2"), to("10.9.0.1")};
    struct mmsghdr messages[3];
    struct iovec parts[3];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < 3; i++) {
        parts[i] = (struct iovec){"hello", 5};
        messages[i].msg_hdr = (struct msghdr){.msg_name = &names[i], .msg_namelen = 16, .msg_iov = &parts[i], .msg_iovlen = 1};
    }
    printf("sent %d\n", sendmmsg(s, messages, 3, 0));
    int ones = 0, twos = 0;
    for (int i = 0; i < 3; i++) {
        struct sockaddr_in from;
        char data[2][4];
        struct iovec split[2] = {{data[0], 2}, {data[1], 4}};
        struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = split, .msg_iovlen = 2};
        if (recvmsg(s, &m, 0) != 5 || memcmp(data[0], "he", 2) || memcmp(data[1], "llo", 3)) return 1;
        if (!strcmp(inet_ntoa(from.sin_addr), "10.9.0.1")) ones++; else twos++;
    }
    if (ones == 2 && twos == 1) printf("10.9.0.1 10.9.0.2 10.9.0.1\n");
    fflush(stdout);
    usleep(50000);
    sendto(early, "x", 1, 0, (void *)&names[0], 16);
    pthread_join(thread, 0);

    sendmmsg(s, messages, 2, 0);
    int got = 0;
    while (got < 2) {
        struct mmsghdr in[2];
        struct sockaddr_in from[2];
        char data[2][8];
        struct iovec room[2] = {{data[0], 8}, {data[1], 8}};
        memset(in, 0, sizeof in);
        for (int i = 0; i < 2; i++) in[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = 16, .msg_iov = &room[i], .msg_iovlen = 1};
        int n = recvmmsg(s, in, 2, MSG_WAITFORONE, 0);
        if (n < 1) return perror("recvmmsg"), 1;
        for (int i = 0; i < n; i++) if (in[i].msg_len == 5 && ntohs(from[i].sin_port) == 53) got++;
    }
    printf("batch %d\n", got);
    return 0;
}
