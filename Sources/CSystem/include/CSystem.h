// What Swift can't reach in glibc or the kernel: GNU extensions that its module map hides, variadic calls, and what
// must happen before Swift runs.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// The name of an errno value, such as "ENOENT"; NULL for an unknown one. A GNU extension.
const char *csystem_errno_name(int code);

/// copy_file_range(2). A GNU extension.
ssize_t csystem_copy_file_range(int from, off_t *from_offset, int to, off_t *to_offset, size_t count);

/// mkostemp(3) with O_CLOEXEC. A GNU extension.
int csystem_make_temporary_file(char *path_template);

/// unshare(2) of this thread's network, and setns(2) of this thread into a namespace. GNU extensions. Return 0 or -1.
// pivot_root(2), for which glibc has no function.
int csystem_pivot_root(const char *root, const char *old);
// Removes all capabilities but those of the mask from the bounding set of this process and its children; prctl(2) is
// variadic.
int csystem_drop_capabilities(uint64_t kept);

// lgetxattr(2): glibc's module for Swift leaves sys/xattr.h out.
ssize_t csystem_get_attribute(const char *path, const char *name, void *value, size_t count);

int csystem_new_network(void);
int csystem_enter_namespace(int file);

/// What the driver of a network card says of it (ETHTOOL_GDRVINFO): its own name and the card's place. Returns 0 or -1.
int csystem_card(const char *name, char driver[32], char path[32]);

/// openat2(2) of a path below an open folder: no component of it may be a symbolic link, and none may lead out of the
/// folder (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS). glibc has no wrapper. Returns a descriptor, or -1 and errno: ELOOP for
/// a link, EXDEV for a path that leaves the folder.
int csystem_open_beneath(int folder, const char *path, int flags, unsigned mode);

/// renameat2(2) with RENAME_EXCHANGE: two names in an open folder, in one step. A GNU extension. Returns 0 or -1.
int csystem_exchange(int folder, const char *one, const char *other);

/// memfd_create(2), close-on-exec. A GNU extension.
int csystem_memory_file(const char *name);

// --- Unix sockets: addresses and control messages are C's own business ---

/// Connects to the socket at `path`: a stream, or one that keeps messages apart. Returns a descriptor, or -1.
int csystem_connect_unix(const char *path, int packets);
/// Listens at `path`, which only the owner may use; what stood there goes. Returns a descriptor, non-blocking, or -1.
int csystem_listen_unix(const char *path, int packets);
/// The user at the other end; all ones when nobody knows.
unsigned csystem_peer(int connection);
/// The process that connected (SO_PEERCRED); 0 when it is unknown or not of this namespace.
pid_t csystem_peer_process(int connection);
/// Whether the process that connected is there still (SO_PEERPIDFD): 1 or 0; -1 where the kernel can't say.
int csystem_peer_lives(int connection);
/// A socket of the kind "stream", "datagram" or "raw" that never waits; -1 and errno. Not every Swift sees the kinds' names.
int csystem_socket(int family, const char *kind, int protocol);
/// 1 when who is at the other end belongs to a group, as he did when he connected.
int csystem_peer_in_group(int connection, unsigned group);
/// A socket for sd_notify(3) at `path`, which everybody may use. Returns a descriptor, or -1.
int csystem_notify_socket(const char *path);
/// Sends a message to the socket at `path` without waiting. Returns 0 or -1.
int csystem_send_datagram(const char *path, const void *bytes, size_t count);
/// Receives a notification and who sent it, as the kernel knows; descriptors that come along are closed. Returns bytes,
/// or -1 when none is there.
ssize_t csystem_receive_notification(int listener, void *bytes, size_t count, pid_t *sender);

// --- Tests with packets ---

/// Makes a TAP link in this thread's network and opens it. Returns a descriptor, or -1.
int csystem_tap(const char *name);
/// A socket that sees all frames of a link. Returns a descriptor, or -1.
int csystem_packet_socket(const char *name);

/// The number of a capability (capability.h) by its name without "cap_", such as "net_admin"; -1 for an unknown one.
int csystem_capability(const char *name);

/// lseek(2)'s SEEK_DATA and SEEK_HOLE. GNU extensions.
static const int csystem_seek_data = 3;
static const int csystem_seek_hole = 4;

/// BLKZEROOUT: zeros on a range of a device, in bytes. Returns 0 or -1.
int csystem_zero(int device, uint64_t offset, uint64_t length);
/// BLKFLSBUF: what is read next comes from the device itself. Returns 0 or -1.
int csystem_forget_buffers(int device);
/// BLKRRPART: the kernel reads the partition table anew. Returns 0 or -1.
int csystem_reread_partitions(int device);

// --- PID 1 ---

/// True when this program is PID 1 and had to mount /proc, /sys and /dev before main.
int csystem_has_early_mounts(void);

/// finit_module(2), which glibc doesn't wrap.
int csystem_load_module(int file, const char *parameters);

