// killed WHAT COUNT DIRECTORY: children that are killed in the middle of WHAT, while the rest of the tree is served on.
// Waits for DIRECTORY/go after a few of them and for DIRECTORY/end after COUNT more. With COUNT 0, it does WHAT itself.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ECHO "10.77.0.40"
#define ECHO_PORT 7000
// A listener whose backlog is full: who connects waits.
#define FULL_PORT 7100

static const char *what;
static int listener = -1;
static pid_t inpod[8];
static int inpods;

static void say(const char *text) { dprintf(1, "%s\n", text); }

static void must(int holds, const char *text) {
    if (!holds) {
        dprintf(1, "failed: %s: %s\n", text, strerror(errno));
        _exit(1);
    }
}

static int dial(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ECHO, &to.sin_addr);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    must(s >= 0, "socket");
    must(connect(s, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    return s;
}

static int read_file(void) {
    char text[64] = {0};
    int f = open("/data/conformance/text", O_RDONLY);
    must(f >= 0, "open");
    must(read(f, text, sizeof text) == 19, "read");
    return f;
}

static void served(void) {
    close(read_file());
    int s = dial(ECHO_PORT);
    char back[4] = {0};
    must(send(s, "ping", 4, 0) == 4, "send");
    must(recv(s, back, 4, MSG_WAITALL) == 4 && !memcmp(back, "ping", 4), "echo");
    close(s);
}

static void look_up(void) {
    struct addrinfo *found, hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    getaddrinfo("echo.shop.internal", "7000", &hints, &found);
}

static void *waits_to_connect(void *none) { return dial(FULL_PORT), none; }
static void *waits_to_accept(void *none) { return accept(listener, NULL, NULL), none; }
static void *is_busy(void *none) {
    for (;;)
        served();
    return none;
}

// Returns only where nothing holds it up.
static void call(void) {
    if (!strcmp(what, "connect")) {
        dial(FULL_PORT);
    } else if (!strcmp(what, "accept")) {
        accept(listener, NULL, NULL);
    } else if (!strcmp(what, "resolve")) {
        look_up();
    } else if (!strcmp(what, "stopped-open")) {
        read_file();
    } else if (!strcmp(what, "stopped-connect")) {
        dial(ECHO_PORT);
    } else if (!strcmp(what, "threads")) {
        void *(*threads[])(void *) = {waits_to_connect, waits_to_accept, is_busy, is_busy};
        for (unsigned i = 0; i < 4; i++) {
            pthread_t thread;
            must(pthread_create(&thread, NULL, threads[i], NULL) == 0, "pthread_create");
        }
        usleep(rand() % 4000);
        _exit(0);
    } else {
        must(0, "no such call");
    }
}

// The supervisor and its server: the parent, and the parent's other children.
static void find_inpod(void) {
    char path[320], text[4096];
    inpod[inpods++] = getppid();
    snprintf(path, sizeof path, "/proc/%d/task", getppid());
    DIR *tasks = opendir(path);
    must(tasks != NULL, "/proc");
    for (struct dirent *task; (task = readdir(tasks));) {
        if (task->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/children", getppid(), task->d_name);
        FILE *children = fopen(path, "r");
        if (children && fgets(text, sizeof text, children))
            for (char *word = strtok(text, " \n"); word && inpods < 8; word = strtok(NULL, " \n"))
                if (atoi(word) != getpid())
                    inpod[inpods++] = atoi(word);
        if (children)
            fclose(children);
    }
    closedir(tasks);
}

static void signal_inpod(int signal) {
    for (int i = 0; i < inpods; i++)
        must(kill(inpod[i], signal) == 0, "kill of inpod");
}

static void one(int number) {
    int ready[2], stops = !strncmp(what, "stopped-", 8), status;
    char byte;
    must(pipe(ready) == 0, "pipe");
    if (stops)
        signal_inpod(SIGSTOP);
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        srand(number);
        must(write(ready[1], "", 1) == 1, "write");
        call();
        _exit(0);
    }
    close(ready[1]);
    must(read(ready[0], &byte, 1) == 1, "read of a pipe");
    close(ready[0]);
    // Somewhere on its way into the call, in it, or with the answer under way.
    usleep(rand() % 4000);
    if (strcmp(what, "threads"))
        kill(child, SIGKILL);
    if (stops)
        signal_inpod(SIGCONT);
    must(waitpid(child, &status, 0) == child, "waitpid");
    must(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "the child's call");
}

// Somebody else of the tree, who must not notice.
static volatile int *resting;
static pid_t busy;

static void begin_busy(void) {
    resting = mmap(NULL, sizeof *resting, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(resting != MAP_FAILED, "mmap");
    busy = fork();
    must(busy >= 0, "fork");
    while (busy == 0) {
        if (!*resting)
            served();
        usleep(2000);
    }
}

static void end_busy(void) {
    int status;
    kill(busy, SIGTERM);
    must(waitpid(busy, &status, 0) == busy && WIFSIGNALED(status), "the other process");
}

static void rest(const char *text) {
    *resting = 1;
    say(text);
}

static void wait_for(const char *directory, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    while (access(path, F_OK) != 0)
        usleep(5000);
    *resting = 0;
}

static void some(int count) {
    for (int number = 0; number < count; number++) {
        one(number);
        if (number % 10 == 0)
            served();
    }
    served();
}

int main(int count, char **words) {
    if (count < 4 || count > 5)
        return 2;
    what = words[1];
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(count == 5 ? atoi(words[4]) : 0)};
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (count == 4)
        inet_pton(AF_INET, "127.0.0.1", &any.sin_addr);
    must(bind(listener, (struct sockaddr *)&any, sizeof any) == 0 && listen(listener, 9) == 0, "listen");
    if (atoi(words[2]) == 0) {
        served();
        say("calling");
        call();
        say("returned");
        return 3;
    }
    find_inpod();
    begin_busy();
    some(20);
    rest("ready");
    wait_for(words[3], "go");
    some(atoi(words[2]));
    rest("done");
    wait_for(words[3], "end");
    served();
    end_busy();
    say("served to the end");
    return 0;
}
