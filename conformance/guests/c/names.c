/* The resolver and the interfaces. */
#include "guest.h"

static void resolve(const char *name, int flags) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = flags}, *found;
    int error = getaddrinfo(name, NULL, &hints, &found);
    if (error == EAI_NONAME) return say("not found");
    if (error) return say("error %d", error);
    char text[64];
    say("%s", inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, sizeof text));
    freeaddrinfo(found);
}

static void by_server(const char *argument) { (void)argument, resolve("echo.shop.internal", 0); }
static void by_hosts(const char *argument) { (void)argument, resolve("stock.shop.internal", 0); }
static void by_search(const char *argument) { (void)argument, resolve("echo", 0); }
static void absent(const char *argument) { (void)argument, resolve("absent.shop.internal", 0); }
static void numeric(const char *argument) { (void)argument, resolve("10.1.2.3", AI_NUMERICHOST); }

static void interfaces(const char *argument) {
    (void)argument;
    struct ifaddrs *all;
    if (getifaddrs(&all) < 0) return say_error("getifaddrs");
    int found = 0;
    for (struct ifaddrs *one = all; one; one = one->ifa_next) {
        if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET || strcmp(one->ifa_name, "lo")) continue;
        const struct sockaddr_in *in = (const struct sockaddr_in *)one->ifa_addr;
        if (in->sin_addr.s_addr == htonl(INADDR_LOOPBACK)) found = 1;
    }
    freeifaddrs(all);
    say(found ? "lo 127.0.0.1" : "no lo");
}

const struct behaviour names[] = {
    {"resolve", by_server},
    {"resolve-hosts", by_hosts},
    {"resolve-search", by_search},
    {"resolve-absent", absent},
    {"resolve-numeric", numeric},
    {"interfaces", interfaces},
    {NULL, NULL},
};
