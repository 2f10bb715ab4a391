// SPDX-License-Identifier: Apache-2.0
// What Swift cannot see of Linux: macros, variadic calls and structures that glibc shows under _GNU_SOURCE only.
#ifndef CLINUX_H
#define CLINUX_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

// struct mmsghdr; its layout is checked against the system's in packet.c.
struct cl_message {
    void *name;
    uint32_t name_length;
    struct iovec *iov;
    size_t iov_count;
    void *control;
    size_t control_length;
    int32_t flags;
    uint32_t padding;
    uint32_t length;
};

// struct virtio_net_hdr: how the checksum and the segmentation of a frame were left to be done.
struct cl_offload {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t header_length;
    uint16_t gso_size;
    uint16_t checksum_start;
    uint16_t checksum_offset;
};

enum { CL_CONTROL_SIZE = 64 };

// All return -errno on failure.
int cl_packet_socket(int ifindex, int buffer_size);
// A packet socket that only sends. Nobody waits for it, so that the end of each frame wakes nobody.
int cl_packet_sender(int ifindex, int buffer_size);
// A ring of slots that the kernel writes a packet socket's frames into, in the sender's time and without a system call
// of ours (TPACKET_V2). What is larger than a slot is in the socket's queue too, whole.
struct cl_ring {
    uint8_t *slots;
    uint32_t slot_size;
    uint32_t slot_count;
    uint32_t next;
};
struct cl_ring_frame {
    // The Ethernet header; a struct cl_offload ends where it begins.
    uint8_t *start;
    // Bytes at start, and bytes that the frame has.
    uint32_t captured;
    uint32_t length;
    // As of cl_vlan_of.
    int64_t vlan;
    // Whether the whole frame is in the socket's queue.
    int is_queued;
};
// slot_size a power of two; slot_count * slot_size a multiple of 64 KiB.
int cl_ring_open(struct cl_ring *ring, int packet_socket, uint32_t slot_size, uint32_t slot_count);
void cl_ring_close(struct cl_ring *ring);
// Looks at up to count frames that are there, oldest first; returns how many.
unsigned cl_ring_peek(const struct cl_ring *ring, struct cl_ring_frame *frames, unsigned count);
// Gives the oldest count slots back to the kernel.
void cl_ring_release(struct cl_ring *ring, unsigned count);
// Packets that found the socket's queue or ring full: of a packet socket since the last call, of others since they were
// made.
uint32_t cl_socket_drops(int fd, int is_packet_socket);
int cl_raw_socket(int ip_protocol, uint32_t local_ipv4, int buffer_size);
// Hears from that host only.
int cl_connect_ipv4(int fd, uint32_t remote_ipv4);
int cl_udp_socket(uint32_t local_ipv4, uint16_t port, int buffer_size);
// Sends from a port that the kernel chooses, and hears nothing.
int cl_udp_sender(uint32_t local_ipv4, int buffer_size);
int cl_receive(int fd, struct cl_message *messages, unsigned count);
int cl_send(int fd, struct cl_message *messages, unsigned count);
// The VLAN tag that a packet socket took off a frame: tpid << 16 | tci, or -1.
int64_t cl_vlan_of(const struct cl_message *message);
// The size of the datagrams that UDP_GRO joined into one; 0 when it is one.
int cl_gro_size_of(const struct cl_message *message);
// Writes the control messages that say IP_TOS and SO_PRIORITY of one datagram, of what is not 0; at most 48 bytes. Returns their
// length.
size_t cl_put_header(void *control, uint8_t tos, uint32_t priority);
// Whether the kernel takes SO_PRIORITY with a datagram: Linux 6.14 and newer.
bool cl_takes_priority(void);
// Fills a struct sockaddr_in of 16 bytes.
void cl_ipv4_address(void *storage, uint32_t address, uint16_t port);

// A UDP socket at a port of all addresses, of both families where the host has both; stores the family.
enum { CL_ADDRESS_SIZE = 28 };
int cl_datagram_socket(uint16_t port, int buffer_size, int *family);
// Looks an address or a name up for a socket of a family; stores a socket address and returns its length.
int cl_resolve(const char *host, uint16_t port, int family, void *storage);
int cl_datagram_send(int fd, const void *address, int address_length, const void *bytes, size_t count);
// Stores up to count datagrams, each at another multiple of size, and their lengths, which may be more than was stored;
// returns how many there were.
enum { CL_DATAGRAMS_AT_ONCE = 64 };
int cl_datagram_receive(int fd, void *bytes, size_t size, int count, int *lengths);
// Has the kernel drop datagrams but those of least to most bytes that begin with a version (1 byte), a byte, and three
// words (big-endian) which are among the count triples of words. They are told apart by a sum of products with three
// factors, which are secret and odd. Where the kernel does not take as many it takes all, and the error is returned.
int cl_datagram_accept_only(
    int fd, int least, int most, int version, const uint32_t *factors, const uint32_t *words, int count);
