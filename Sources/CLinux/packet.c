// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert(sizeof(struct cl_message) == sizeof(struct mmsghdr), "struct mmsghdr");
_Static_assert(offsetof(struct cl_message, length) == offsetof(struct mmsghdr, msg_len), "struct mmsghdr");
_Static_assert(offsetof(struct cl_message, control) == offsetof(struct mmsghdr, msg_hdr.msg_control), "struct mmsghdr");
_Static_assert(sizeof(struct cl_offload) == 10, "struct virtio_net_hdr");

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

static int fail(int fd)
{
    int error = errno;
    if (fd >= 0) close(fd);
    return -error;
}

// Large buffers where the kernel allows it, the most that it allows elsewhere.
static void set_buffers(int fd, int size)
{
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

int cl_packet_socket(int ifindex, int buffer_size)
{
    // Protocol 0 until bound, so that no frame of another interface slips in.
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    int one = 1;
    set_buffers(fd, buffer_size);
    if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) < 0) return fail(fd);
    if (setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one) < 0) return fail(fd);
    if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) < 0) return fail(fd);
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = ifindex};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) return fail(fd);
    return fd;
}

int cl_packet_sender(int ifindex, int buffer_size)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    int one = 1;
    set_buffers(fd, buffer_size);
    if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) < 0) return fail(fd);
    // Protocol 0 receives nothing.
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = ifindex};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) return fail(fd);
    return fd;
}

int cl_ring_open(struct cl_ring *ring, int fd, uint32_t slot_size, uint32_t slot_count)
{
    enum { BLOCK = 65536, HEADROOM = 16 };
    int version = TPACKET_V2, one = 1, headroom = HEADROOM;
    struct tpacket_req request = {
        .tp_block_size = BLOCK,
        .tp_block_nr = slot_size * slot_count / BLOCK,
        .tp_frame_size = slot_size,
        .tp_frame_nr = slot_count,
    };
    if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) < 0) return -errno;
    if (setsockopt(fd, SOL_PACKET, PACKET_RESERVE, &headroom, sizeof headroom) < 0) return -errno;
    if (setsockopt(fd, SOL_PACKET, PACKET_COPY_THRESH, &one, sizeof one) < 0) return -errno;
    if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) < 0) return -errno;
    void *slots = mmap(NULL, (size_t)slot_size * slot_count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (slots == MAP_FAILED) return -errno;
    *ring = (struct cl_ring){.slots = slots, .slot_size = slot_size, .slot_count = slot_count};
    return 0;
}

void cl_ring_close(struct cl_ring *ring)
{
    if (ring->slots) munmap(ring->slots, (size_t)ring->slot_size * ring->slot_count);
    ring->slots = NULL;
}

static struct tpacket2_hdr *slot_of(const struct cl_ring *ring, unsigned ahead)
{
    return (struct tpacket2_hdr *)(ring->slots + (size_t)((ring->next + ahead) % ring->slot_count) * ring->slot_size);
}

unsigned cl_ring_peek(const struct cl_ring *ring, struct cl_ring_frame *frames, unsigned count)
{
    unsigned at = 0;
    for (; at < count; at++) {
        struct tpacket2_hdr *slot = slot_of(ring, at);
        // What the kernel wrote before it gave the slot over is seen after this.
        uint32_t status = __atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE);
        if (!(status & TP_STATUS_USER)) break;
        uint16_t tpid = status & TP_STATUS_VLAN_TPID_VALID ? slot->tp_vlan_tpid : ETH_P_8021Q;
        frames[at] = (struct cl_ring_frame){
            .start = (uint8_t *)slot + slot->tp_mac,
            .captured = slot->tp_snaplen,
            .length = slot->tp_len,
            .vlan = status & TP_STATUS_VLAN_VALID ? (int64_t)tpid << 16 | slot->tp_vlan_tci : -1,
            .is_queued = (status & TP_STATUS_COPY) != 0,
        };
        __builtin_prefetch(frames[at].start);
    }
    return at;
}

void cl_ring_release(struct cl_ring *ring, unsigned count)
{
    for (unsigned at = 0; at < count; at++)
        __atomic_store_n(&slot_of(ring, at)->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    ring->next = (ring->next + count) % ring->slot_count;
}

uint32_t cl_socket_drops(int fd, int is_packet_socket)
{
    if (is_packet_socket) {
        struct tpacket_stats statistics;
        socklen_t size = sizeof statistics;
        return getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &size) < 0 ? 0 : statistics.tp_drops;
    }
    uint32_t memory[SK_MEMINFO_VARS] = {0};
    socklen_t size = sizeof memory;
    return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &size) < 0 ? 0 : memory[SK_MEMINFO_DROPS];
}

