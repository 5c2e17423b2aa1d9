#define _GNU_SOURCE
#include "CSystem.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

// Runs between fork and execve: no memory is allocated here, and no lock is taken.

// Calls that are newer than some releases of glibc; these numbers are those of all architectures.
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_futex_wake
#define SYS_futex_wake 454
#define SYS_futex_wait 455
#define SYS_futex_requeue 456
#endif
#ifndef SYS_statmount
#define SYS_statmount 457
#define SYS_listmount 458
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
// The first number that this list doesn't know: programs take ENOSYS as a kernel without it, and do
// without.
#define FIRST_UNKNOWN 463

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#else
#error "seccomp(2): which architecture is this?"
#endif

// What a program needs that reads files, computes, prints and starts others: nothing of the
// kernel's that outlives it.
static const short computing[] = {
    // Files.
    SYS_read, SYS_write, SYS_close, SYS_fstat, SYS_lseek, SYS_pread64, SYS_pwrite64, SYS_readv, SYS_writev,
    SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2, SYS_openat, SYS_openat2, SYS_newfstatat, SYS_statx,
    SYS_faccessat, SYS_faccessat2, SYS_readlinkat, SYS_getdents64, SYS_getcwd, SYS_chdir, SYS_fchdir, SYS_fadvise64,
    SYS_sendfile, SYS_splice, SYS_copy_file_range, SYS_statfs, SYS_fstatfs, SYS_flock, SYS_fcntl, SYS_dup, SYS_dup3,
    SYS_pipe2, SYS_ioctl, SYS_umask, SYS_close_range,
    // Waiting.
    SYS_ppoll, SYS_pselect6, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_eventfd2,
    SYS_signalfd4, SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime, SYS_nanosleep, SYS_clock_nanosleep,
    SYS_futex, SYS_futex_waitv, SYS_futex_wake, SYS_futex_wait, SYS_futex_requeue, SYS_restart_syscall,
    // Memory.
    SYS_brk, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_madvise, SYS_mincore, SYS_membarrier, SYS_mseal,
    SYS_pkey_alloc, SYS_pkey_free, SYS_pkey_mprotect, SYS_rseq,
    // Processes and threads; which clones, the filter says.
    SYS_execve, SYS_execveat, SYS_exit, SYS_exit_group, SYS_wait4, SYS_waitid, SYS_kill, SYS_tkill, SYS_tgkill,
    SYS_pidfd_open, SYS_pidfd_send_signal, SYS_set_tid_address, SYS_set_robust_list, SYS_get_robust_list, SYS_prctl,
    SYS_getpid, SYS_getppid, SYS_gettid, SYS_getpgid, SYS_setpgid, SYS_getsid, SYS_setsid, SYS_getpriority,
    SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_getparam, SYS_sched_getscheduler, SYS_sched_get_priority_max,
    SYS_sched_get_priority_min, SYS_sched_getattr, SYS_sched_rr_get_interval, SYS_getrusage, SYS_getrlimit,
    SYS_setrlimit, SYS_prlimit64, SYS_times, SYS_getcpu, SYS_capget, SYS_seccomp, SYS_rt_sigaction,
    SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigpending, SYS_rt_sigsuspend, SYS_rt_sigtimedwait,
    SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_sigaltstack,
    // The system, and times.
    SYS_uname, SYS_sysinfo, SYS_getrandom, SYS_gettimeofday, SYS_clock_gettime, SYS_clock_getres, SYS_getitimer,
    SYS_setitimer, SYS_timer_create, SYS_timer_delete, SYS_timer_settime, SYS_timer_gettime, SYS_timer_getoverrun,
    SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getresuid, SYS_getresgid, SYS_getgroups,
#ifdef __x86_64__
    // Older forms of the above.
    SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_getdents, SYS_dup2, SYS_pipe, SYS_poll, SYS_select,
    SYS_epoll_create, SYS_epoll_wait, SYS_eventfd, SYS_signalfd, SYS_alarm, SYS_pause, SYS_time, SYS_fork, SYS_vfork,
    SYS_getpgrp, SYS_arch_prctl, SYS_set_thread_area, SYS_get_thread_area,
#endif
};

