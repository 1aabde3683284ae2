/* Follows the repository: scans at start, after each change, and now and then even without one, and hands over each new
 * catalog. File system events only say "look again"; what counts is the scan. Network drives send none, hence the
 * slow rescan.
 *
 * All calls are the loop's; scans run on libuv's worker threads, one at a time.
 */
#ifndef REPO_WATCH_H
#define REPO_WATCH_H

#include "repo/catalog.h"
#include "repo/scan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct watch_config {
    const char *root;
    const char *cache_path;      /* the digest cache's file */
    struct signature_keys *keys; /* counted; NULL = no signature is asked for */
    uint64_t settle_ms;
    uint64_t rescan_ms;
};

struct watch;

enum watch_news {
    CATALOG_FIRST,   /* once, and only when every file has settled or a bounded time has passed */
    CATALOG_NEXT,    /* what a scan found; or the one before again, which was for now, since the scan has failed */
    CATALOG_FOR_NOW, /* keys have changed: what it lacks may be back with the scan under way, and one that counts
                        follows */
};

/* A new catalog, adopted: the receiver takes over its one count. Called on the loop. */
typedef void (*watch_catalog_fn)(void *owner, struct catalog *catalog, enum watch_news news);

/* Starts the first scan. The strings are copied. Never NULL. */
struct watch *watch_start(uv_loop_t *loop, const struct watch_config *config, watch_catalog_fn on_catalog, void *owner);

/* Look again as soon as the present scan is done. */
void watch_rescan(struct watch *watch);

/* Other keys. What none of them is known to vouch for is withdrawn before this returns, by a catalog of its own; the
 * rest is the next scan's, which is asked for. */
void watch_use_keys(struct watch *watch, struct signature_keys *keys);

void watch_configure(struct watch *watch, uint64_t settle_ms, uint64_t rescan_ms);

/* Ends the watching; `on_stopped` is called, and the watch freed, when the scan under way is done and all is closed. */
void watch_stop(struct watch *watch, void (*on_stopped)(void *owner));

#endif
