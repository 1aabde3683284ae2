/* Landlock by its system calls: C libraries have no functions for them. Newer rights than a kernel knows must not be
 * asked of it, and older headers lack the newer names (landlock(7)). */
#include "server/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ull << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ull << 14)
#endif

#define READS   (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define SOCKETS (LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define WRITES                                                                                                         \
    (READS | SOCKETS | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_MAKE_REG |     \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REFER)
/* What a rule for a file, rather than a folder, may name. */
#define OF_FILES (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE)

static const uint64_t rights[] = { [SANDBOX_READ] = READS, [SANDBOX_WRITE] = WRITES, [SANDBOX_SOCKET] = SOCKETS };

/* All that kernels of this kind know of files; what is not allowed somewhere is forbidden. */
static uint64_t rights_known(int abi)
{
    uint64_t known = WRITES | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;
#ifdef UPDRAFT_SANITIZED
    known &= ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE; /* a sanitizer's complaint starts its symbolizer */
#endif
    known &= abi < 2 ? ~(uint64_t)LANDLOCK_ACCESS_FS_REFER : ~0ull;
    known &= abi < 3 ? ~(uint64_t)LANDLOCK_ACCESS_FS_TRUNCATE : ~0ull;
    return known;
}

bool sandbox_files_begin(struct sandbox_files *files)
{
    *files = (struct sandbox_files){ .ruleset = -1 };
    files->abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (files->abi < 1) {
        return false;
    }
    files->handled = rights_known(files->abi);
    struct landlock_ruleset_attr attributes = { .handled_access_fs = files->handled };
    files->ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0);
    return files->ruleset >= 0;
}

void sandbox_files_allow(struct sandbox_files *files, const char *path, enum sandbox_access access)
{
    struct stat found;
    struct landlock_path_beneath_attr place = {
        .allowed_access = rights[access] & files->handled,
        .parent_fd = open(path, O_PATH | O_CLOEXEC),
    };
    if (place.parent_fd < 0) {
        return; /* what cannot be reached now is not needed, or is missed by those who need it */
    }
    if (fstat(place.parent_fd, &found) == 0 && !S_ISDIR(found.st_mode)) {
        place.allowed_access &= OF_FILES;
    }
    if (syscall(SYS_landlock_add_rule, files->ruleset, LANDLOCK_RULE_PATH_BENEATH, &place, 0) != 0) {
        files->error = errno;
        snprintf(files->failed, sizeof files->failed, "%s", path);
    }
    close(place.parent_fd);
}

int sandbox_files_enforce(struct sandbox_files *files)
{
    int error = files->error;
    if (error == 0 && syscall(SYS_landlock_restrict_self, files->ruleset, 0) != 0) {
        error = errno;
    }
    close(files->ruleset);
    return error;
}
