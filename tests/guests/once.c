/* Under a 1 kHz timer signal, restarted calls and those that the program restarts itself:
 *
 * once create DIRECTORY N   creates N files with O_EXCL, each must be new exactly once
 * once accept PORT N        accepts N connections, each must be another one; prints their first bytes
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t ticks;
static void tick(int number) { (void)number; ticks++; }

static void start(int flags) {
    struct sigaction action = {.sa_handler = tick, .sa_flags = flags};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &every, NULL);
}

static int create(const char *directory, int count) {
    int exists = 0, other = 0;
    for (int i = 0; i < count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%d", directory, i);
        int fd;
        while ((fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600)) < 0 && errno == EINTR) {}
        if (fd < 0 && errno == EEXIST) exists++;
        else if (fd < 0) other++;
        else close(fd);
    }
    printf("exists %d other %d\n", exists, other);
    return 0;
}

static int serve(const char *port, int count) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    if (bind(listener, (struct sockaddr *)&in, sizeof in) < 0 || listen(listener, 128) < 0) return perror("listen"), 1;
    puts("listening");
    for (int i = 0; i < count; i++) {
        int fd;
        while ((fd = accept(listener, NULL, NULL)) < 0 && errno == EINTR) {}
        if (fd < 0) return perror("accept"), 1;
        char text[64] = "";
        size_t length = 0;
        while (length < sizeof text - 1) {
            ssize_t got = read(fd, text + length, sizeof text - 1 - length);
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) break;
            length += got;
        }
        text[length] = 0;
        printf("got %s\n", text);
        close(fd);
    }
    return 0;
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count < 4) return 9;
    start(getenv("RESTART") ? SA_RESTART : 0);
    int status = !strcmp(arguments[1], "create") ? create(arguments[2], atoi(arguments[3])) : serve(arguments[2], atoi(arguments[3]));
    fprintf(stderr, "%d ticks\n", (int)ticks);
    return status;
}