// What a program needs beside these that serves: changes to files, sockets, shared memory, queues.
// As systemd's @system-service, without users, keys, priorities of real time, and what the kernel
// has for few programs only.
static const short service[] = {
    // Files.
    SYS_mkdirat, SYS_unlinkat, SYS_renameat2, SYS_linkat, SYS_symlinkat, SYS_mknodat, SYS_fchmod, SYS_fchmodat,
    SYS_fchmodat2, SYS_fchown, SYS_fchownat, SYS_utimensat, SYS_truncate, SYS_ftruncate, SYS_fallocate, SYS_readahead,
    SYS_tee, SYS_vmsplice, SYS_sync, SYS_fsync, SYS_fdatasync, SYS_syncfs, SYS_sync_file_range, SYS_msync,
    SYS_cachestat, SYS_memfd_create, SYS_statmount, SYS_listmount, SYS_getxattr, SYS_lgetxattr, SYS_fgetxattr,
    SYS_listxattr, SYS_llistxattr, SYS_flistxattr, SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr, SYS_removexattr,
    SYS_lremovexattr, SYS_fremovexattr, SYS_inotify_init1, SYS_inotify_add_watch, SYS_inotify_rm_watch,
    SYS_io_setup, SYS_io_destroy, SYS_io_submit, SYS_io_cancel, SYS_io_getevents, SYS_io_pgetevents,
    // Sockets; which families, the filter says.
    SYS_bind, SYS_connect, SYS_listen, SYS_accept, SYS_accept4, SYS_getsockname, SYS_getpeername, SYS_sendto,
    SYS_recvfrom, SYS_sendmsg, SYS_recvmsg, SYS_sendmmsg, SYS_recvmmsg, SYS_setsockopt, SYS_getsockopt, SYS_shutdown,
    // Memory.
    SYS_mlock, SYS_mlock2, SYS_munlock, SYS_mlockall, SYS_munlockall, SYS_shmget, SYS_shmat, SYS_shmctl, SYS_shmdt,
    SYS_semget, SYS_semctl, SYS_semop, SYS_semtimedop, SYS_msgget, SYS_msgctl, SYS_msgsnd, SYS_msgrcv,
    SYS_mq_open, SYS_mq_unlink, SYS_mq_timedsend, SYS_mq_timedreceive, SYS_mq_notify, SYS_mq_getsetattr,
    // Processes and threads.
    SYS_setpriority, SYS_sched_setaffinity, SYS_sched_setscheduler, SYS_sched_setparam, SYS_sched_setattr,
    SYS_ioprio_get, SYS_ioprio_set, SYS_capset, SYS_landlock_create_ruleset, SYS_landlock_add_rule,
    SYS_landlock_restrict_self, SYS_vhangup,
#ifdef __x86_64__
    // Older forms of the above.
    SYS_creat, SYS_mkdir, SYS_rmdir, SYS_unlink, SYS_rename, SYS_renameat, SYS_link, SYS_symlink, SYS_mknod, SYS_chmod,
    SYS_chown, SYS_lchown, SYS_utime, SYS_utimes, SYS_futimesat, SYS_inotify_init,
#else
    SYS_renameat,
#endif
};

// Becoming another user, as a daemon does that starts as root or logs users in.
static const short users[] = {
    SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setfsuid, SYS_setfsgid,
    SYS_setgroups,
};
static const short root_folder[] = {SYS_chroot};
static const short clocks[] = {SYS_adjtimex, SYS_clock_adjtime, SYS_clock_settime, SYS_settimeofday};
static const short mounts[] = {
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_mount_setattr, SYS_move_mount, SYS_open_tree, SYS_fsopen,
    SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_chroot,
};
static const short modules[] = {SYS_init_module, SYS_finit_module, SYS_delete_module};
static const short log_of_kernel[] = {SYS_syslog};
static const short others[] = {SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, SYS_pidfd_getfd};
static const short raw_memory[] = {SYS_mbind, SYS_set_mempolicy, SYS_get_mempolicy, SYS_migrate_pages, SYS_move_pages};

static const struct {
    const short *numbers;
    int count;
} sets[] = {
#define SET(array) {array, sizeof(array) / sizeof *(array)}
    SET(users), SET(root_folder), SET(clocks), SET(mounts), SET(modules), SET(log_of_kernel), SET(others),
    SET(raw_memory),
};

#define NAMESPACES                                                                                                    \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |     \
     0x80 /* CLONE_NEWTIME */)

#define MOST 2048
static struct sock_filter code[MOST];
static int length;

static void add(uint16_t operation, uint32_t value, uint8_t then, uint8_t otherwise) {
    if (length < MOST) code[length] = (struct sock_filter){operation, then, otherwise, value};
    length++;
}

