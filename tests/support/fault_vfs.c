/* Each file of ours holds the system's file behind it; what makes it hard is that SQLite asks for as much memory as the
 * layer says it needs, so both lie in one piece. */
#include "tests/support/fault_vfs.h"

#include <assert.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct file {
    sqlite3_file base;  /* first: SQLite's view */
    sqlite3_file *real; /* lies behind this struct */
};

static sqlite3_vfs *real_vfs, shim;
static sqlite3_io_methods methods;
static atomic_uint armed_kind, calls_left, hits;
static atomic_bool lasts;
static atomic_int last_error;

enum call { CALL_WRITE, CALL_SYNC, CALL_MAKE, CALLS };

static const struct {
    bool hit[CALLS];
    int error, code[CALLS];
} kinds[FAULT_KINDS] = {
    [FAULT_DISK_FULL] = { .hit = { [CALL_WRITE] = true, [CALL_MAKE] = true },
                          .error = ENOSPC,
                          .code = { SQLITE_FULL, 0, SQLITE_CANTOPEN } },
    [FAULT_WRITE_FAILS] = { .hit = { [CALL_WRITE] = true }, .error = EIO, .code = { SQLITE_IOERR_WRITE, 0, 0 } },
    [FAULT_SHORT_WRITE] = { .hit = { [CALL_WRITE] = true }, .error = EIO, .code = { SQLITE_IOERR_WRITE, 0, 0 } },
    [FAULT_SYNC_FAILS] = { .hit = { [CALL_SYNC] = true }, .error = EIO, .code = { 0, SQLITE_IOERR_FSYNC, 0 } },
    [FAULT_READ_ONLY] = { .hit = { [CALL_WRITE] = true, [CALL_MAKE] = true },
                          .error = EROFS,
                          .code = { SQLITE_IOERR_WRITE, 0, SQLITE_CANTOPEN } },
};

/* SQLITE_OK: let it through. */
static int fault(enum call call)
{
    unsigned kind = atomic_load(&armed_kind);
    if (kind == FAULT_NONE || !kinds[kind].hit[call]) {
        return SQLITE_OK;
    }
    unsigned left = atomic_load(&calls_left);
    if (left > 1) {
        atomic_store(&calls_left, left - 1);
        return SQLITE_OK;
    }
    if (!atomic_load(&lasts)) {
        atomic_store(&armed_kind, FAULT_NONE);
    }
    atomic_fetch_add(&hits, 1);
    atomic_store(&last_error, kinds[kind].error);
    return kinds[kind].code[call];
}

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((struct file *)file)->real;
}

static int shim_write(sqlite3_file *file, const void *bytes, int n, sqlite3_int64 at)
{
    bool half = atomic_load(&armed_kind) == FAULT_SHORT_WRITE;
    int code = fault(CALL_WRITE);
    if (code != SQLITE_OK) {
        if (half) {
            (void)real_of(file)->pMethods->xWrite(real_of(file), bytes, n / 2, at);
        }
        return code;
    }
    return real_of(file)->pMethods->xWrite(real_of(file), bytes, n, at);
}

static int shim_sync(sqlite3_file *file, int flags)
{
    int code = fault(CALL_SYNC);
    return code != SQLITE_OK ? code : real_of(file)->pMethods->xSync(real_of(file), flags);
}

static int shim_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **mapped)
{
    int code = extend ? fault(CALL_MAKE) : SQLITE_OK;
    return code != SQLITE_OK ? SQLITE_IOERR_SHMSIZE
                             : real_of(file)->pMethods->xShmMap(real_of(file), page, size, extend, mapped);
}

static int shim_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int code = fault(CALL_WRITE);
    return code != SQLITE_OK ? SQLITE_IOERR_TRUNCATE : real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int shim_close(sqlite3_file *file)
{
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int shim_read(sqlite3_file *file, void *bytes, int n, sqlite3_int64 at)
{
    return real_of(file)->pMethods->xRead(real_of(file), bytes, n, at);
}

static int shim_file_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int shim_lock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int shim_unlock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int shim_check_lock(sqlite3_file *file, int *held)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), held);
}

static int shim_control(sqlite3_file *file, int op, void *arg)
{
    int error = atomic_load(&last_error);
    if (op == SQLITE_FCNTL_LAST_ERRNO && error != 0) {
        *(int *)arg = error;
        return SQLITE_OK;
    }
    return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int shim_sector(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int shim_traits(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int shim_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return real_of(file)->pMethods->xShmLock(real_of(file), offset, n, flags);
}

static void shim_shm_barrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int shim_shm_unmap(sqlite3_file *file, int delete)
{
    return real_of(file)->pMethods->xShmUnmap(real_of(file), delete);
}

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *opened, int flags, int *out_flags)
{
    struct file *file = (struct file *)opened;
    (void)vfs;
    file->base.pMethods = NULL;
    file->real = (sqlite3_file *)(void *)(file + 1);
    int code = flags & SQLITE_OPEN_CREATE ? fault(CALL_MAKE) : SQLITE_OK;
    if (code == SQLITE_OK) {
        code = real_vfs->xOpen(real_vfs, name, file->real, flags, out_flags);
    }
    if (code == SQLITE_OK) {
        file->base.pMethods = &methods;
    }
    return code;
}

static int shim_last_error(sqlite3_vfs *vfs, int size, char *text)
{
    (void)vfs;
    int error = atomic_load(&last_error);
    return error != 0 ? error : real_vfs->xGetLastError(real_vfs, size, text);
}

void fault_vfs_install(void)
{
    real_vfs = sqlite3_vfs_find(NULL);
    assert(real_vfs != NULL && real_vfs != &shim);
    shim = *real_vfs;
    shim.zName = "fault";
    shim.szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile;
    shim.xOpen = shim_open;
    shim.xGetLastError = shim_last_error;
    methods = (sqlite3_io_methods){
        .iVersion = 2, /* without memory-mapped reading */
        .xClose = shim_close,
        .xRead = shim_read,
        .xWrite = shim_write,
        .xTruncate = shim_truncate,
        .xSync = shim_sync,
        .xFileSize = shim_file_size,
        .xLock = shim_lock,
        .xUnlock = shim_unlock,
        .xCheckReservedLock = shim_check_lock,
        .xFileControl = shim_control,
        .xSectorSize = shim_sector,
        .xDeviceCharacteristics = shim_traits,
        .xShmMap = shim_shm_map,
        .xShmLock = shim_shm_lock,
        .xShmBarrier = shim_shm_barrier,
        .xShmUnmap = shim_shm_unmap,
    };
    int code = sqlite3_vfs_register(&shim, 1);
    assert(code == SQLITE_OK);
    (void)code;
}

void fault_vfs_arm(enum fault_kind kind, unsigned nth, bool lasting)
{
    assert(nth > 0);
    atomic_store(&hits, 0);
    atomic_store(&calls_left, nth);
    atomic_store(&lasts, lasting);
    atomic_store(&armed_kind, (unsigned)kind);
}

void fault_vfs_clear(void)
{
    atomic_store(&armed_kind, FAULT_NONE);
    atomic_store(&last_error, 0);
}

unsigned fault_vfs_hits(void)
{
    return atomic_load(&hits);
}
