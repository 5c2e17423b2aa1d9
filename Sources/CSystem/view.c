#define _GNU_SOURCE
#include "CSystem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// Runs between fork and execve: no memory is allocated here, and no lock is taken.

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#define RECURSIVE 0x8000 // AT_RECURSIVE

// As linux/mount.h has it; that header and sys/mount.h exclude each other in some releases of
// glibc.
struct mount_attributes {
    uint64_t set, clear, propagation, user_namespace;
};
#define READ_ONLY 0x1
#define NO_SETUID 0x2
#define NO_DEVICES 0x4
#define NO_EXECUTION 0x8

// Since Linux 6.3.
#define SET_MDWE 65
#define REFUSE_NEW_CODE 1

// Folders in whose places the service finds empty ones, and what they may hold.
static const struct {
    const char *path, *options;
} hidden[] = {
    {"/data", "mode=0755,size=64k"}, {"/run", "mode=0755,size=64k"}, {"/var", "mode=0755,size=64k"},
    {"/mnt", "mode=0755,size=4k"},   {"/dev", "mode=0755,size=64k"},
};

// Folders of the service's own where it may write files, and none else.
static const char *const temporary[] = {"/tmp", "/var/tmp", "/dev/shm"};

// What every service sees of the folders above: PID 1's notifications and log, the socket for
// facts, where the engine tells services apart, the box's names and name servers.
static const char *const common[] = {
    "/run/vcpe/notify",     "/run/vcpe/hosts",   "/run/vcpe/hostname", "/run/vcpe/machine-id",
    "/run/vcpe/resolv.conf", "/run/vcpe/network", "/run/vcpe/report", "/dev/log",
};

static const char *const devices[] = {"null", "zero", "full", "random", "urandom"};

// Links that programs expect.
static const struct {
    const char *path, *target;
} links[] = {
    {"/var/run", "/run"},           {"/var/lock", "/run/lock"},
    {"/dev/fd", "/proc/self/fd"},   {"/dev/stdin", "/proc/self/fd/0"},
    {"/dev/stdout", "/proc/self/fd/1"}, {"/dev/stderr", "/proc/self/fd/2"},
    {"/var/lib/extrausers", "/run/vcpe/system/users"},
};

// What /proc has of the kernel, and is writable: systemd's ProtectKernelTunables=, and what is of
// old.
static const char *const kernels[] = {
    "/proc/sys",  "/proc/sysrq-trigger", "/proc/irq",          "/proc/acpi",      "/proc/fs",       "/proc/bus",
    "/proc/mtrr", "/proc/latency_stats", "/proc/timer_stats", "/proc/dynamic_debug", "/proc/scsi", "/proc/driver",
    "/proc/pressure", "/proc/slabinfo",
};

#define PLACES 96
#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

struct place {
    const char *path;
    int file;
    int is_writable;
};

static int set_attributes(const char *path, unsigned flags, uint64_t set, uint64_t clear) {
    struct mount_attributes attributes = {set, clear, 0, 0};
    return (int)syscall(SYS_mount_setattr, AT_FDCWD, path, flags, &attributes, sizeof attributes);
}

// Makes the folders above a path; what is there already stays.
static void make_parents(const char *path) {
    char parent[4096];
    for (size_t i = 1; path[i] && i < sizeof parent; i++) {
        if (path[i] != '/') continue;
        memcpy(parent, path, i);
        parent[i] = 0;
        mkdir(parent, 0755);
    }
}

