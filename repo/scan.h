/* One look at the repository: walk, check what is new, and build a catalog. Runs on a worker thread, since it reads. */
#ifndef REPO_SCAN_H
#define REPO_SCAN_H

#include "base/status.h"
#include "repo/catalog.h"
#include "repo/digest_cache.h"

#include <stddef.h>
#include <stdint.h>

#define SCAN_DEPTH_MAX   8      /* folders below the repository */
#define SCAN_FILES_MAX   100000 /* firmware files; beyond, the scan fails and the catalog before stays */
#define SCAN_FOLDERS_MAX 4096

struct scan_input {
    const char *root;
    const struct catalog *previous;    /* borrowed for the time of the scan; NULL = none */
    struct digest_cache *cache;        /* the scan's alone while it runs */
    const struct signature_keys *keys; /* whose signatures count; NULL = none is asked for */
    uint64_t settle_ms;                /* how long a file must have been unchanged */
};

struct scan_folder {
    char *path; /* relative; "" = the root */
    uint64_t device, inode;
};

struct scan_result {
    struct catalog *catalog;     /* sealed, not adopted; NULL unless STATUS_OK */
    uint64_t unsettled_ms;       /* look again after so long; 0 = there is no need */
    size_t unsettled;            /* files that are still being written */
    size_t files;                /* that are meant as firmware */
    size_t read;                 /* of those, read and hashed now; the rest was known */
    struct scan_folder *folders; /* every folder that was walked: what to watch */
    size_t folder_count;
    char failed_path[512]; /* where it failed, for the log */
};

/* STATUS_OK, or why the repository cannot be walked: NOT_FOUND, DENIED, IO, LIMIT. A file that cannot be read is a
 * rejection, not a failure. The result is to be closed in either case. */
enum status scan_run(const struct scan_input *input, struct scan_result *result);

/* Frees all but the catalog. */
void scan_result_close(struct scan_result *result);

#endif
