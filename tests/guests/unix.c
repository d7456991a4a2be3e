// Says 100000 bytes to a unix socket and counts what comes back; then the errors of paths that are nobody's.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int to(const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strncpy(a.sun_path, path, sizeof a.sun_path - 1);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    return connect(s, (void *)&a, sizeof a) ? -errno : s;
}

int main(int count, char **paths) {
    int s = to(paths[1]);
    if (s < 0) {
        printf("connect: %s\n", strerror(-s));
        return 1;
    }
    static char bytes[100000];
    for (size_t sent = 0; sent < sizeof bytes;) {
        ssize_t n = write(s, bytes + sent, sizeof bytes - sent);
        if (n < 0) return 2;
        sent += n;
    }
    shutdown(s, SHUT_WR);
    long got = 0, n;
    char first = 0;
    while ((n = read(s, bytes, sizeof bytes)) > 0) {
        if (!got) first = bytes[0];
        got += n;
    }
    printf("%ld %c", got, first);
    for (int i = 2; i < count; i++) printf(" %d", -to(paths[i]));
    printf("\n");
    return 0;
}