// Binds an open file or folder at its path, which may be in a folder that is empty now.
static int bind_place(const struct place *place) {
    struct stat status;
    if (fstat(place->file, &status) != 0) return -1;
    make_parents(place->path);
    if (S_ISDIR(status.st_mode)) {
        mkdir(place->path, 0755);
    } else {
        int file = open(place->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (file >= 0) close(file);
    }
    char source[32];
    snprintf(source, sizeof source, "/proc/self/fd/%d", place->file);
    return mount(source, place->path, NULL, MS_BIND | (S_ISDIR(status.st_mode) ? MS_REC : 0), NULL);
}

static int is_place(const struct place *places, int count, const char *path) {
    for (int i = 0; i < count; i++)
        if (strcmp(places[i].path, path) == 0) return 1;
    return 0;
}

// Opens a path of which no part is a symbolic link: what another service put there must lead
// nowhere else.
static int open_place(int root, const char *path) { return csystem_open_beneath(root, path + 1, O_PATH, 0); }

const char *csystem_enter_view(const struct csystem_view *view) {
    struct place places[PLACES];
    char device_paths[PLACES][64];
    int count = 0, has_all_devices = 0;
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) return "open of /";
    for (int i = 0; !view->bare && i < COUNT(common) && count < PLACES; i++) {
        places[count] = (struct place){common[i], open_place(root, common[i]), 0};
        if (places[count].file >= 0) count++;
    }
    for (char *const *path = view->visible; path && *path; path++) {
        if (count == PLACES) return errno = E2BIG, "too many paths";
        places[count] = (struct place){*path, open_place(root, *path), 0};
        // It may come later, or never: the folder of a service that the site doesn't have.
        if (places[count].file >= 0) count++;
    }
    for (char *const *name = view->devices; name && *name; name++) {
        if (strcmp(*name, "*") == 0) {
            has_all_devices = 1;
            continue;
        }
        if (count == PLACES) return errno = E2BIG, "too many paths";
        snprintf(device_paths[count], sizeof device_paths[count], "/dev/%s", *name);
        places[count] = (struct place){device_paths[count], open_place(root, device_paths[count]), 0};
        if (places[count++].file < 0) return "open of a device";
    }
    for (int i = 0; i < COUNT(devices) && count < PLACES; i++) {
        snprintf(device_paths[count], sizeof device_paths[count], "/dev/%s", devices[i]);
        places[count] = (struct place){device_paths[count], open_place(root, device_paths[count]), 0};
        if (places[count].file >= 0) count++;
    }
    // The last ones: they may be in a folder that is visible.
    for (char *const *path = view->writable; path && *path; path++) {
        if (count == PLACES) return errno = E2BIG, "too many paths";
        places[count] = (struct place){*path, open_place(root, *path), 1};
        if (places[count++].file < 0) return "open of a writable path";
    }
    for (int i = 0; i < COUNT(hidden); i++) {
        if (has_all_devices && strcmp(hidden[i].path, "/dev") == 0) continue;
        // All of it is the service's: the bind below would take what covers it along.
        if (is_place(places, count, hidden[i].path)) continue;
        if (mount("tmpfs", hidden[i].path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, hidden[i].options) != 0 &&
            errno != ENOENT)
            return "mount of a hidden folder";
    }
    for (int i = 0; i < COUNT(links); i++) {
        make_parents(links[i].path);
        if (symlink(links[i].target, links[i].path) != 0 && errno != EEXIST && errno != ENOENT && errno != EROFS)
            return "symlink";
    }
    for (int i = 0; i < COUNT(temporary); i++) {
        mkdir(temporary[i], 01777);
        if (mount("tmpfs", temporary[i], "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=5%") != 0 &&
            errno != ENOENT)
            return "mount of temporary files";
    }
    for (int i = 0; i < count; i++) {
        if (has_all_devices && strncmp(places[i].path, "/dev/", 5) == 0) continue;
        if (bind_place(&places[i]) != 0) return "mount of a path of the view";
    }
    if (!has_all_devices && access("/dev/pts/ptmx", F_OK) == 0) symlink("pts/ptmx", "/dev/ptmx");
    // The other processes of the box are not there for it. "invisible" would show them to group 0.
    if (!view->processes &&
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=ptraceable") != 0)
        return "mount of /proc";
    if (set_attributes("/", RECURSIVE, READ_ONLY | NO_SETUID, 0) != 0) return "setattr of /";
    for (int i = 0; i < COUNT(temporary); i++)
        if (set_attributes(temporary[i], 0, NO_EXECUTION, READ_ONLY) != 0 && errno != ENOENT)
            return "setattr of temporary files";
    for (int i = 0; i < count; i++)
        if (places[i].is_writable &&
            set_attributes(places[i].path, RECURSIVE, NO_SETUID | NO_DEVICES | NO_EXECUTION, READ_ONLY) != 0)
            return "setattr of a writable path";
    // Owners of terminals change with their sessions; the nodes themselves are the only ones.
    if (set_attributes("/dev", RECURSIVE, NO_SETUID | NO_EXECUTION, READ_ONLY) != 0) return "setattr of /dev";
    if (view->own_processes) {
        if (set_attributes("/proc", 0, 0, READ_ONLY) != 0) return "setattr of /proc";
        for (int i = 0; i < COUNT(kernels); i++) {
            if (mount(kernels[i], kernels[i], NULL, MS_BIND, NULL) != 0 && errno != ENOENT) return "bind of /proc";
            if (set_attributes(kernels[i], 0, READ_ONLY, 0) != 0 && errno != ENOENT) return "setattr of /proc";
        }
    }
    if (view->kernel_settings) {
        if (set_attributes("/proc", RECURSIVE, 0, READ_ONLY) != 0) return "setattr of /proc";
        if (set_attributes("/sys", RECURSIVE, 0, READ_ONLY) != 0) return "setattr of /sys";
        // By it, a process could leave the cgroup that it is known by.
        if (set_attributes("/sys/fs/cgroup", 0, READ_ONLY, 0) != 0 && errno != ENOENT && errno != EINVAL)
            return "setattr of cgroups";
    }
    if (!view->new_code && prctl(SET_MDWE, REFUSE_NEW_CODE, 0, 0, 0) != 0 && errno != EINVAL) return "PR_SET_MDWE";
    return NULL;
}
