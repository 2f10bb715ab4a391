// SPDX-License-Identifier: Apache-2.0
// Datagrams between nodes, over IPv4 and IPv6 from one socket where the host has both.
#define _GNU_SOURCE
#include "CLinux.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int cl_datagram_socket(uint16_t port, int buffer_size, int *family)
{
    int zero = 0;
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_ANY_INIT};
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
        if (bind(fd, (struct sockaddr *)&any, sizeof any) == 0) {
            *family = AF_INET6;
        } else {
            // Where IPv6 is off it may be refused late.
            int error = errno;
            close(fd);
            fd = -1;
            if (error == EADDRINUSE) return -error;
        }
    }
    if (fd < 0) {
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) return -errno;
        struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
        if (bind(fd, (struct sockaddr *)&any, sizeof any) < 0) {
            int error = errno;
            close(fd);
            return -error;
        }
        *family = AF_INET;
    }
    // As root past the system's bound, otherwise as far as it lets us.
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_size, sizeof buffer_size) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_size, sizeof buffer_size);
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer_size, sizeof buffer_size) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_size, sizeof buffer_size);
    return fd;
}

int cl_resolve(const char *host, uint16_t port, int family, void *storage)
{
    char service[8];
    struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_DGRAM,
                             .ai_flags = family == AF_INET6 ? AI_V4MAPPED : 0};
    struct addrinfo *found = NULL;
    snprintf(service, sizeof service, "%u", (unsigned)port);
    if (getaddrinfo(host, service, &hints, &found) != 0 || found == NULL) return -EHOSTUNREACH;
    int length = (int)found->ai_addrlen;
    if (length > CL_ADDRESS_SIZE) length = -EINVAL;
    else memcpy(storage, found->ai_addr, (size_t)length);
    freeaddrinfo(found);
    return length;
}

int cl_datagram_send(int fd, const void *address, int address_length, const void *bytes, size_t count)
{
    ssize_t n = sendto(fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL, address, (socklen_t)address_length);
    return n < 0 ? -errno : (int)n;
}

int cl_datagram_receive(int fd, void *bytes, size_t size, int count, int *lengths)
{
    struct mmsghdr messages[CL_DATAGRAMS_AT_ONCE];
    struct iovec parts[CL_DATAGRAMS_AT_ONCE];
    if (count > CL_DATAGRAMS_AT_ONCE) count = CL_DATAGRAMS_AT_ONCE;
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < count; i++) {
        parts[i] = (struct iovec){.iov_base = (char *)bytes + (size_t)i * size, .iov_len = size};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int n = recvmmsg(fd, messages, (unsigned)count, MSG_DONTWAIT | MSG_TRUNC, NULL);
    if (n < 0) return -errno;
    for (int i = 0; i < n; i++) lengths[i] = (int)messages[i].msg_len;
    return n;
}

int cl_datagram_accept_only(
    int fd, int least, int most, int version, const uint32_t *factors, const uint32_t *words, int count)
{
    // The data begins with the UDP header. A word that lies beyond the datagram's end drops it.
    enum { udp = 8, first = udp + 2, second = udp + 6, third = udp + 10 };
    const struct sock_filter head[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)(udp + least), 0, 3),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)(udp + most), 2, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, udp),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)version, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 0),
        // One number of the three words, which nobody can aim at who does not know the factors.
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, first),
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, factors[0]),
        BPF_STMT(BPF_ST, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, second),
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, factors[1]),
        BPF_STMT(BPF_LDX | BPF_MEM, 0),
        BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
        BPF_STMT(BPF_ST, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, third),
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, factors[2]),
        BPF_STMT(BPF_LDX | BPF_MEM, 0),
        BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
    };
    struct sock_filter program[BPF_MAXINSNS];
    int n = sizeof head / sizeof head[0];
    int error = 0;
    if (count <= (BPF_MAXINSNS - n - 1) / 2) {
        memcpy(program, head, sizeof head);
        for (int i = 0; i < count; i++, words += 3) {
            uint32_t number = words[0] * factors[0] + words[1] * factors[1] + words[2] * factors[2];
            program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
            program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
        }
        program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
        struct sock_fprog filter = {.len = (unsigned short)n, .filter = program};
        if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0) return 0;
        error = errno;
    } else {
        error = E2BIG;
    }
    // The last one would keep out who is new.
    setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &count, sizeof count);
    return -error;
}

int cl_datagram_dropped(int fd, uint32_t *dropped)
{
    uint32_t values[SK_MEMINFO_VARS];
    socklen_t length = sizeof values;
    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, values, &length) < 0) return -errno;
    if (length <= SK_MEMINFO_DROPS * sizeof values[0]) return -ENOTSUP;
    *dropped = values[SK_MEMINFO_DROPS];
    return 0;
}
