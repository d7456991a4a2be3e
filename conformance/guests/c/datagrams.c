/* UDP, and messages with control data. */
#include "guest.h"

static int datagram_socket(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct timeval patience = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static void udp_connected(const char *argument) {
    (void)argument;
    struct sockaddr_in to = address(ECHO, ECHO_PORT);
    int fd = datagram_socket();
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) return say_error("connect");
    char back[16] = "";
    if (send(fd, "ping", 4, 0) != 4) return say_error("send");
    if (recv(fd, back, sizeof back - 1, 0) < 0) return say_error("recv");
    say("%s says %s", peer_of(fd), back);
    close(fd);
}

static void udp_unconnected(const char *argument) {
    (void)argument;
    struct sockaddr_in to = address(ECHO, ECHO_PORT), from = {0};
    socklen_t length = sizeof from;
    int fd = datagram_socket();
    char back[16] = "";
    if (sendto(fd, "ping", 4, 0, (struct sockaddr *)&to, sizeof to) != 4) return say_error("sendto");
    if (recvfrom(fd, back, sizeof back - 1, 0, (struct sockaddr *)&from, &length) < 0) return say_error("recvfrom");
    say("%s says %s", shown(&from), back);
    close(fd);
}

static void control(const char *argument) {
    (void)argument;
    struct sockaddr_in to = address(ECHO, ECHO_PORT), from = {0};
    int fd = datagram_socket(), on = 1, lifetime = 77;
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on);
    union {
        char bytes[CMSG_SPACE(sizeof(struct timeval)) + 64];
        struct cmsghdr aligned;
    } control = {0};
    struct iovec parts[2] = {{"pi", 2}, {"ng", 2}};
    struct msghdr message = {.msg_name = &to,
                             .msg_namelen = sizeof to,
                             .msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = &control,
                             .msg_controllen = CMSG_SPACE(sizeof lifetime)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){.cmsg_level = IPPROTO_IP, .cmsg_type = IP_TTL, .cmsg_len = CMSG_LEN(sizeof lifetime)};
    memcpy(CMSG_DATA(head), &lifetime, sizeof lifetime);
    if (sendmsg(fd, &message, 0) != 4) return say_error("sendmsg");
    char back[2][3] = {"", ""};
    struct iovec into[2] = {{back[0], 2}, {back[1], 2}};
    message = (struct msghdr){.msg_name = &from,
                              .msg_namelen = sizeof from,
                              .msg_iov = into,
                              .msg_iovlen = 2,
                              .msg_control = &control,
                              .msg_controllen = sizeof control};
    if (recvmsg(fd, &message, 0) != 4) return say_error("recvmsg");
    say("%s says %s %s", shown(&from), back[0], back[1]);
    int stamped = 0;
    for (head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head))
        stamped |= head->cmsg_level == SOL_SOCKET && head->cmsg_type == SO_TIMESTAMP;
    say(stamped ? "with a time stamp" : "without a time stamp");
    close(fd);
}

const struct behaviour datagrams[] = {
    {"udp-connected", udp_connected},
    {"udp-unconnected", udp_unconnected},
    {"control", control},
    {NULL, NULL},
};
