#define _GNU_SOURCE
#include "CSystem.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// What could not be done on the way; its errno is in errno.
static const char *become(const struct csystem_child *child) {
    csystem_unblock_signals();
    umask(child->umask);
    if (child->new_session) setsid();
    int input = child->input >= 0 ? child->input : open("/dev/null", O_RDWR);
    if (input >= 0) dup2(input, 0);
    if (child->new_session && child->input >= 0) ioctl(0, TIOCSCTTY, 0);
    if (child->output >= 0) {
        dup2(child->output, 1);
        dup2(child->output, 2);
    }
    if (child->error >= 0) dup2(child->error, 2);
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score >= 0) {
        char text[16];
        int count = snprintf(text, sizeof text, "%d", child->oom_score_adjustment);
        ssize_t ignored = write(score, text, (size_t)count);
        (void)ignored;
        close(score);
    }
    for (int i = 0; i < child->limit_count; i++) {
        struct rlimit limit = {child->limits[i].value, child->limits[i].value};
        if (setrlimit((__rlimit_resource_t)child->limits[i].resource, &limit) != 0) return "setrlimit";
    }
    if (child->network) {
        // A FIFO in its place must not block the child.
        int network = open(child->network, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (network < 0) return "open of the network";
        if (setns(network, CLONE_NEWNET) != 0) return "setns";
        close(network);
    }
    if (child->private_tmp || child->read_only_paths) {
        if (unshare(CLONE_NEWNS) != 0) return "unshare";
        if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0) return "mount of /";
        if (child->private_tmp &&
            mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=5%") != 0)
            return "mount of /tmp";
        for (char *const *path = child->read_only_paths; path && *path; path++) {
            if (mount(*path, *path, NULL, MS_BIND | MS_REC, NULL) != 0) return "mount of a read-only path";
            if (mount(NULL, *path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) != 0) return "remount of a read-only path";
        }
    }
    if (child->view) {
        if (unshare(CLONE_NEWNS) != 0) return "unshare";
        if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0) return "mount of /";
        const char *failed = csystem_enter_view(child->view);
        if (failed) return failed;
    }
    if (child->root && (chroot(child->root) != 0 || chdir("/") != 0)) return "chroot";
    if (child->keep_capabilities_only)
        for (int i = 0; i < 64; i++)
            if (!(child->capabilities & (UINT64_C(1) << i)) && prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1 &&
                prctl(PR_CAPBSET_DROP, i, 0, 0, 0) != 0)
                return "PR_CAPBSET_DROP";
    if (child->user || child->group || child->group_count) {
        // As calls of the kernel: those of libc would tell threads that this process does not have.
        if (syscall(SYS_setgroups, (size_t)child->group_count, child->groups) != 0) return "setgroups";
        if (syscall(SYS_setgid, child->group) != 0) return "setgid";
    }
    if (child->user) {
        if (child->keep_capabilities_only) prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
        if (syscall(SYS_setuid, child->user) != 0) return "setuid";
    }
    if (child->keep_capabilities_only) {
        struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
        struct __user_cap_data_struct data[2];
        for (int i = 0; i < 2; i++) {
            unsigned mask = (unsigned)(child->capabilities >> (32 * i));
            data[i].effective = data[i].permitted = data[i].inheritable = mask;
        }
        if (syscall(SYS_capset, &header, data) != 0) return "capset";
        for (int i = 0; i < 64; i++)
            if (child->capabilities & (UINT64_C(1) << i)) prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0);
    }
    if (child->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return "PR_SET_NO_NEW_PRIVS";
    // Changes of credentials would clear it.
    if (child->ends_with_parent && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return "PR_SET_PDEATHSIG";
    // As the user that it has become: a directory of its own may be closed to others.
    if (child->directory && chdir(child->directory) != 0) return "chdir";
    if (child->calls && csystem_limit_calls(child->calls) != 0) return "PR_SET_SECCOMP";
    execve(child->program, child->arguments, child->environment);
    return "execve";
}

// Milliseconds from clone to execve.
#define SPAWN_DEADLINE 5000

// Milliseconds that a killed child has to end: one that waits for a disk may not.
#define KILL_DEADLINE 1000

static void reap_killed(pid_t pid) {
    for (int waited = 0; waited < KILL_DEADLINE; waited += 10) {
        pid_t ended = waitpid(pid, NULL, WNOHANG);
        if (ended == pid || (ended < 0 && errno != EINTR)) return;
        poll(NULL, 0, 10);
    }
}

struct report {
    int failure;
    char step[28];
};

int csystem_spawn(const struct csystem_child *child, char step[28]) {
    step[0] = 0;
    int pipes[2];
    if (pipe2(pipes, O_CLOEXEC) != 0) return -errno;
    struct clone_args arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.exit_signal = SIGCHLD;
    arguments.flags = child->namespaces;
    if (child->cgroup >= 0) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = (uint64_t)child->cgroup;
    }
    long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid < 0) {
        int failure = errno;
        close(pipes[0]);
        close(pipes[1]);
        return -failure;
    }
    struct report report;
    memset(&report, 0, sizeof report);
    if (pid == 0) {
        const char *what = become(child);
        report.failure = errno;
        strncpy(report.step, what, sizeof report.step - 1);
        ssize_t ignored = write(pipes[1], &report, sizeof report);
        (void)ignored;
        _exit(127);
    }
    close(pipes[1]);
    // A child that gets nowhere, in a frozen group or on a disk that doesn't answer, must not take its parent with it.
    struct pollfd waiting = {pipes[0], POLLIN, 0};
    int ready;
    do ready = poll(&waiting, 1, SPAWN_DEADLINE);
    while (ready < 0 && errno == EINTR);
    if (ready == 0) {
        kill((pid_t)pid, SIGKILL);
        close(pipes[0]);
        // Where no loop waits for every child, it would stay as a zombie.
        reap_killed((pid_t)pid);
        strcpy(step, "the way to execve");
        return -ETIMEDOUT;
    }
    ssize_t count;
    do count = read(pipes[0], &report, sizeof report);
    while (count < 0 && errno == EINTR);
    close(pipes[0]);
    if (count != sizeof report) return (int)pid;
    // Its errno is what the caller wants; it is gone at once.
    while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR) continue;
    memcpy(step, report.step, sizeof report.step);
    return -report.failure;
}
