/* Under a 1 kHz timer signal, restarted calls and those that the program restarts itself:
 *
 * once create DIRECTORY N   creates N files with O_EXCL, each must be new exactly once
 * once accept PORT N        accepts N connections, each must be another one; prints their first bytes
 * once bind IP N            binds N sockets, none may be bound already
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

static void start(void) {
    struct sigaction action = {.sa_handler = tick, .sa_flags = getenv("RESTART") ? SA_RESTART : 0};
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

static int bind_all(const char *ip, int count) {
    int failed = 0;
    struct sockaddr_in in = {.sin_family = AF_INET};
    inet_pton(AF_INET, ip, &in.sin_addr);
    for (int i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0), bound;
        while ((bound = bind(fd, (struct sockaddr *)&in, sizeof in)) < 0 && errno == EINTR) {}
        if (bound < 0 && failed++ == 0) perror("bind");
        close(fd);
    }
    printf("failed %d\n", failed);
    return 0;
}

static int serve(const char *port, int count) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    if (bind(listener, (struct sockaddr *)&in, sizeof in) < 0 || listen(listener, 128) < 0) return perror("listen"), 1;
    start();
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
    const char *what = arguments[1];
    int number = atoi(arguments[3]), status;
    if (!strcmp(what, "accept")) {
        /* It starts the timer when it listens: without SA_RESTART a signal may end any call that inpod answers. */
        status = serve(arguments[2], number);
    } else {
        start();
        status = !strcmp(what, "create") ? create(arguments[2], number) : bind_all(arguments[2], number);
    }
    fprintf(stderr, "%d ticks\n", (int)ticks);
    return status;
}
