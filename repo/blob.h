/* The bytes of an image in memory: once, sealed against change, shared by all downloads of it, let go when idle.
 *
 * The bytes lie in a memfd that is sealed before anyone sees it, so neither a truncated nor a replaced nor a vanished
 * file can tear a response or fault a read; sendfile sends from its descriptor, everything else reads the mapping.
 * Loading happens on libuv's worker threads and checks length and MD5 against the catalog: what is served is what was
 * checked.
 *
 * All calls are the loop's.
 */
#ifndef REPO_BLOB_H
#define REPO_BLOB_H

#include "base/status.h"
#include "repo/catalog.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct blob {
    int fd;               /* sealed memfd */
    const uint8_t *bytes; /* the same, mapped for reading */
    size_t size;
    /* below: the store's own */
    struct blob_store *store;
    struct image *image; /* counted while the blob lives */
    unsigned holders;
    uint64_t idle_since_ms;
    struct blob *next_idle, *previous_idle;
    struct blob_wait *waiting; /* while loading */
    bool loading;
};

/* One asker; embedded in its owner. */
struct blob_wait;
typedef void (*blob_ready_fn)(struct blob_wait *wait, enum status status, struct blob *blob);
struct blob_wait {
    blob_ready_fn ready;
    struct blob *blob; /* while waiting */
    struct blob_wait *next;
};

#define BLOBS_MAX 64 /* each takes a descriptor */

struct blob_store {
    uv_loop_t *loop;
    uv_timer_t timer; /* lets go of what is idle */
    char *root;
    uint64_t idle_ms;
    size_t bytes_max;
    size_t bytes_used; /* loaded and loading */
    size_t blobs;
    struct blob *oldest_idle, *newest_idle;
    bool stopping;
    void (*on_stopped)(struct blob_store *store);
};

/* `root` is the repository; a blob without holders is let go after idle_ms, or at once where room is needed: all blobs
 * together never exceed bytes_max, nor BLOBS_MAX in number. */
void blob_store_start(struct blob_store *store, uv_loop_t *loop, const char *root, uint64_t idle_ms, size_t bytes_max);
void blob_store_configure(struct blob_store *store, uint64_t idle_ms, size_t bytes_max);

/* Lets go of everything. Nobody holds or waits for a blob any more. on_stopped is called when all is closed. */
void blob_store_stop(struct blob_store *store, void (*on_stopped)(struct blob_store *store));

/* Hands the image's blob to wait->ready, held for the caller until blob_release: at once, before the call returns,
 * where it is in memory, else later. Status: STATUS_LIMIT (bytes_max is in use by others: not now), STATUS_CHANGED (the
 * file is no longer what the catalog says), STATUS_NOT_FOUND, STATUS_IO, STATUS_NO_MEMORY; then blob is NULL. */
void blob_get(struct blob_store *store, struct image *image, struct blob_wait *wait);

/* Takes back a blob_get that was not answered; ready will not be called. */
void blob_cancel(struct blob_wait *wait);

void blob_release(struct blob *blob);

#endif
