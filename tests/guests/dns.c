/* dns IP NAME connected|unconnected: asks a name server for the A record by hand, prints the address and who answered. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static size_t question(unsigned char *out, const char *name) {
    const unsigned char head[12] = {0x12, 0x34, 1, 0, 0, 1};
    memcpy(out, head, sizeof head);
    size_t at = sizeof head;
    while (*name) {
        size_t length = strcspn(name, ".");
        out[at++] = length;
        memcpy(out + at, name, length);
        at += length;
        name += length + (name[length] == '.');
    }
    memcpy(out + at, "\0\0\1\0\1", 5);
    return at + 5;
}

int main(int count, char **arguments) {
    if (count < 4) return 9;
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(53)}, from = {0};
    inet_pton(AF_INET, arguments[1], &server.sin_addr);
    unsigned char packet[512];
    size_t length = question(packet, arguments[2]);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct timeval patience = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    socklen_t from_length = sizeof from;
    ssize_t got;
    if (!strcmp(arguments[3], "connected")) {
        if (connect(fd, (struct sockaddr *)&server, sizeof server) < 0) return perror("connect"), 1;
        if (send(fd, packet, length, 0) < 0) return perror("send"), 1;
        got = recv(fd, packet, sizeof packet, 0);
        getpeername(fd, (struct sockaddr *)&from, &from_length);
    } else {
        if (sendto(fd, packet, length, 0, (struct sockaddr *)&server, sizeof server) < 0) return perror("sendto"), 1;
        got = recvfrom(fd, packet, sizeof packet, 0, (struct sockaddr *)&from, &from_length);
    }
    if (got < 16) return perror("no answer"), 1;
    char text[64], by[64];
    printf("%s from %s:%d\n", inet_ntop(AF_INET, packet + got - 4, text, sizeof text),
           inet_ntop(AF_INET, &from.sin_addr, by, sizeof by), ntohs(from.sin_port));
    return 0;
}
