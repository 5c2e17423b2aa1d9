#define _GNU_SOURCE
#include "CSystem.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void become(const struct csystem_start *start, pid_t parent) {
    csystem_unblock_signals();
    if (start->network >= 0 && setns(start->network, CLONE_NEWNET) != 0) return;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return;
    // It may have ended before that took effect.
    if (getppid() != parent) _exit(127);
    // First out of each other's way: a source may be another's target.
    int copies[CSYSTEM_START_FILES];
    for (int i = 0; i < start->file_count; i++) {
        int source = start->files[i] >= 0 ? start->files[i] : open("/dev/null", O_RDWR | O_CLOEXEC);
        copies[i] = fcntl(source, F_DUPFD_CLOEXEC, CSYSTEM_START_FILES);
        if (copies[i] < 0) return;
    }
    for (int i = 0; i < start->file_count; i++)
        if (dup2(copies[i], i) < 0) return;
    execvpe(start->program, start->arguments, start->environment);
}

int csystem_start(const struct csystem_start *start) {
    if (start->file_count > CSYSTEM_START_FILES) return -E2BIG;
    int pipes[2];
    if (pipe2(pipes, O_CLOEXEC) != 0) return -errno;
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0) {
        int failure = errno;
        close(pipes[0]);
        close(pipes[1]);
        return -failure;
    }
    if (pid == 0) {
        // Out of the range of the program's own descriptors.
        int report = fcntl(pipes[1], F_DUPFD_CLOEXEC, 2 * CSYSTEM_START_FILES);
        become(start, parent);
        int failure = errno;
        ssize_t ignored = write(report, &failure, sizeof failure);
        (void)ignored;
        _exit(127);
    }
    close(pipes[1]);
    int failure = 0;
    ssize_t count;
    do count = read(pipes[0], &failure, sizeof failure);
    while (count < 0 && errno == EINTR);
    close(pipes[0]);
    if (count != sizeof failure) return pid;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
    return -failure;
}
