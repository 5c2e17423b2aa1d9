#define _GNU_SOURCE
#include "CSystem.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static int early_mounts = 0;

int csystem_has_early_mounts(void) { return early_mounts; }

// A static Swift program looks its own path up in /proc before main, and crashes without it. Runs before that, and only
// in a PID 1 that the kernel has just started: anywhere else /proc is there.
__attribute__((constructor(101))) static void mount_before_swift(void) {
    if (getpid() != 1 || access("/proc/self/exe", F_OK) == 0) return;
    mkdir("/proc", 0555);
    mkdir("/sys", 0555);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
    mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
    early_mounts = 1;
    // The kernel opens /dev/console before devtmpfs is there: without it a first write would fail.
    if (fcntl(0, F_GETFD) < 0) {
        int console = open("/dev/console", O_RDWR | O_NOCTTY);
        if (console < 0) console = open("/dev/null", O_RDWR);
        if (console >= 0) {
            dup2(console, 0);
            dup2(console, 1);
            dup2(console, 2);
            if (console > 2) close(console);
        }
    }
}
