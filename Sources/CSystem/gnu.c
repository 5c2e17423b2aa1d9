#define _GNU_SOURCE
#include "CSystem.h"

#include <malloc.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/fs.h>
#include <linux/if.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

const char *csystem_errno_name(int code) { return strerrorname_np(code); }

ssize_t csystem_copy_file_range(int from, off_t *from_offset, int to, off_t *to_offset, size_t count) {
    return copy_file_range(from, from_offset, to, to_offset, count, 0);
}

int csystem_make_temporary_file(char *path_template) { return mkostemp(path_template, O_CLOEXEC); }

int csystem_blocking_pipe(int *reading, int *writing) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    *reading = ends[0];
    *writing = ends[1];
    return 0;
}

int csystem_memory_file(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

int csystem_new_network(void) { return unshare(CLONE_NEWNET); }

int csystem_enter_namespace(int namespace) { return setns(namespace, 0); }

int csystem_card(const char *name, char driver[32], char path[32]) {
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (control < 0) return -1;
    struct ethtool_drvinfo information = {.cmd = ETHTOOL_GDRVINFO};
    struct ifreq request = {0};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_data = (void *)&information;
    int result = ioctl(control, SIOCETHTOOL, &request);
    close(control);
    if (result != 0) return -1;
    memcpy(driver, information.driver, 31);
    memcpy(path, information.bus_info, 31);
    return 0;
}

static const char *const capabilities[] = {
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
    "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
    "checkpoint_restore",
};

int csystem_capability(const char *name) {
    for (int i = 0; i < (int)(sizeof capabilities / sizeof *capabilities); i++)
        if (strcmp(name, capabilities[i]) == 0) return i;
    return -1;
}

int csystem_sync_filesystem(int file) { return syncfs(file); }

void csystem_trim_filesystem(const char *path) {
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return;
    struct fstrim_range all = {.start = 0, .len = (unsigned long long)-1, .minlen = 0};
    ioctl(folder, FITRIM, &all);
    close(folder);
}

void csystem_trim_memory(void) {
    malloc_trim(0);
}

void csystem_share_heap(void) { mallopt(M_ARENA_MAX, 1); }

int csystem_event(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

int csystem_pivot_root(const char *root, const char *old) { return (int)syscall(SYS_pivot_root, root, old); }

int csystem_drop_capabilities(uint64_t kept) {
    for (int i = 0; i < 64; i++)
        if (!(kept & (UINT64_C(1) << i)) && prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1 &&
            prctl(PR_CAPBSET_DROP, i, 0, 0, 0) != 0)
            return -1;
    return 0;
}

ssize_t csystem_get_attribute(const char *path, const char *name, void *value, size_t count) {
    return lgetxattr(path, name, value, count);
}