static void load(size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0); }
static void give(uint32_t answer) { add(BPF_RET | BPF_K, answer, 0, 0); }
#define LOAD_NUMBER() load(offsetof(struct seccomp_data, nr))
// The lower half of an argument: both architectures are little-endian, and these arguments are ints
// to the kernel.
#define LOAD_ARGUMENT(n) load(offsetof(struct seccomp_data, args) + 8 * (n))
#define REFUSE(code) (SECCOMP_RET_ERRNO | (code))

static void allow(const short *numbers, int count) {
    for (int i = 0; i < count; i++) {
        add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)numbers[i], 0, 1);
        give(SECCOMP_RET_ALLOW);
    }
}

// Of the families that the service may use, sockets are allowed; a kernel without the others would
// say the same.
static void allow_families(int number, const struct csystem_calls *calls) {
    int count = calls->family_count;
    add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, (uint8_t)(2 * count + 2));
    LOAD_ARGUMENT(0);
    for (int i = 0; i < count; i++) {
        add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls->families[i], 0, 1);
        give(SECCOMP_RET_ALLOW);
    }
    give(REFUSE(EAFNOSUPPORT));
}

// The filter in `code`; its length, or -1 when there is no room for it.
static int generate(const struct csystem_calls *calls) {
    length = 0;
    load(offsetof(struct seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, NATIVE, 1, 0);
    give(SECCOMP_RET_KILL_PROCESS);
    LOAD_NUMBER();
#ifdef __x86_64__
    // x32's numbers: another way to the same calls.
    add(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);
    give(REFUSE(ENOSYS));
#endif
    allow_families(SYS_socket, calls);
    allow_families(SYS_socketpair, calls);
    if (!calls->namespaces) {
        add(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4);
        LOAD_ARGUMENT(0);
        add(BPF_JMP | BPF_JSET | BPF_K, NAMESPACES, 0, 1);
        give(REFUSE(EPERM));
        give(SECCOMP_RET_ALLOW);
        // Its flags are in memory, where a filter can't look; libraries do with clone(2) then.
        add(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1);
        give(REFUSE(ENOSYS));
        add(BPF_JMP | BPF_JEQ | BPF_K, SYS_unshare, 0, 4);
        LOAD_ARGUMENT(0);
        add(BPF_JMP | BPF_JSET | BPF_K, NAMESPACES, 0, 1);
        give(REFUSE(EPERM));
        give(SECCOMP_RET_ALLOW);
    } else {
        static const short makers[] = {SYS_clone, SYS_clone3, SYS_unshare, SYS_setns};
        allow(makers, sizeof makers / sizeof *makers);
    }
    // Characters pushed into a terminal become input of the next program that reads it.
    add(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 5);
    LOAD_ARGUMENT(1);
    add(BPF_JMP | BPF_JEQ | BPF_K, TIOCSTI, 1, 0);
    add(BPF_JMP | BPF_JEQ | BPF_K, TIOCLINUX, 0, 1);
    give(REFUSE(EPERM));
    give(SECCOMP_RET_ALLOW);
    // Limits of this process alone: with user 0 those of PID 1 could be set, without any
    // capability.
    add(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 4);
    LOAD_ARGUMENT(0);
    add(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
    give(SECCOMP_RET_ALLOW);
    give(REFUSE(EPERM));
    // personality(2): what it asks is harmless, what it sets is not.
    add(BPF_JMP | BPF_JEQ | BPF_K, SYS_personality, 0, 4);
    LOAD_ARGUMENT(0);
    add(BPF_JMP | BPF_JEQ | BPF_K, 0xFFFFFFFF, 0, 1);
    give(SECCOMP_RET_ALLOW);
    give(REFUSE(EPERM));
    if (calls->sets & CSYSTEM_ALL_CALLS) {
        give(SECCOMP_RET_ALLOW);
    } else {
        allow(computing, sizeof computing / sizeof *computing);
        if (!(calls->sets & CSYSTEM_COMPUTING_CALLS)) allow(service, sizeof service / sizeof *service);
        for (int i = 0; i < (int)(sizeof sets / sizeof *sets); i++)
            if (calls->sets & (UINT32_C(1) << i)) allow(sets[i].numbers, sets[i].count);
        add(BPF_JMP | BPF_JGE | BPF_K, FIRST_UNKNOWN, 0, 1);
        give(REFUSE(ENOSYS));
        give(REFUSE(EPERM));
    }
    return length <= MOST ? length : -1;
}

int csystem_limit_calls(const struct csystem_calls *calls) {
    if (calls->family_count > CSYSTEM_FAMILIES || generate(calls) < 0) {
        errno = E2BIG;
        return -1;
    }
    struct sock_fprog program = {(unsigned short)length, code};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}
