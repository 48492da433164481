/* Preloaded: from the n-th call on that changes a file below a folder, such calls fail, as on a full or broken disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long first_to_fail; /* counted from 1; 0 = none */
static long calls;
static int error_number;

void failing_disk_arm(const char *path, long nth, int number) {
    strncpy(folder, path, sizeof folder - 1);
    first_to_fail = nth;
    error_number = number;
    calls = 0;
}

long failing_disk_calls(void) { return calls; }

static int fails(const char *path) {
    if (!folder[0] || strncmp(path, folder, strlen(folder)) != 0) return 0;
    calls++;
    if (first_to_fail == 0 || calls < first_to_fail) return 0;
    errno = error_number;
    return 1;
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

ssize_t write(int fd, const void *data, size_t size) { return descriptor_fails(fd) ? -1 : REAL(write)(fd, data, size); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return descriptor_fails(fd) ? -1 : REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return descriptor_fails(fd) ? -1 : REAL(pwrite64)(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    return descriptor_fails(fd) ? -1 : REAL(writev)(fd, parts, count);
}
int fsync(int fd) { return descriptor_fails(fd) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return descriptor_fails(fd) ? -1 : REAL(fdatasync)(fd); }
int mkdir(const char *path, mode_t mode) { return fails(path) ? -1 : REAL(mkdir)(path, mode); }
int rename(const char *from, const char *to) { return fails(to) ? -1 : REAL(rename)(from, to); }

#define OPEN(name)                                                        \
    int name(const char *path, int flags, ...) {                          \
        mode_t mode = 0;                                                  \
        if (flags & O_CREAT) {                                            \
            va_list rest;                                                 \
            va_start(rest, flags);                                        \
            mode = va_arg(rest, mode_t);                                  \
            va_end(rest);                                                 \
            if (fails(path)) return -1;                                   \
        }                                                                 \
        return REAL(name)(path, flags, mode);                             \
    }
OPEN(open)
OPEN(open64)