/// reboot(2); `how` is one of the functions' values below.
int csystem_reboot(int how);
int csystem_power_off(void);
int csystem_restart(void);
/// mlockall(2) of what is mapped now: program and libraries stay although their disk dies. Returns 0 or -1.
int csystem_stay_in_memory(void);
/// Makes Ctrl-Alt-Del a SIGINT to PID 1 instead of a reset.
int csystem_take_ctrl_alt_del(void);

/// A limit of setrlimit(2), soft and hard the same.
struct csystem_limit {
    int resource;
    uint64_t value;
};

/// A service's own view of the box's tree: all of it read-only, with empty folders in the places of
/// /data, /run, /var, /mnt and /dev, its own folders for temporary files, and a /proc that shows
/// its own processes.
struct csystem_view {
    char *const *writable;  // files and folders that it sees and may change; the lists end with NULL, or are NULL
    char *const *visible;   // what it sees of the hidden folders; what is not there is left out
    char *const *devices;   // names below /dev beside null, zero, full, random and urandom; "*" for all
    int processes;          // it sees the processes of others
    int own_processes;      // what /proc has of its own processes is writable
    int kernel_settings;    // /proc/sys and /sys are writable
    int new_code;           // memory may be writable and executable
    int bare;               // it sees nothing of what services see of PID 1 and the engine
};

/// Enters a view, in a mount namespace of this process's own. Returns NULL, or what failed, with
/// the reason in errno.
const char *csystem_enter_view(const struct csystem_view *view);

/// Address families that a filter may allow.
#define CSYSTEM_FAMILIES 32
/// Every call of the kernel.
#define CSYSTEM_ALL_CALLS (UINT32_C(1) << 31)
/// Of the usual set only what a program needs that reads, computes and prints: no sockets, and
/// nothing that changes a file.
#define CSYSTEM_COMPUTING_CALLS (UINT32_C(1) << 30)

/// The calls of the kernel that a program may make, and those that it starts.
struct csystem_calls {
    uint32_t sets;          // a bit each beside the usual set: users, chroot, clocks, mounts, modules, the kernel's log,
                            // other processes, memory policies; or CSYSTEM_ALL_CALLS or
                            // CSYSTEM_COMPUTING_CALLS
    const int *families;    // address families of sockets
    int family_count;
    int namespaces;         // it may make and enter namespaces
};

/// Limits this process to them for good (seccomp(2)). Returns 0 or -1.
int csystem_limit_calls(const struct csystem_calls *calls);

/// What a child is to become. Filled before the fork: between fork and exec no Swift runs, since its runtime may hold a
/// lock that no thread of the child will ever release.
struct csystem_child {
    const char *program;
    char *const *arguments;
    char *const *environment;
    const char *root;       // chroot there first, or NULL
    const char *directory;  // the working directory, entered as the child's user; or NULL to keep ours
    unsigned umask;         // of umask(2)
    int cgroup;             // a cgroup folder to start in, or -1
    int output;             // becomes standard output and error, or -1 to keep ours
    int error;              // becomes standard error instead of `output`, or -1
    int input;              // becomes standard input, or -1 for /dev/null
    unsigned user, group;   // numeric; set only when not 0
    const unsigned *groups; // supplementary ones
    int group_count;
    uint64_t capabilities;  // a bit each; what is kept when keep_capabilities_only is set
    int keep_capabilities_only;
    int no_new_privileges;
    uint64_t namespaces;    // CLONE_NEW* of those that it has for itself
    char *const *read_only_paths; // ends with NULL; or NULL for none
    int private_tmp;
    const struct csystem_limit *limits;
    int limit_count;
    int oom_score_adjustment;
    int ends_with_parent;   // it is killed when the thread that started it ends
    int new_session;        // a session of its own, with `input` as its terminal when that is one
    const char *network;    // the file of a network namespace that it enters, or NULL
    const struct csystem_view *view;   // or NULL for its parent's
    const struct csystem_calls *calls; // or NULL for all
};

/// Starts a child by clone3(2); the errno of what failed on the way comes back, and in `step` what that was, so that a
/// program that can't run is an error here. Returns the pid, or minus the errno.
int csystem_spawn(const struct csystem_child *child, char step[28]);

// --- Programs of unknown origin ---

/// Folders that a sandbox may have beside its tree.
#define CSYSTEM_SANDBOX_FOLDERS 8

/// A folder or a file of the host, and where it is mounted, read-only, below the sandbox's root.
struct csystem_sandbox_folder {
    const char *source;
    const char *place;
};

