#define _GNU_SOURCE
#include "CSystem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int make(const char *path, int type, struct sockaddr_un *address) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address->sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address->sun_path, path);
    return socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
}

int csystem_connect_unix(const char *path, int packets) {
    struct sockaddr_un address;
    int connection = make(path, packets ? SOCK_SEQPACKET : SOCK_STREAM, &address);
    if (connection < 0) return -1;
    if (connect(connection, (struct sockaddr *)&address, sizeof address) == 0) return connection;
    int failure = errno;
    close(connection);
    errno = failure;
    return -1;
}

static int listen_at(const char *path, int type, mode_t mode) {
    struct sockaddr_un address;
    int listener = make(path, type | SOCK_NONBLOCK, &address);
    if (listener < 0) return -1;
    unlink(path);
    // The file that bind(2) makes has the socket's own mode, less the umask: the umask is the whole process's, and two
    // threads that change it for a moment leave it changed.
    if (fchmod(listener, mode) == 0 && bind(listener, (struct sockaddr *)&address, sizeof address) == 0 &&
        chmod(path, mode) == 0 && (type == SOCK_DGRAM || listen(listener, 256) == 0)) return listener;
    int failure = errno;
    close(listener);
    errno = failure;
    return -1;
}

int csystem_listen_unix(const char *path, int packets) {
    return listen_at(path, packets ? SOCK_SEQPACKET : SOCK_STREAM, 0600);
}

int csystem_notify_socket(const char *path) {
    // Services of all users speak to it; who speaks is the kernel's word, not theirs.
    int listener = listen_at(path, SOCK_DGRAM, 0666);
    int on = 1;
    if (listener >= 0) setsockopt(listener, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    return listener;
}

unsigned csystem_peer(int connection) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 ? peer.uid : (unsigned)-1;
}

pid_t csystem_peer_process(int connection) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 ? peer.pid : 0;
}

int csystem_peer_lives(int connection) {
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
    int process;
    socklen_t length = sizeof process;
    if (getsockopt(connection, SOL_SOCKET, SO_PEERPIDFD, &process, &length) != 0) return errno == ESRCH || errno == EINVAL ? 0 : -1;
    struct pollfd polled = {.fd = process, .events = POLLIN};
    // Readable from the process's end on (pidfd_open(2)).
    int result = poll(&polled, 1, 0) == 0;
    close(process);
    return result;
}

int csystem_socket(int family, const char *kind, int protocol) {
    int type = !strcmp(kind, "stream") ? SOCK_STREAM : !strcmp(kind, "datagram") ? SOCK_DGRAM : SOCK_RAW;
    return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
}

int csystem_peer_in_group(int connection, unsigned group) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.gid == group) return 1;
    gid_t groups[256];
    length = sizeof groups;
    if (getsockopt(connection, SOL_SOCKET, SO_PEERGROUPS, groups, &length) != 0) return 0;
    for (size_t i = 0; i < length / sizeof *groups; i++) {
        if (groups[i] == group) return 1;
    }
    return 0;
}

int csystem_send_datagram(const char *path, const void *bytes, size_t count) {
    struct sockaddr_un address;
    int sender = make(path, SOCK_DGRAM, &address);
    if (sender < 0) return -1;
    ssize_t sent = sendto(sender, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address, sizeof address);
    close(sender);
    return sent == (ssize_t)count ? 0 : -1;
}

ssize_t csystem_receive_notification(int listener, void *bytes, size_t count, pid_t *sender) {
    struct iovec part = {.iov_base = bytes, .iov_len = count};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(64 * sizeof(int))];
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(listener, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    *sender = 0;
    if (got < 0) return got;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET) continue;
        if (part->cmsg_type == SCM_CREDENTIALS) {
            struct ucred credentials;
            memcpy(&credentials, CMSG_DATA(part), sizeof credentials);
            *sender = credentials.pid;
        } else if (part->cmsg_type == SCM_RIGHTS) {
            // Descriptors that somebody sends along would fill our table.
            size_t descriptors = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (size_t i = 0; i < descriptors; i++) {
                int descriptor;
                memcpy(&descriptor, CMSG_DATA(part) + i * sizeof(int), sizeof descriptor);
                close(descriptor);
            }
        }
    }
    return got;
}

int csystem_pipe(int ends[2]) {
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    return fcntl(ends[0], F_SETFL, O_NONBLOCK);
}

int csystem_accept(int listener) { return accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); }

int csystem_tap(const char *name) {
    int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (tap < 0) return -1;
    struct ifreq request = {0};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (ioctl(tap, TUNSETIFF, &request) == 0) return tap;
    int failure = errno;
    close(tap);
    errno = failure;
    return -1;
}

int csystem_packet_socket(const char *name) {
    int packets = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
    if (packets < 0) return -1;
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    address.sll_ifindex = (int)if_nametoindex(name);
    int size = 16 << 20;
    setsockopt(packets, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    if (address.sll_ifindex > 0 && bind(packets, (struct sockaddr *)&address, sizeof address) == 0) return packets;
    int failure = errno;
    close(packets);
    errno = failure;
    return -1;
}
