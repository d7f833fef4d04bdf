/* A disk that fails: preloaded into the agent, it answers EIO where the file $FAILING says so.
 *
 * Each line of that file is `<operation> <part of a path>`; without the file nothing fails. The operations are sync
 * (fsync, fdatasync, syncfs), read, write (each with its positioned sister) and rename (the new name). Only what the C
 * library exports is used, and no header, so that a bare compiler is enough.
 */
typedef unsigned long size_t;
typedef long ssize_t;
typedef long off_t;

extern int *__errno_location(void);
extern void *dlsym(void *, const char *);
extern char *getenv(const char *);
extern char *strstr(const char *, const char *);
extern char *strchr(const char *, int);
extern int strncmp(const char *, const char *, size_t);
extern size_t strlen(const char *);
extern int snprintf(char *, size_t, const char *, ...);
extern ssize_t readlink(const char *, char *, size_t);
extern int open(const char *, int, ...);
extern int close(int);

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym((void *)-1L, #name)

static ssize_t really_read(int fd, void *to, size_t size)
{
    REAL(ssize_t, read, int, void *, size_t);
    return real(fd, to, size);
}

static int fails(const char *operation, const char *path)
{
    char rules[4096], *line, *end;
    const char *file = getenv("FAILING");
    int saved = *__errno_location(), fd = file ? open(file, 0) : -1;
    ssize_t size = fd < 0 ? 0 : really_read(fd, rules, sizeof rules - 1);
    if (fd >= 0)
        close(fd);
    *__errno_location() = saved;
    if (size <= 0)
        return 0;
    rules[size] = 0;
    for (line = rules; line && *line; line = end) {
        size_t length = strlen(operation);
        end = strchr(line, '\n');
        if (end)
            *end++ = 0;
        if (!strncmp(line, operation, length) && line[length] == ' ' && strstr(path, line + length + 1)) {
            *__errno_location() = 5; /* EIO */
            return 1;
        }
    }
    return 0;
}

static int fails_at(const char *operation, int fd)
{
    char link[64], path[4096];
    int saved = *__errno_location();
    ssize_t size;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof path - 1);
    *__errno_location() = saved;
    if (size < 0)
        return 0;
    path[size] = 0;
    return fails(operation, path);
}

int fsync(int fd) { REAL(int, fsync, int); return fails_at("sync", fd) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(int, fdatasync, int); return fails_at("sync", fd) ? -1 : real(fd); }
int syncfs(int fd) { REAL(int, syncfs, int); return fails_at("sync", fd) ? -1 : real(fd); }

ssize_t read(int fd, void *to, size_t size) { return fails_at("read", fd) ? -1 : really_read(fd, to, size); }

ssize_t write(int fd, const void *from, size_t size)
{
    REAL(ssize_t, write, int, const void *, size_t);
    return fails_at("write", fd) ? -1 : real(fd, from, size);
}

ssize_t pread64(int fd, void *to, size_t size, off_t at)
{
    REAL(ssize_t, pread64, int, void *, size_t, off_t);
    return fails_at("read", fd) ? -1 : real(fd, to, size, at);
}

ssize_t pwrite64(int fd, const void *from, size_t size, off_t at)
{
    REAL(ssize_t, pwrite64, int, const void *, size_t, off_t);
    return fails_at("write", fd) ? -1 : real(fd, from, size, at);
}

ssize_t pread(int fd, void *to, size_t size, off_t at) { return pread64(fd, to, size, at); }
ssize_t pwrite(int fd, const void *from, size_t size, off_t at) { return pwrite64(fd, from, size, at); }

int rename(const char *from, const char *to)
{
    REAL(int, rename, const char *, const char *);
    return fails("rename", to) ? -1 : real(from, to);
}
