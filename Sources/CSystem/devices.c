#define _GNU_SOURCE
#include "CSystem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <linux/if.h>
#include <linux/input.h>
#include <linux/netlink.h>
#include <linux/random.h>
#include <linux/reboot.h>
#include <linux/watchdog.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int csystem_load_module(int file, const char *parameters) {
    return (int)syscall(SYS_finit_module, file, parameters, 0);
}

int csystem_reboot(int how) { return reboot(how); }
int csystem_power_off(void) { return RB_POWER_OFF; }
int csystem_restart(void) { return RB_AUTOBOOT; }
int csystem_stay_in_memory(void) { return mlockall(MCL_CURRENT); }
int csystem_take_ctrl_alt_del(void) { return reboot(RB_DISABLE_CAD); }

struct dm_request {
    struct dm_ioctl head;
    struct dm_target_spec target;
    char parameters[1024];
};

static void prepare(struct dm_request *request, const char *name) {
    memset(request, 0, sizeof *request);
    request->head.version[0] = DM_VERSION_MAJOR;
    request->head.data_size = sizeof *request;
    request->head.data_start = offsetof(struct dm_request, target);
    strncpy(request->head.name, name, DM_NAME_LEN - 1);
}

int csystem_map_device(const char *name, const char *target, const char *parameters, uint64_t sectors) {
    int control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    if (control < 0) return -errno;
    struct dm_request request;
    if (strlen(parameters) >= sizeof request.parameters) {
        close(control);
        return -E2BIG;
    }
    int failure = 0;
    int minor_number = 0;
    prepare(&request, name);
    request.head.flags = DM_READONLY_FLAG;
    if (ioctl(control, DM_DEV_CREATE, &request) != 0) {
        failure = errno;
    } else {
        minor_number = (int)((request.head.dev & 0xff) | ((request.head.dev >> 12) & 0xfff00));
        prepare(&request, name);
        request.head.flags = DM_READONLY_FLAG;
        request.head.target_count = 1;
        request.target.length = sectors;
        strncpy(request.target.target_type, target, DM_MAX_TYPE_NAME - 1);
        strcpy(request.parameters, parameters);
        if (ioctl(control, DM_TABLE_LOAD, &request) != 0) failure = errno;
        if (!failure) {
            prepare(&request, name);
            request.head.flags = DM_READONLY_FLAG;
            if (ioctl(control, DM_DEV_SUSPEND, &request) != 0) failure = errno;
        }
        if (failure) csystem_unmap_device(name);
    }
    close(control);
    return failure ? -failure : minor_number;
}

int csystem_unmap_device(const char *name) {
    int control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    if (control < 0) return -errno;
    struct dm_request request;
    prepare(&request, name);
    int failure = ioctl(control, DM_DEV_REMOVE, &request) != 0 ? errno : 0;
    close(control);
    return -failure;
}

int64_t csystem_device_size(int device) {
    uint64_t size = 0;
    return ioctl(device, BLKGETSIZE64, &size) == 0 ? (int64_t)size : -1;
}

int csystem_resize_partition(int disk, int number, int64_t start, int64_t length) {
    struct blkpg_partition partition = {.start = start, .length = length, .pno = number};
    struct blkpg_ioctl_arg request = {.op = BLKPG_RESIZE_PARTITION, .datalen = sizeof partition, .data = &partition};
    return ioctl(disk, BLKPG, &request);
}

int csystem_zero(int device, uint64_t offset, uint64_t length) {
    uint64_t range[2] = {offset, length};
    return ioctl(device, BLKZEROOUT, range);
}

int csystem_forget_buffers(int device) { return ioctl(device, BLKFLSBUF, 0); }

int csystem_reread_partitions(int device) { return ioctl(device, BLKRRPART, 0); }

int csystem_signal_descriptor(uint64_t mask) {
    sigset_t set;
    sigemptyset(&set);
    for (int signal = 1; signal < 64; signal++)
        if (mask & (UINT64_C(1) << signal)) sigaddset(&set, signal);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

void csystem_unblock_signals(void) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

int csystem_read_signal(int descriptor, pid_t *sender) {
    struct signalfd_siginfo information;
    if (read(descriptor, &information, sizeof information) != sizeof information) return 0;
    // A process may say of itself what it likes by rt_sigqueueinfo(2), but not that it is the
    // kernel or kill(2).
    *sender = information.ssi_code == SI_KERNEL ? 0
        : information.ssi_code == SI_USER || information.ssi_code == SI_TKILL ? (pid_t)information.ssi_pid
        : -1;
    return (int)information.ssi_signo;
}

int csystem_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

int csystem_epoll_add(int epoll, int descriptor) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event);
}

int csystem_epoll_remove(int epoll, int descriptor) { return epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, NULL); }

int csystem_epoll_wait(int epoll, int *ready, int count, int milliseconds) {
    struct epoll_event events[64];
    int found = epoll_wait(epoll, events, count < 64 ? count : 64, milliseconds);
    for (int i = 0; i < found; i++) ready[i] = events[i].data.fd;
    return found;
}

int csystem_device_events(void) {
    int events = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (events < 0) return -1;
    int size = 4 << 20;
    setsockopt(events, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
    if (bind(events, (struct sockaddr *)&address, sizeof address) == 0) return events;
    close(events);
    return -1;
}

int csystem_loopback_up(void) {
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (control < 0) return -1;
    struct ifreq request = {.ifr_name = "lo"};
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    int result = ioctl(control, SIOCSIFFLAGS, &request);
    close(control);
    return result;
}

int csystem_is_power_button(int device) {
    unsigned char keys[KEY_MAX / 8 + 1] = {0};
    if (ioctl(device, EVIOCGBIT(EV_KEY, sizeof keys), keys) < 0) return 0;
    return (keys[KEY_POWER / 8] >> (KEY_POWER % 8)) & 1;
}

int csystem_power_button_pressed(int device) {
    struct input_event event;
    int pressed = 0;
    ssize_t count;
    while ((count = read(device, &event, sizeof event)) == sizeof event)
        if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) pressed = 1;
    return count < 0 && errno != EAGAIN && errno != EINTR ? -1 : pressed;
}

int csystem_random(void *bytes, size_t count) {
    return getrandom(bytes, count, GRND_NONBLOCK) == (ssize_t)count ? 0 : -1;
}

int csystem_add_entropy(const void *bytes, size_t count) {
    _Alignas(struct rand_pool_info) unsigned char room[sizeof(struct rand_pool_info) + 512];
    struct rand_pool_info *pool = (struct rand_pool_info *)room;
    if (count > 512) count = 512;
    pool->entropy_count = (int)count * 8;
    pool->buf_size = (int)count;
    memcpy(pool->buf, bytes, count);
    int random = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    if (random < 0) return -1;
    int result = ioctl(random, RNDADDENTROPY, pool);
    close(random);
    return result;
}

int csystem_watchdog_timeout(int watchdog, int seconds) {
    int time = seconds;
    if (ioctl(watchdog, WDIOC_SETTIMEOUT, &time) != 0 && ioctl(watchdog, WDIOC_GETTIMEOUT, &time) != 0) return -1;
    return time;
}

int csystem_watchdog_ping(int watchdog) { return ioctl(watchdog, WDIOC_KEEPALIVE, 0); }
