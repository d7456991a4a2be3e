// What the filter itself answers.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    char params[256] = {0};
    printf("io_uring %d\n", syscall(SYS_io_uring_setup, 8, params) < 0 ? errno : 0);
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {1, &allow};
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    printf("listener %d\n", listener < 0 ? errno : 0);
    long plain = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    printf("filter %d\n", plain < 0 ? errno : 0);
    return 0;
}
