/* http HOST PORT: resolves the name, asks for `/` and prints the answer's body. */
#define _GNU_SOURCE
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **arguments) {
    if (count < 3) return 9;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(arguments[1], arguments[2], &hints, &found);
    if (error) return fprintf(stderr, "%s: %s\n", arguments[1], gai_strerror(error)), 1;
    int fd = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
    if (connect(fd, found->ai_addr, found->ai_addrlen) < 0) return perror("connect"), 1;
    dprintf(fd, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", arguments[1]);
    static char answer[65536];
    size_t length = 0;
    ssize_t got;
    while ((got = read(fd, answer + length, sizeof answer - 1 - length)) > 0) length += got;
    if (got < 0) return perror("read"), 1;
    char *body = strstr(answer, "\r\n\r\n");
    fputs(body ? body + 4 : "no answer", stdout);
    return 0;
}
