// SPDX-License-Identifier: Apache-2.0
// Datagrams between nodes, over IPv4 and IPv6 from one socket where the host has both.
#define _GNU_SOURCE
#include "CLinux.h"
#include <errno.h>
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

int cl_datagram_receive(int fd, void *bytes, size_t count)
{
    ssize_t n = recv(fd, bytes, count, MSG_DONTWAIT | MSG_TRUNC);
    return n < 0 ? -errno : (int)n;
}
