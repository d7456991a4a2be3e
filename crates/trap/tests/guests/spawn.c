// posix_spawn with a directory for the child: SPAWN DIRECTORY PROGRAM ARGUMENTS.
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int main(int c, char **v) {
    (void)c;
    posix_spawn_file_actions_t a;
    posix_spawn_file_actions_init(&a);
    int e = posix_spawn_file_actions_addopen(&a, 0, "/data/config", O_RDONLY, 0);
    if (!e) e = posix_spawn_file_actions_addchdir_np(&a, v[1]);
    pid_t pid;
    if (!e) e = posix_spawnp(&pid, v[2], &a, 0, v + 2, environ);
    posix_spawn_file_actions_destroy(&a);
    if (e) return printf("%s\n", strerror(e)), 0;
    int status;
    waitpid(pid, &status, 0);
    char *here = getcwd(0, 0);
    printf("%d %s\n", status, here && *here == '/' ? "/" : "?");
    return 0;
}
