#define _GNU_SOURCE
#include "CSystem.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void become(const struct csystem_child *child) {
    csystem_unblock_signals();
    umask(022);
    if (child->new_session) setsid();
    int input = child->input >= 0 ? child->input : open("/dev/null", O_RDWR);
    if (input >= 0) dup2(input, 0);
    if (child->new_session && child->input >= 0) ioctl(0, TIOCSCTTY, 0);
    if (child->output >= 0) {
        dup2(child->output, 1);
        dup2(child->output, 2);
    }
    if (child->root && (chroot(child->root) != 0 || chdir("/") != 0)) return;
    if (child->group && (setgroups(0, NULL) != 0 || setgid(child->group) != 0)) return;
    if (child->user && setuid(child->user) != 0) return;
    execve(child->program, child->arguments, child->environment);
}

int csystem_spawn(const struct csystem_child *child) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0) return -errno;
    struct clone_args arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.exit_signal = SIGCHLD;
    if (child->cgroup >= 0) {
        arguments.flags = CLONE_INTO_CGROUP;
        arguments.cgroup = (uint64_t)child->cgroup;
    }
    long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid < 0) {
        int failure = errno;
        close(report[0]);
        close(report[1]);
        return -failure;
    }
    if (pid == 0) {
        become(child);
        int failure = errno;
        ssize_t ignored = write(report[1], &failure, sizeof failure);
        (void)ignored;
        _exit(127);
    }
    close(report[1]);
    int failure = 0;
    ssize_t count;
    do count = read(report[0], &failure, sizeof failure);
    while (count < 0 && errno == EINTR);
    close(report[0]);
    // The child that could not exec is reaped like any other; its errno is what the caller wants.
    return count == sizeof failure ? -failure : (int)pid;
}
