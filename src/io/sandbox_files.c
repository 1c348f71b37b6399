/* What a confined child sees of the file system, in two independent ways: a mount namespace whose
 * root holds a few paths and nothing else (mount_namespaces(7), pivot_root(2), mount_setattr(2)),
 * and Landlock (landlock(7)), which refuses to open anything that is not below a named path. Both
 * are plain system calls between fork and exec: nothing allocates.
 *
 * The kernel's headers may be older than the kernel, so the few numbers of Landlock and
 * mount_setattr stand here. */
#include "io/sandbox_private.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OLD      "/.old"
#define OLD_MODE 0755

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif

/* ---- the view: a root of named paths ---- */

struct mount_change { /* struct mount_attr of linux/mount.h */
    uint64_t set, clear, propagation, user_namespace;
};
#define CHANGE_READ_ONLY 1
#define CHANGE_NO_SUID   2
#define CHANGE_NO_DEVICE 4

static int make_read_only(const char *path, bool has_devices)
{
    struct mount_change change = {.set = CHANGE_READ_ONLY | CHANGE_NO_SUID |
                                         (has_devices ? 0 : CHANGE_NO_DEVICE)};
    return syscall(SYS_mount_setattr, AT_FDCWD, path, 0x8000 /* AT_RECURSIVE */, &change,
                   sizeof(change)) == 0
               ? 0
               : errno;
}

/* The folders above a path. */
static int make_folders_above(const char *path)
{
    char folder[PATH_MAX];
    for (size_t n = 1; path[n]; n++) {
        if (path[n] != '/')
            continue;
        memcpy(folder, path, n);
        folder[n] = 0;
        if (mkdir(folder, OLD_MODE) != 0 && errno != EEXIST)
            return errno;
    }
    return 0;
}

static int make_link(const char *from, const char *path)
{
    char target[PATH_MAX];
    ssize_t n = readlink(from, target, sizeof(target) - 1);
    if (n < 0)
        return errno;
    target[n] = 0;
    return symlink(target, path) == 0 || errno == EEXIST ? 0 : errno;
}

/* One path of the old root into the new one. A link is made again; what it leads to must be named
 * too. What does not exist is left out. */
static int show_path(const char *path)
{
    char from[PATH_MAX];
    size_t n = strlen(path);
    struct stat st;
    if (path[0] != '/' || n + sizeof(OLD) > sizeof(from))
        return EINVAL;
    memcpy(from, OLD, sizeof(OLD) - 1);
    memcpy(from + sizeof(OLD) - 1, path, n + 1);
    if (lstat(from, &st) != 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : errno;
    int error = make_folders_above(path);
    if (error)
        return error;
    if (S_ISLNK(st.st_mode))
        return make_link(from, path);
    if (S_ISDIR(st.st_mode)) {
        if (mkdir(path, OLD_MODE) != 0 && errno != EEXIST)
            return errno;
    } else {
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
            return errno;
        close(fd);
    }
    if (mount(from, path, NULL, MS_BIND | MS_REC, NULL) != 0)
        return errno;
    return make_read_only(path, S_ISCHR(st.st_mode));
}

/* The new root is a small tmpfs; it is mounted over any folder, since that folder comes back under
 * OLD when the roots are exchanged. */
int sandbox_view_enter(const char *const *paths)
{
    const char *options = "mode=755,size=256k,nr_inodes=512";
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return errno;
    const char *at = "/tmp";
    if (mount("tmpfs", at, "tmpfs", MS_NOSUID | MS_NODEV, options) != 0) {
        at = "/proc";
        if (mount("tmpfs", at, "tmpfs", MS_NOSUID | MS_NODEV, options) != 0)
            return errno;
    }
    if (chdir(at) != 0 || mkdir(OLD + 1, OLD_MODE) != 0 ||
        syscall(SYS_pivot_root, ".", OLD + 1) != 0 || chdir("/") != 0)
        return errno;
    for (; *paths; paths++) {
        int error = show_path(*paths);
        if (error)
            return error;
    }
    if (umount2(OLD, MNT_DETACH) != 0 || rmdir(OLD) != 0)
        return errno;
    return make_read_only("/", true);
}

/* ---- Landlock ---- */

struct ruleset { /* struct landlock_ruleset_attr, as of ABI 6 */
    uint64_t files, network, scoped;
};

struct __attribute__((packed)) path_rule { /* struct landlock_path_beneath_attr */
    uint64_t allowed;
    int32_t parent_fd;
};

enum { RIGHT_EXECUTE = 1, RIGHT_WRITE_FILE = 2, RIGHT_READ_FILE = 4, RIGHT_READ_DIR = 8 };

int sandbox_landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* ask for the version */);
    return abi > 0 ? (int)abi : 0;
}

/* Every right that this version knows is taken, so that what a rule does not give is refused. */
static struct ruleset everything(int abi, size_t *bytes)
{
    struct ruleset all = {.files = (1u << 13) - 1};
    *bytes = sizeof(all.files);
    if (abi >= 2)
        all.files |= 1u << 13; /* moving between folders */
    if (abi >= 3)
        all.files |= 1u << 14; /* truncating */
    if (abi >= 4) {
        all.network = 3; /* TCP: bind, connect */
        *bytes = offsetof(struct ruleset, scoped);
    }
    if (abi >= 5)
        all.files |= 1u << 15; /* ioctl on devices */
    if (abi >= 6) {
        all.scoped = 3; /* abstract Unix sockets, signals */
        *bytes = sizeof(all);
    }
    return all;
}

static int allow_path(int ruleset_fd, const char *path)
{
    struct stat st;
    int error = 0, fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : errno;
    if (fstat(fd, &st) != 0)
        error = errno;
    struct path_rule rule = {.allowed = RIGHT_EXECUTE | RIGHT_READ_FILE, .parent_fd = fd};
    if (S_ISDIR(st.st_mode))
        rule.allowed |= RIGHT_READ_DIR;
    if (S_ISCHR(st.st_mode)) /* /dev/null */
        rule.allowed |= RIGHT_WRITE_FILE;
    if (!error && syscall(SYS_landlock_add_rule, ruleset_fd, 1 /* a path */, &rule, 0) != 0)
        error = errno;
    close(fd);
    return error;
}

int sandbox_landlock_enter(int abi, const char *const *paths)
{
    size_t bytes;
    struct ruleset all = everything(abi, &bytes);
    int fd = (int)syscall(SYS_landlock_create_ruleset, &all, bytes, 0);
    if (fd < 0)
        return errno;
    int error = 0;
    for (; paths && *paths && !error; paths++)
        error = allow_path(fd, *paths);
    if (!error && syscall(SYS_landlock_restrict_self, fd, 0) != 0)
        error = errno;
    close(fd);
    return error;
}
