// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4
#endif

// Runs in a child between fork and exec: nothing here may allocate or lock.
static void become(const struct cl_spawn *spawn, int report)
{
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP) signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (size_t i = 0; i < spawn->namespace_count; i++)
        if (setns(spawn->namespaces[i], 0) < 0) goto failed;
    if (spawn->relays) {
        pid_t pid = fork();
        if (pid < 0) goto failed;
        if (pid > 0) {
            int status = 0;
            // The caller reads the report until it closes: from here on that is the grandchild's matter.
            close(report);
            for (int i = 0; i < 3; i++) close(i);
            while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
            if (WIFSIGNALED(status)) _exit(128 + WTERMSIG(status));
            _exit(WEXITSTATUS(status));
        }
    }
    if (spawn->own_session && setsid() < 0) goto failed;
    if (spawn->niceness) setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + spawn->niceness);
    if (spawn->dies_with_parent && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) goto failed;
    for (int i = 0; i < 3; i++)
        if (spawn->stdio[i] >= 0 && dup2(spawn->stdio[i], i) < 0) goto failed;
    // Not all descriptors are made by us: libraries' would hold ports and files open in programs that outlive the caller.
    if (spawn->kept > 3) close_range(3, (unsigned)spawn->kept - 1, CLOSE_RANGE_CLOEXEC);
    close_range(spawn->kept >= 3 ? (unsigned)spawn->kept + 1 : 3, ~0U, CLOSE_RANGE_CLOEXEC);
    execve(spawn->path, spawn->arguments, spawn->environment);
failed:;
    int error = errno;
    ssize_t written = write(report, &error, sizeof error);
    (void)written;
    _exit(127);
}

// The errno that a child reported, 0 when its end of the pipe closed at exec.
static int reported(int fd)
{
    int error = 0;
    ssize_t n;
    do
        n = read(fd, &error, sizeof error);
    while (n < 0 && errno == EINTR);
    close(fd);
    return n == sizeof error ? error : 0;
}

int cl_spawn_process(const struct cl_spawn *spawn)
{
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0) return -errno;
    pid_t pid = fork();
    if (pid < 0) {
        int error = errno;
        close(report[0]);
        close(report[1]);
        return -error;
    }
    if (pid == 0) become(spawn, report[1]);
    close(report[1]);
    int error = reported(report[0]);
    if (error) {
        waitpid(pid, NULL, 0);
        return -error;
    }
    return pid;
}

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t length = (ssize_t)strlen(text);
    ssize_t written = write(fd, text, (size_t)length);
    int error = errno;
    close(fd);
    errno = error;
    return written == length ? 0 : -1;
}

// Maps the caller to root of the new user namespace; root maps everyone, so that programs which drop privileges work.
static int map_ids(uid_t uid, gid_t gid)
{
    char text[64];
    if (uid == 0) {
        if (write_file("/proc/self/uid_map", "0 0 4294967295") == 0) return write_file("/proc/self/gid_map", "0 0 4294967295");
    }
    if (write_file("/proc/self/setgroups", "deny") < 0 && errno != ENOENT) return -1;
    snprintf(text, sizeof text, "0 %u 1", (unsigned)uid);
    if (write_file("/proc/self/uid_map", text) < 0) return -1;
    snprintf(text, sizeof text, "0 %u 1", (unsigned)gid);
    return write_file("/proc/self/gid_map", text);
}

struct world_report {
    int stage;
    int error;
    int pid;
};

// Root's full map has to be written from outside by one who holds the capability in the parent namespace.
static int map_from_parent(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/uid_map", (int)pid);
    if (write_file(path, "0 0 4294967295") < 0) return -1;
    snprintf(path, sizeof path, "/proc/%d/gid_map", (int)pid);
    return write_file(path, "0 0 4294967295");
}

