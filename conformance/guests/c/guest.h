/* What the behaviours share. The world they find is described in conformance/src/world.rs. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef RAW
#include "raw.h"
#endif

#define FILES "/data/conformance/"
#define ECHO "10.77.0.40"
#define ECHO_PORT 7000
#define ECHO_SIX "fd00:77::40"
#define CLOSED_PORT 9
#define POD "10.77.0.10"
#define POD_PORT 8080
#define GREETING "hello from the pod"

/* One behaviour; `argument` is what follows `=` in its name on the command line, or "". */
struct behaviour {
    const char *name;
    void (*run)(const char *argument);
};
extern const struct behaviour files[], names[], tcp[], more_tcp[], datagrams[], local[], children[], serving[];
extern char **environ;

/* The program itself, for children that are to be served too. */
extern const char *self;

/* A line of output. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The errno's name, for instance ENOENT. */
const char *error_name(int error);
/* Prints `what` and the errno's name. */
void say_error(const char *what);

/* The first line of a file, or NULL. Static storage. */
char *first_line(int directory, const char *path);

struct sockaddr_in address(const char *ip, int port);
/* ip:port or [ip]:port. Static storage for each of the last four. */
const char *shown(const void *address);
const char *peer_of(int fd);

/* A connected blocking socket, or -1. */
int dial(const char *ip, int port);
/* Sends `text` and returns what comes back, for as long as it is. Static storage. */
char *talk(int fd, const char *text);
/* Prints the peer, an echoed `ping`, and `end` when the end comes after this side's. Closes. */
void converse(int fd);
int write_all(int fd, const char *bytes, size_t length);
int so_error(int fd);
