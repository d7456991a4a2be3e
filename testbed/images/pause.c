/* Does nothing for as long as it lives, and reaps the children that others leave to it: the first process of a pod's
 * sandbox, and of the node's process namespace. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int signal) {
    (void)signal;
    _exit(0);
}

static void reap(int signal) {
    (void)signal;
    while (waitpid(-1, NULL, WNOHANG) > 0) {}
}

int main(void) {
    struct sigaction leaving = {.sa_handler = leave};
    struct sigaction reaping = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP};
    if (sigaction(SIGINT, &leaving, NULL) || sigaction(SIGTERM, &leaving, NULL) || sigaction(SIGCHLD, &reaping, NULL))
        return 1;
    for (;;) pause();
}