int cl_spawn_world(const struct cl_spawn *spawn, int map_user, int *stage)
{
    int report[2], mapped[2];
    uid_t uid = geteuid();
    gid_t gid = getegid();
    *stage = 0;
    if (pipe2(report, O_CLOEXEC) < 0 || pipe2(mapped, O_CLOEXEC) < 0) return -errno;
    pid_t middle = fork();
    if (middle < 0) return -errno;
    if (middle == 0) {
        struct world_report result = {0};
        char byte;
        close(report[0]);
        if (map_user) {
            result.stage = 1;
            if (unshare(CLONE_NEWUSER) < 0) goto failed;
            result.stage = 2;
            result.pid = -1;
            // The parent reads this, maps if it can, and lets us go on.
            if (write(report[1], &result, sizeof result) != sizeof result) goto failed;
            close(mapped[1]);
            if (read(mapped[0], &byte, 1) != 1) goto failed;
            if (byte == 0 && map_ids(uid, gid) < 0) goto failed;
        }
        result.stage = 3;
        if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS) < 0) goto failed;
        result.stage = 4;
        int started[2];
        if (pipe2(started, O_CLOEXEC) < 0) goto failed;
        pid_t first = fork();
        if (first < 0) goto failed;
        if (first == 0) {
            close(started[0]);
            become(spawn, started[1]);
        }
        close(started[1]);
        errno = reported(started[0]);
        if (errno) goto failed;
        result.pid = first;
        result.error = 0;
        ssize_t written = write(report[1], &result, sizeof result);
        (void)written;
        _exit(0);
    failed:
        result.error = errno ? errno : EIO;
        result.pid = 0;
        written = write(report[1], &result, sizeof result);
        (void)written;
        _exit(1);
    }
    close(report[1]);
    close(mapped[0]);
    struct world_report result = {0};
    ssize_t n = read(report[0], &result, sizeof result);
    if (n == sizeof result && result.pid == -1) {
        char byte = uid == 0 && map_from_parent(middle) == 0;
        ssize_t written = write(mapped[1], &byte, 1);
        (void)written;
        n = read(report[0], &result, sizeof result);
    }
    close(mapped[1]);
    close(report[0]);
    waitpid(middle, NULL, 0);
    *stage = result.stage;
    if (n != sizeof result) return -EIO;
    return result.error ? -result.error : result.pid;
}

// Signals go through a pipe: to wait for them with a mask would need it in every thread, also in those that were there
// before, or a signal whose default is to be ignored is lost now and then.
static int signals[2] = {-1, -1};

static void note_signal(int number)
{
    int error = errno;
    unsigned char byte = (unsigned char)number;
    ssize_t written = write(signals[1], &byte, 1);
    (void)written;
    errno = error;
}

int cl_catch_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    if (pipe2(signals, O_CLOEXEC) < 0) return -errno;
    if (fcntl(signals[1], F_SETFL, O_NONBLOCK) < 0) return -errno;
    struct sigaction action = {.sa_handler = note_signal, .sa_flags = SA_RESTART};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], &action, NULL) < 0) return -errno;
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

int cl_wait_signal(void)
{
    unsigned char byte;
    while (read(signals[0], &byte, 1) != 1) {}
    return byte;
}

int cl_process(int pid)
{
    long fd = syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : (int)fd;
}

int cl_enter(int namespace_fd) { return setns(namespace_fd, 0) < 0 ? -errno : 0; }
int cl_unshare_network(void) { return unshare(CLONE_NEWNET) < 0 ? -errno : 0; }
int cl_mount_private(void) { return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : 0; }
int cl_pipe(int ends[2])
{
    return pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0;
}

int cl_mount_bind(const char *source, const char *target)
{
    return mount(source, target, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}
int cl_mount_proc(void)
{
    return mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0 ? -errno : 0;
}

int cl_open_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int cl_wait(int pid, int no_hang, int *status)
{
    int raw;
    pid_t result;
    do
        result = waitpid(pid, &raw, no_hang ? WNOHANG : 0);
    while (result < 0 && errno == EINTR);
    if (result < 0) return -errno;
    if (result > 0) *status = WIFSIGNALED(raw) ? 128 + WTERMSIG(raw) : WEXITSTATUS(raw);
    return result;
}
