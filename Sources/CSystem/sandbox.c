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
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

// Milliseconds from clone to execve: mounts wait for other mounts, and a network namespace for others that end.
#define SANDBOX_DEADLINE 20000

static const char *const devices[] = {"null", "zero", "urandom"};
#define DEVICES ((int)(sizeof devices / sizeof *devices))

// A process's own files by their usual names: shells and awk open them.
static const struct {
    const char *path, *target;
} links[] = {
    {"bin", "usr/bin"}, {"sbin", "usr/sbin"}, {"lib", "usr/lib"}, {"lib64", "usr/lib64"},
    {"dev/fd", "/proc/self/fd"}, {"dev/stdin", "/proc/self/fd/0"},
    {"dev/stdout", "/proc/self/fd/1"}, {"dev/stderr", "/proc/self/fd/2"},
};

static void name_of(int descriptor, char name[32]) { snprintf(name, 32, "/proc/self/fd/%d", descriptor); }

// Binds one open folder or file onto another.
static int bind_onto(int source, int target) {
    char from[32], to[32];
    name_of(source, from);
    name_of(target, to);
    return mount(from, to, NULL, MS_BIND, NULL);
}

// Makes the mount at an open folder read-only. A flag that the source's mount has may not be dropped in a user namespace.
static int make_read_only(int folder) {
    char name[32];
    struct statvfs status;
    name_of(folder, name);
    unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV;
    if (fstatvfs(folder, &status) == 0 && status.f_flag & ST_NOEXEC) flags |= MS_NOEXEC;
    return mount(NULL, name, NULL, flags, NULL);
}

// Makes the place of a folder or file where the tree has none, as far as it may be written to:
// below no link.
static int make_place(const char *path, int source) {
    struct stat status;
    if (fstat(source, &status) != 0) return -1;
    char part[4096];
    size_t length = strlen(path);
    if (length >= sizeof part) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (size_t i = 0; i <= length; i++) {
        if (path[i] && path[i] != '/') continue;
        memcpy(part, path, i);
        part[i] = 0;
        char *slash = strrchr(part, '/');
        int parent = AT_FDCWD;
        if (slash) {
            *slash = 0;
            parent = csystem_open_beneath(AT_FDCWD, part, O_PATH | O_DIRECTORY, 0);
            if (parent < 0) return -1;
        }
        const char *name = slash ? slash + 1 : part;
        int result = 0;
        if (path[i] || S_ISDIR(status.st_mode)) {
            result = mkdirat(parent, name, 0755);
        } else {
            int file = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
            result = file;
            if (file >= 0) close(file);
        }
        int failure = errno;
        if (slash) close(parent);
        // In the tree it is read-only, and there already.
        if (result < 0 && failure != EEXIST && failure != EROFS) {
            errno = failure;
            return -1;
        }
    }
    return 0;
}