// How many datagrams the kernel dropped at a socket, by that or for want of room; it wraps.
int cl_datagram_dropped(int fd, uint32_t *dropped);

// Has the calling thread's pauses last as long as they say, within a microsecond.
void cl_thread_pauses_exactly(void);
void cl_pause(uint64_t nanoseconds);

// Whether the interface of a packet socket is there no more.
int cl_is_gone(int packet_socket);
int cl_epoll_create(void);
int cl_epoll_add(int epoll, int fd, uint64_t data);
int cl_epoll_remove(int epoll, int fd);
// Waits; stores up to count data words and the events of each.
int cl_epoll_wait(int epoll, uint64_t *data, uint32_t *events, int count, int timeout_ms);
int cl_eventfd(void);
void cl_eventfd_signal(int fd);
void cl_eventfd_drain(int fd);
uint64_t cl_monotonic_ns(void);

int cl_interface_index(const char *name);
int cl_interface_mtu(const char *name);
int cl_interface_up(const char *name);
int cl_interface_promiscuous(int fd, int ifindex);
uint64_t cl_interface_mac(const char *name);

// A process that begins in given namespaces.
struct cl_spawn {
    const char *path;
    char *const *arguments;
    char *const *environment;
    // Namespaces to enter before the program starts, in order.
    const int *namespaces;
    size_t namespace_count;
    // Descriptors for standard input, output and error; -1 leaves the caller's.
    int stdio[3];
    // Kill the process when the thread that started it ends.
    int dies_with_parent;
    // Fork once more behind the namespaces, so that a process namespace among them takes effect; the process in between
    // waits and passes the exit status on.
    int relays;
    // A session of its own, so that a terminal's signals do not reach it.
    int own_session;
    // A descriptor that it has besides; -1: none. All others of the caller's stay the caller's.
    int kept;
    // What is added to its nice value; who may not be quicker than others is as they are.
    int niceness;
};
// Starts a process; returns its id or -errno. Only async-signal-safe calls are made between fork and exec.
int cl_spawn_process(const struct cl_spawn *spawn);

// Splits off the first process of a new world: user namespace (when map_user), mounts, network, processes, IPC, names.
// It runs the program as process 1 of that world; the id in the caller's world is returned, or -errno.
// `stage` receives what failed: 1 user namespace, 2 id maps, 3 the others, 4 the program.
int cl_spawn_world(const struct cl_spawn *spawn, int map_user, int *stage);

// Catches SIGTERM, SIGINT, SIGHUP and SIGCHLD; returns 0 or -errno. Then waits for one of them: returns its number.
int cl_catch_signals(void);
int cl_wait_signal(void);
int cl_enter(int namespace_fd);
int cl_unshare_network(void);
int cl_mount_private(void);
int cl_mount_bind(const char *source, const char *target);
// Makes a pipe whose ends no other program gets; 0 or -errno.
int cl_pipe(int ends[2]);
int cl_mount_proc(void);
int cl_open_path(const char *path);
// A descriptor of a process, whoever's child it is: it can be read when the process ended (pidfd_open).
int cl_process(int pid);
// Waits for any child; returns its id, 0 when none ended (with no_hang) or -errno. `status` is the exit status, 128 + n
// for a signal.
int cl_wait(int pid, int no_hang, int *status);

// Starts a joinable thread with all signals blocked; returns 0 or -errno.
int cl_thread_start(const char *name, void *(*body)(void *), void *context, uint64_t *thread);
void cl_thread_join(uint64_t thread);
int cl_current_processor(void);
// Keeps the calling thread on a processor, if it is one that the thread may use; the other sets it free again.
void cl_run_on(int processor);
void cl_run_anywhere(void);
// Asks for short turns on the processor, which begin soon: what a thread wants that is woken for one packet.
void cl_run_soon(void);
static inline void cl_prefetch_read(const void *address) { __builtin_prefetch(address); }
#endif
