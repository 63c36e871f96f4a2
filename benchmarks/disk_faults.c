/* Lets one call of the C library fail, for benchmarks/disk_faults.py. Loaded with LD_PRELOAD. Calls count
   if they concern a path below a chosen folder. These are the ones that CPython makes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITE, READ, SYNC, RENAME, MAKE, REMOVE, KINDS };

static char below[PATH_MAX];
static int counts[KINDS], kind = -1, nth, error, forever;

void faults_arm(const char *folder, int which, int number, int with, int from_then_on)
{
    memset(counts, 0, sizeof counts);
    kind = which, nth = number, error = with, forever = from_then_on;
    snprintf(below, sizeof below, "%s", folder);
}

int faults_count(int which) { return counts[which]; }

static int concerns(const char *path) { return below[0] && !strncmp(path, below, strlen(below)); }

static int concerns_fd(int fd)
{
    char link[64], path[PATH_MAX];
    if (!below[0])
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return concerns(path);
}

static int concerns_at(int fd, const char *path)
{
    return path[0] == '/' || fd == AT_FDCWD ? concerns(path) : concerns_fd(fd);
}

static int fails(int which)
{
    int number = ++counts[which];
    if (which != kind || !(forever ? number >= nth : number == nth))
        return 0;
    errno = error;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define BY_FD(type, name, which, parameters, ...) \
    type name parameters { return concerns_fd(fd) && fails(which) ? -1 : REAL(name)(__VA_ARGS__); }
#define BY_PATH(type, name, which, at, parameters, ...) \
    type name parameters { return concerns_at(at, path) && fails(which) ? -1 : REAL(name)(__VA_ARGS__); }

BY_FD(ssize_t, write, WRITE, (int fd, const void *from, size_t size), fd, from, size)
BY_FD(int, ftruncate64, WRITE, (int fd, off64_t size), fd, size)
BY_FD(ssize_t, read, READ, (int fd, void *to, size_t size), fd, to, size)
BY_FD(int, fsync, SYNC, (int fd), fd)
BY_FD(int, fdatasync, SYNC, (int fd), fd)
BY_PATH(int, rename, RENAME, AT_FDCWD, (const char *path, const char *to), path, to)
BY_PATH(int, mkdir, MAKE, AT_FDCWD, (const char *path, mode_t mode), path, mode)
BY_PATH(int, chmod, MAKE, AT_FDCWD, (const char *path, mode_t mode), path, mode)
BY_PATH(int, unlink, REMOVE, AT_FDCWD, (const char *path), path)
BY_PATH(int, rmdir, REMOVE, AT_FDCWD, (const char *path), path)
BY_PATH(int, unlinkat, REMOVE, fd, (int fd, const char *path, int flags), fd, path, flags)

int renameat2(int fd, const char *path, int other, const char *to, unsigned flags)
{
    return concerns_at(fd, path) && fails(RENAME) ? -1 : REAL(renameat2)(fd, path, other, to, flags);
}

#define OPEN(name, at, parameters, ...)                                              \
    int name parameters                                                              \
    {                                                                                \
        va_list more;                                                                \
        va_start(more, flags);                                                       \
        mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;                    \
        va_end(more);                                                                \
        if (flags & O_CREAT && concerns_at(at, path) && fails(MAKE))                 \
            return -1;                                                               \
        return REAL(name)(__VA_ARGS__, flags, mode);                                 \
    }

OPEN(open, AT_FDCWD, (const char *path, int flags, ...), path)
OPEN(open64, AT_FDCWD, (const char *path, int flags, ...), path)
OPEN(openat, fd, (int fd, const char *path, int flags, ...), fd, path)
OPEN(openat64, fd, (int fd, const char *path, int flags, ...), fd, path)