// A root of its own: the tree's /usr and /etc, the given folders, three devices, and /proc.
static const char *make_root(const struct csystem_sandbox *sandbox) {
    int tree = open(sandbox->tree, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (tree < 0) return "open of the tree";
    int sources[CSYSTEM_SANDBOX_FOLDERS];
    for (int i = 0; i < sandbox->folder_count; i++) {
        sources[i] = open(sandbox->folders[i].source, O_PATH | O_CLOEXEC);
        if (sources[i] < 0) return "open of a folder";
    }
    int nodes[DEVICES];
    for (int i = 0; i < DEVICES; i++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/%s", devices[i]);
        nodes[i] = open(path, O_PATH | O_CLOEXEC);
        if (nodes[i] < 0) return "open of a device";
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0) return "mount of /";
    // Any folder but / would do as the place; the tree itself stays open beneath.
    const char *own_root = sandbox->root ? sandbox->root : sandbox->tree;
    if (mount("tmpfs", own_root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m") != 0) return "mount of a root";
    if (chdir(own_root) != 0) return "chdir";
    static const char *const folders[] = {"usr", "etc", "dev", "dev/shm", "proc", "tmp", "run", "var", "data"};
    for (int i = 0; i < (int)(sizeof folders / sizeof *folders); i++)
        if (mkdir(folders[i], 0755) != 0) return "mkdir";
    for (int i = 0; i < (int)(sizeof links / sizeof *links); i++)
        if (symlink(links[i].target, links[i].path) != 0) return "symlink";
    static const char *const parts[] = {"usr", "etc"};
    for (int i = 0; i < 2; i++) {
        int part = csystem_open_beneath(tree, parts[i], O_PATH | O_DIRECTORY, 0);
        if (part < 0 && errno == ENOENT) continue;
        if (part < 0) return "open of a part of the tree";
        int place = open(parts[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (place < 0 || bind_onto(part, place) != 0) return "mount of a part of the tree";
        place = open(parts[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (place < 0 || make_read_only(place) != 0) return "remount of the tree";
    }
    if (sandbox->has_tmp &&
        mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=1m") != 0)
        return "mount of /tmp";
    for (int i = 0; i < sandbox->folder_count; i++) {
        const char *path = sandbox->folders[i].place;
        if (make_place(path, sources[i]) != 0) return "place of a folder";
        // Never through a link that a package has put into the tree.
        int place = csystem_open_beneath(AT_FDCWD, path, O_PATH, 0);
        if (place < 0 || bind_onto(sources[i], place) != 0) return "mount of a folder";
        place = csystem_open_beneath(AT_FDCWD, path, O_PATH, 0);
        if (place < 0 || make_read_only(place) != 0) return "remount of a folder";
    }
    for (int i = 0; i < DEVICES; i++) {
        char path[32];
        snprintf(path, sizeof path, "dev/%s", devices[i]);
        int place = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (place < 0 || bind_onto(nodes[i], place) != 0) return "mount of a device";
    }
    // A container whose own /proc is partly hidden may mount no other (mount_too_revealing() of fs/namespace.c).
    if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY,
              sandbox->whole_proc ? NULL : "subset=pid") != 0 &&
        errno != EPERM)
        return "mount of /proc";
    if (syscall(SYS_pivot_root, ".", ".") == 0) {
        if (umount2(".", MNT_DETACH) != 0) return "umount of the old root";
    } else if (errno != EINVAL || chroot(".") != 0) {
        // EINVAL: this process's own root is none that could be moved, as in a chroot.
        return "pivot_root";
    }
    if (chdir("/") != 0) return "chdir";
    if (mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) != 0)
        return "remount of /";
    return NULL;
}

// Gives up everything that root could do.
static const char *drop_privileges(const struct csystem_sandbox *sandbox, int may_change_user) {
    for (int i = 0; i < 64; i++)
        if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) != 0)
            return "PR_CAPBSET_DROP";
    if (may_change_user) {
        if (syscall(SYS_setgroups, 0, NULL) != 0) return "setgroups";
        if (syscall(SYS_setresgid, sandbox->user, sandbox->user, sandbox->user) != 0) return "setresgid";
        if (syscall(SYS_setresuid, sandbox->user, sandbox->user, sandbox->user) != 0) return "setresuid";
    }
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    memset(data, 0, sizeof data);
    if (syscall(SYS_capset, &header, data) != 0) return "capset";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return "PR_SET_NO_NEW_PRIVS";
    return NULL;
}

static const char *become(const struct csystem_sandbox *sandbox, int maps, int may_change_user) {
    csystem_unblock_signals();
    umask(022);
    setsid();
    // The parent writes the user map first.
    char go;
    ssize_t count;
    do count = read(maps, &go, 1);
    while (count < 0 && errno == EINTR);
    if (count != 1) {
        errno = EPERM;
        return "the map of users";
    }
    // Raising it is always allowed.
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score >= 0) {
        char text[16];
        int count = snprintf(text, sizeof text, "%d", sandbox->oom_score_adjustment);
        ssize_t ignored = write(score, text, (size_t)count);
        (void)ignored;
        close(score);
    }
    int input = sandbox->input >= 0 ? sandbox->input : open("/dev/null", O_RDONLY);
    if (input < 0 || dup2(input, 0) < 0 || dup2(sandbox->output, 1) < 0 || dup2(sandbox->error, 2) < 0) return "dup2";
    const char *failed = make_root(sandbox);
    if (failed) return failed;
    for (int i = 0; i < sandbox->limit_count; i++) {
        struct rlimit limit = {sandbox->limits[i].value, sandbox->limits[i].value};
        if (setrlimit((__rlimit_resource_t)sandbox->limits[i].resource, &limit) != 0) return "setrlimit";
    }
    failed = drop_privileges(sandbox, may_change_user);
    if (failed) return failed;
    // Changes of credentials would clear it.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return "PR_SET_PDEATHSIG";
    if (csystem_limit_calls(&sandbox->calls) != 0) return "PR_SET_SECCOMP";
    execve(sandbox->program, sandbox->arguments, sandbox->environment);
    return "execve";
}

static int write_file(long pid, const char *name, const char *text) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/%s", pid, name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0) return -1;
    ssize_t count = write(file, text, strlen(text));
    int failure = errno;
    close(file);
    errno = failure;
    return count == (ssize_t)strlen(text) ? 0 : -1;
}

// As root: two users, root for the mounts and the one that the program becomes. Otherwise one user, which is the caller
// outside (user_namespaces(7)).
static const char *write_maps(long pid, unsigned user) {
    char users[64], groups[64];
    if (geteuid() == 0) {
        snprintf(users, sizeof users, "0 0 1\n%u %u 1\n", user, user);
        strcpy(groups, users);
    } else {
        snprintf(users, sizeof users, "%u %u 1\n", user, geteuid());
        snprintf(groups, sizeof groups, "%u %u 1\n", user, getegid());
        if (write_file(pid, "setgroups", "deny") != 0) return "setgroups";
    }
    if (write_file(pid, "uid_map", users) != 0) return "uid_map";
    if (write_file(pid, "gid_map", groups) != 0) return "gid_map";
    return NULL;
}

struct report {
    int failure;
    char step[28];
};

int csystem_spawn_sandbox(const struct csystem_sandbox *sandbox, char step[28]) {
    step[0] = 0;
    if (sandbox->folder_count > CSYSTEM_SANDBOX_FOLDERS) return -E2BIG;
    int pipes[2], maps[2];
    if (pipe2(pipes, O_CLOEXEC) != 0) return -errno;
    if (pipe2(maps, O_CLOEXEC) != 0) {
        int failure = errno;
        close(pipes[0]);
        close(pipes[1]);
        return -failure;
    }
    int is_root = geteuid() == 0, has_users = !sandbox->without_users;
    struct clone_args arguments;
    memset(&arguments, 0, sizeof arguments);
    arguments.exit_signal = SIGCHLD;
    uint64_t flags = NAMESPACES;
    if (sandbox->cgroup >= 0) {
        flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = (uint64_t)sandbox->cgroup;
    }
    arguments.flags = has_users ? flags | CLONE_NEWUSER : flags;
    long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid < 0 && is_root && has_users &&
        (errno == EPERM || errno == ENOSPC || errno == EUSERS || errno == EINVAL)) {
        // In a chroot, and where user namespaces are switched off, root still has all others.
        has_users = 0;
        arguments.flags = flags;
        pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    }
    if (pid < 0) {
        int failure = errno;
        for (int i = 0; i < 2; i++) {
            close(pipes[i]);
            close(maps[i]);
        }
        return -failure;
    }
    struct report report;
    memset(&report, 0, sizeof report);
    if (pid == 0) {
        // Or the parent's death would go unnoticed here.
        close(maps[1]);
        const char *what = become(sandbox, maps[0], is_root);
        report.failure = errno;
        strncpy(report.step, what, sizeof report.step - 1);
        ssize_t ignored = write(pipes[1], &report, sizeof report);
        (void)ignored;
        _exit(127);
    }
    close(pipes[1]);
    close(maps[0]);
    const char *failed = has_users ? write_maps(pid, sandbox->user) : NULL;
    int failure = failed ? errno : 0;
    if (!failed) {
        ssize_t ignored = write(maps[1], "", 1);
        (void)ignored;
    }
    close(maps[1]);
    struct pollfd waiting = {pipes[0], POLLIN, 0};
    int ready;
    do ready = poll(&waiting, 1, SANDBOX_DEADLINE);
    while (ready < 0 && errno == EINTR);
    if (ready == 0) {
        failed = "the time until execve";
        failure = ETIMEDOUT;
    }
    ssize_t count = 0;
    if (ready > 0) {
        do count = read(pipes[0], &report, sizeof report);
        while (count < 0 && errno == EINTR);
    }
    close(pipes[0]);
    if (!failed && count != sizeof report) return (int)pid;
    if (failed) {
        report.failure = failure;
        memset(report.step, 0, sizeof report.step);
        strncpy(report.step, failed, sizeof report.step - 1);
    }
    kill((pid_t)pid, SIGKILL);
    while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR) continue;
    memcpy(step, report.step, sizeof report.step);
    return -report.failure;
}