/// A program of unknown origin, in namespaces of its own (user, mount, PID, network, IPC, UTS, cgroup), with a read-only
/// tree as its root, three devices, no capability and no way to new ones.
struct csystem_sandbox {
    const char *program;    // a path in the sandbox
    char *const *arguments;
    char *const *environment;
    const char *tree;       // a folder of the host whose usr and etc become the sandbox's
    const char *root;       // a folder of the host where the sandbox's root is mounted, not /; NULL for the tree
    struct csystem_sandbox_folder folders[CSYSTEM_SANDBOX_FOLDERS]; // made where the tree has none, but in usr and etc
    int folder_count;
    int has_tmp;            // a /tmp of 1 MiB that it may write to; else it may write to nothing
    int whole_proc;         // /proc also has what is not of its own processes, read-only
    struct csystem_calls calls;
    int cgroup;             // a cgroup's folder to start in, or -1
    int oom_score_adjustment;
    int input;              // becomes standard input, or -1 for /dev/null
    int output, error;
    unsigned user;          // its user and group, not 0
    int without_users;      // no user namespace; only root can do without
    const struct csystem_limit *limits;
    int limit_count;
};

/// Starts a program in a sandbox; works for root and for every user who may make user namespaces. It is killed when the
/// thread that called this ends. Returns the pid; or minus the errno, with what failed in `step`.
int csystem_spawn_sandbox(const struct csystem_sandbox *sandbox, char step[28]);

/// Descriptors that a program may be given.
#define CSYSTEM_START_FILES 16

/// A program as posix_spawnp(3) would start it, but that the kernel kills it when the thread that started it ends.
struct csystem_start {
    const char *program;    // looked up in this process's PATH when it holds no slash
    char *const *arguments;
    char *const *environment;
    int files[CSYSTEM_START_FILES]; // become descriptors 0, 1, …; -1 for /dev/null
    int file_count;
    int network;            // a network namespace to enter first, or -1
};

/// Starts it by fork(2) and execvpe(3). Returns the pid, or minus the errno.
int csystem_start(const struct csystem_start *start);

/// pipe2(2) with O_CLOEXEC: a program that another thread starts meanwhile inherits neither end. Returns 0 or -1.
int csystem_blocking_pipe(int *reading, int *writing);

/// A pipe, close-on-exec, whose reading end never waits. Returns 0 or -1.
int csystem_pipe(int ends[2]);
/// accept4(2), close-on-exec and non-blocking. Returns a descriptor, or -1.
int csystem_accept(int listener);

/// Sets a hardware watchdog's time in seconds and returns what it became, or -1; feeds it.
int csystem_watchdog_timeout(int watchdog, int seconds);
int csystem_watchdog_ping(int watchdog);

/// Opens a read-only device-mapper device of one target: DEV_CREATE, TABLE_LOAD, DEV_SUSPEND (dm-ioctl.h).
/// Returns its minor number, or minus the errno.
int csystem_map_device(const char *name, const char *target, const char *parameters, uint64_t sectors);
/// Takes a device-mapper device away. Returns 0, or minus the errno.
int csystem_unmap_device(const char *name);

/// Bytes of a block device, or -1.
int64_t csystem_device_size(int device);
/// Tells the kernel that partition `number` of an open disk now has another length (BLKPG). Returns 0 or -1.
int csystem_resize_partition(int disk, int number, int64_t start, int64_t length);

/// signalfd(2) for the signals in `mask`, a bit each (bit 1 for signal 1); they are blocked first.
int csystem_signal_descriptor(uint64_t mask);
/// Lets all signals through again, for a child.
void csystem_unblock_signals(void);
/// The signal number read from a signalfd and its sender, 0 for the kernel, -1 for a process that
/// names its sender itself (rt_sigqueueinfo(2)); or 0 when none is waiting.
int csystem_read_signal(int descriptor, pid_t *sender);

/// epoll(7): adds a descriptor for reading; waits up to `milliseconds` and returns how many of `ready` were filled.
int csystem_epoll_create(void);
int csystem_epoll_add(int epoll, int descriptor);
int csystem_epoll_remove(int epoll, int descriptor);
int csystem_epoll_wait(int epoll, int *ready, int count, int milliseconds);

/// A socket that hears the kernel's device events, or -1.
int csystem_device_events(void);
/// Brings the loopback interface up. Returns 0 or -1.
int csystem_loopback_up(void);
/// True when the input device can report the power button; non-blocking reads of it give 1 when it was pressed,
/// and -1 when the device is gone.
int csystem_is_power_button(int device);
int csystem_power_button_pressed(int device);
/// Fills `bytes` from the kernel's generator; -1 when that isn't ready yet.
int csystem_random(void *bytes, size_t count);
/// Mixes `bytes` into the kernel's generator and credits them as entropy.
int csystem_add_entropy(const void *bytes, size_t count);
/// Gives memory that nothing uses back to the kernel (malloc_trim(3), which Swift's module of glibc leaves out).
void csystem_trim_memory(void);
/// Has all threads use one heap (mallopt(3)): a second one would keep memory that the first could use.
void csystem_share_heap(void);
/// An eventfd(2) that is not set; reads of it never wait. Returns -1 on failure.
int csystem_event(void);
/// Has a file system tell its disk which blocks hold nothing any more, as far as both can.
void csystem_trim_filesystem(const char *path);
/// Waits until the file system of an open file is on its disk (syncfs(2)).
int csystem_sync_filesystem(int file);
