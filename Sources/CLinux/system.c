// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"
#include <sys/prctl.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int cl_epoll_create(void)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int cl_epoll_add(int epoll, int fd, uint64_t data)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int cl_epoll_remove(int epoll, int fd)
{
    return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

int cl_epoll_wait(int epoll, uint64_t *data, uint32_t *events, int count, int timeout_ms)
{
    struct epoll_event list[64];
    if (count > 64) count = 64;
    int n = epoll_wait(epoll, list, count, timeout_ms);
    if (n < 0) return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++) {
        data[i] = list[i].data.u64;
        events[i] = list[i].events;
    }
    return n;
}

int cl_eventfd(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

void cl_eventfd_signal(int fd)
{
    uint64_t one = 1;
    // A full counter is already a signal.
    ssize_t written = write(fd, &one, sizeof one);
    (void)written;
}

void cl_eventfd_drain(int fd)
{
    uint64_t value;
    ssize_t got = read(fd, &value, sizeof value);
    (void)got;
}

uint64_t cl_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static int interface_request(const char *name, unsigned long request, struct ifreq *ifr)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    size_t length = strlen(name);
    if (length >= IFNAMSIZ) {
        close(fd);
        return -ENODEV;
    }
    memcpy(ifr->ifr_name, name, length + 1);
    int result = ioctl(fd, request, ifr) < 0 ? -errno : 0;
    close(fd);
    return result;
}

int cl_interface_index(const char *name)
{
    struct ifreq ifr = {0};
    int result = interface_request(name, SIOCGIFINDEX, &ifr);
    return result < 0 ? result : ifr.ifr_ifindex;
}

int cl_interface_mtu(const char *name)
{
    struct ifreq ifr = {0};
    int result = interface_request(name, SIOCGIFMTU, &ifr);
    return result < 0 ? result : ifr.ifr_mtu;
}

int cl_interface_up(const char *name)
{
    struct ifreq ifr = {0};
    int result = interface_request(name, SIOCGIFFLAGS, &ifr);
    if (result < 0) return result;
    if (ifr.ifr_flags & IFF_UP) return 0;
    ifr.ifr_flags |= IFF_UP;
    return interface_request(name, SIOCSIFFLAGS, &ifr);
}

int cl_interface_promiscuous(int fd, int ifindex)
{
    struct packet_mreq request = {.mr_ifindex = ifindex, .mr_type = PACKET_MR_PROMISC};
    return setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request, sizeof request) < 0 ? -errno : 0;
}

uint64_t cl_interface_mac(const char *name)
{
    struct ifreq ifr = {0};
    if (interface_request(name, SIOCGIFHWADDR, &ifr) < 0) return 0;
    uint64_t mac = 0;
    for (int i = 0; i < 6; i++) mac = mac << 8 | (uint8_t)ifr.ifr_hwaddr.sa_data[i];
    return mac;
}


int cl_thread_start(const char *name, void *(*body)(void *), void *context, uint64_t *thread)
{
    // Signals belong to the main thread; the new thread inherits the mask that is set here for its birth.
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_t id;
    int error = pthread_create(&id, NULL, body, context);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error) return -error;
    char text[16] = {0};
    strncpy(text, name, sizeof text - 1);
    pthread_setname_np(id, text);
    *thread = (uint64_t)id;
    return 0;
}

int cl_current_processor(void) { return sched_getcpu(); }

// What the thread was allowed before it was first kept anywhere.
static _Thread_local cpu_set_t allowed;
static _Thread_local int is_known;

void cl_run_on(int processor)
{
    if (!is_known) {
        if (sched_getaffinity(0, sizeof allowed, &allowed) < 0) return;
        is_known = 1;
    }
    if (processor < 0 || processor >= CPU_SETSIZE || !CPU_ISSET(processor, &allowed)) return;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    sched_setaffinity(0, sizeof one, &one);
}

void cl_run_soon(void)
{
    // struct sched_attr of linux/sched/types.h, which glibc of Debian 12 does not have. Kernels before 6.12 take no notice.
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } wanted = {.size = 48, .nice = getpriority(PRIO_PROCESS, 0), .runtime = 100000};
    syscall(SYS_sched_setattr, 0, &wanted, 0);
}

void cl_run_anywhere(void)
{
    if (is_known) sched_setaffinity(0, sizeof allowed, &allowed);
}

void cl_thread_pauses_exactly(void) { prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0); }

void cl_pause(uint64_t nanoseconds)
{
    struct timespec time = {.tv_sec = (time_t)(nanoseconds / 1000000000), .tv_nsec = (long)(nanoseconds % 1000000000)};
    while (nanosleep(&time, &time) < 0 && errno == EINTR) {}
}

void cl_thread_join(uint64_t thread) { pthread_join((pthread_t)thread, NULL); }