static int tunnel_socket(int type, int ip_protocol, int buffer_size)
{
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, ip_protocol);
    if (fd < 0) return -errno;
    set_buffers(fd, buffer_size);
    // Outer packets may be fragmented: what is too big for the path is told to the sender before it comes here.
    int discover = IP_PMTUDISC_DONT;
    setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof discover);
    return fd;
}

static int bound(int fd, uint32_t local_ipv4, uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(local_ipv4)};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) return fail(fd);
    return fd;
}

int cl_raw_socket(int ip_protocol, uint32_t local_ipv4, int buffer_size)
{
    int fd = tunnel_socket(SOCK_RAW, ip_protocol, buffer_size);
    return fd < 0 ? fd : bound(fd, local_ipv4, 0);
}

int cl_connect_ipv4(int fd, uint32_t remote_ipv4)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(remote_ipv4)};
    // Nobody reads what comes: the least that the kernel grants is kept.
    int least = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof least);
    return connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
}

int cl_udp_socket(uint32_t local_ipv4, uint16_t port, int buffer_size)
{
    int fd = tunnel_socket(SOCK_DGRAM, 0, buffer_size);
    if (fd < 0) return fd;
    int one = 1;
    setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof one);
    return bound(fd, local_ipv4, port);
}

int cl_udp_sender(uint32_t local_ipv4, int buffer_size)
{
    int fd = tunnel_socket(SOCK_DGRAM, 0, buffer_size);
    if (fd < 0) return fd;
    // Nobody reads what comes to the port.
    struct sock_filter none = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog program = {.len = 1, .filter = &none};
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) return fail(fd);
    return bound(fd, local_ipv4, 0);
}

int cl_receive(int fd, struct cl_message *messages, unsigned count)
{
    int n = recvmmsg(fd, (struct mmsghdr *)messages, count, MSG_DONTWAIT, NULL);
    return n < 0 ? -errno : n;
}

int cl_send(int fd, struct cl_message *messages, unsigned count)
{
    int n = sendmmsg(fd, (struct mmsghdr *)messages, count, MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

int64_t cl_vlan_of(const struct cl_message *message)
{
    struct msghdr *header = &((struct mmsghdr *)message)->msg_hdr;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA) continue;
        struct tpacket_auxdata aux;
        memcpy(&aux, CMSG_DATA(c), sizeof aux);
        if (!(aux.tp_status & TP_STATUS_VLAN_VALID)) return -1;
        uint16_t tpid = aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : ETH_P_8021Q;
        return (int64_t)tpid << 16 | aux.tp_vlan_tci;
    }
    return -1;
}

int cl_gro_size_of(const struct cl_message *message)
{
    struct msghdr *header = &((struct mmsghdr *)message)->msg_hdr;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != IPPROTO_UDP || c->cmsg_type != UDP_GRO) continue;
        int size;
        memcpy(&size, CMSG_DATA(c), sizeof size);
        return size;
    }
    return 0;
}

static size_t put(void *control, int level, int type, uint32_t value)
{
    struct cmsghdr *c = control;
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(sizeof value);
    memcpy(CMSG_DATA(c), &value, sizeof value);
    return CMSG_SPACE(sizeof value);
}

size_t cl_put_header(void *control, uint8_t tos, uint32_t priority)
{
    // In this order: a TOS implies a priority, which is then replaced.
    size_t length = tos ? put(control, IPPROTO_IP, IP_TOS, tos) : 0;
    if (priority) length += put((char *)control + length, SOL_SOCKET, SO_PRIORITY, priority);
    return length;
}

bool cl_takes_priority(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    // To itself, so that nobody is bothered.
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof own;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(uint32_t))];
    } control;
    char byte = 0;
    struct iovec piece = {&byte, 1};
    struct msghdr message = {
        .msg_name = &own, .msg_namelen = sizeof own, .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control};
    message.msg_controllen = put(&control, SOL_SOCKET, SO_PRIORITY, 1);
    bool takes = bind(fd, (struct sockaddr *)&own, sizeof own) == 0
        && getsockname(fd, (struct sockaddr *)&own, &size) == 0
        && (sendmsg(fd, &message, MSG_DONTWAIT) == 1 || errno != EINVAL);
    close(fd);
    return takes;
}

void cl_ipv4_address(void *storage, uint32_t address, uint16_t port)
{
    struct sockaddr_in value = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
    memcpy(storage, &value, sizeof value);
}

int cl_is_gone(int packet_socket)
{
    struct sockaddr_ll address = {0};
    socklen_t length = sizeof address;
    if (getsockname(packet_socket, (struct sockaddr *)&address, &length) < 0) return 1;
    // The error that woke the caller is read away, or it would wake it for ever.
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(packet_socket, SOL_SOCKET, SO_ERROR, &error, &size);
    // The kernel unbinds the socket of an interface that was removed; one that is merely down stays bound.
    return address.sll_ifindex <= 0;
}
