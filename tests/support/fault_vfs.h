/* A disk that fails on command: a shim over SQLite's own file layer, which every database opened after
 * fault_vfs_install() goes through. Which call fails, how, and for how long is told by fault_vfs_arm. For tests of one
 * thread at a time, but the fault may be cleared from another.
 */
#ifndef TESTS_SUPPORT_FAULT_VFS_H
#define TESTS_SUPPORT_FAULT_VFS_H

#include <stdbool.h>

enum fault_kind {
    FAULT_NONE,
    FAULT_DISK_FULL,   /* writing, making room: ENOSPC */
    FAULT_WRITE_FAILS, /* EIO */
    FAULT_SHORT_WRITE, /* half of it is written, then EIO */
    FAULT_SYNC_FAILS,  /* fsync: EIO */
    FAULT_READ_ONLY,   /* writing, making files: EROFS */
    FAULT_KINDS
};

void fault_vfs_install(void);

/* The n-th call from now (1 = the next) that this kind can hit fails; with `lasting` all after it too. */
void fault_vfs_arm(enum fault_kind kind, unsigned nth, bool lasting);
void fault_vfs_clear(void);
/* Calls that failed since it was armed. */
unsigned fault_vfs_hits(void);

#endif
