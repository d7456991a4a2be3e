// Creates 2000 files with O_EXCL while a timer interrupts a thousand times a second.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <unistd.h>

static void nothing(int s) { (void)s; }

int main(int c, char **v) {
    (void)c;
    struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, 0);
    struct itimerval timer = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &timer, 0);
    int created = 0, existed = 0;
    char path[4096];
    for (int i = 0; i < 2000; i++) {
        snprintf(path, sizeof path, "%s/exclusive-%d", v[1], i);
        int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
        if (fd >= 0) created++, close(fd);
        else if (errno == EEXIST) existed++;
        else return perror("open"), 1;
    }
    for (int i = 0; i < 2000; i++) {
        snprintf(path, sizeof path, "%s/exclusive-%d", v[1], i);
        unlink(path);
    }
    printf("created %d, existed %d\n", created, existed);
    return 0;
}
