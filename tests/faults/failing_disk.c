/* Preloaded: from the n-th call on that changes a file below a folder, such calls fail, as on a full or broken disk.
   Or a write that is the n-th call is made by half, and then they fail, or the process is killed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long first_to_fail; /* counted from 1; 0 = none */
static long calls;
static int error_number; /* of a failing call; 0 = the n-th call kills the process */
static int halves;       /* whether the n-th call is made by half first, if it is a write */

void failing_disk_arm(const char *path, long nth, int number, int half) {
    strncpy(folder, path, sizeof folder - 1);
    first_to_fail = nth;
    error_number = number;
    halves = half;
    calls = 0;
}

long failing_disk_calls(void) { return calls; }

static int refused(void) {
    if (!error_number) kill(getpid(), SIGKILL);
    errno = error_number;
    return 1;
}

/* 2: this one may be made by half. */
static int fails(const char *path) {
    if (!folder[0] || strncmp(path, folder, strlen(folder)) != 0) return 0;
    calls++;
    if (first_to_fail == 0 || calls < first_to_fail) return 0;
    if (halves && calls == first_to_fail) return 2;
    return refused();
}

static int descriptor_fails(int descriptor) {
    char link[64], path[PATH_MAX];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(path);
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

#define WRITE(fd, size, whole, half)                                       \
    int verdict = descriptor_fails(fd);                                    \
    if (verdict == 0) return whole;                                        \
    ssize_t done = verdict == 2 && (size) > 1 ? half : -1;                 \
    if (verdict == 2 && (done < 0 || !error_number)) refused();            \
    return done

ssize_t write(int fd, const void *data, size_t size) {
    WRITE(fd, size, REAL(write)(fd, data, size), REAL(write)(fd, data, size / 2));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    WRITE(fd, size, REAL(pwrite)(fd, data, size, at), REAL(pwrite)(fd, data, size / 2, at));
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    WRITE(fd, size, REAL(pwrite64)(fd, data, size, at), REAL(pwrite64)(fd, data, size / 2, at));
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    WRITE(fd, parts[0].iov_len, REAL(writev)(fd, parts, count), REAL(write)(fd, parts[0].iov_base, parts[0].iov_len / 2));
}
int fsync(int fd) { return descriptor_fails(fd) && refused() ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return descriptor_fails(fd) && refused() ? -1 : REAL(fdatasync)(fd); }
int mkdir(const char *path, mode_t mode) { return fails(path) && refused() ? -1 : REAL(mkdir)(path, mode); }
int rename(const char *from, const char *to) { return fails(to) && refused() ? -1 : REAL(rename)(from, to); }

#define OPEN(name)                                                        \
    int name(const char *path, int flags, ...) {                          \
        mode_t mode = 0;                                                  \
        if (flags & O_CREAT) {                                            \
            va_list rest;                                                 \
            va_start(rest, flags);                                        \
            mode = va_arg(rest, mode_t);                                  \
            va_end(rest);                                                 \
            if (fails(path) && refused()) return -1;                            \
        }                                                                 \
        return REAL(name)(path, flags, mode);                             \
    }
OPEN(open)
OPEN(open64)
