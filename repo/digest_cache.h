/* What a scan learned of each file, so that a rescan reads only what is new, across restarts too.
 *
 * A disposable memory: a file of it that is missing, foreign, of another build or damaged means that
 * everything is read once more, never that something is believed. The scan's thread alone owns it; there are
 * no locks.
 */
#ifndef REPO_DIGEST_CACHE_H
#define REPO_DIGEST_CACHE_H

#include "base/status.h"
#include "base/text.h"
#include "proto/image.h"
#include "repo/seal.h"

#include <stdbool.h>
#include <stddef.h>

#define DIGEST_CACHE_ENTRIES_MAX 200000
#define DIGEST_CACHE_BYTES_MAX   ((size_t)512 << 20) /* of its file */
#define DIGEST_CACHE_PATH_MAX    4096

/* The outcome of one image_check, and of the look at the signature behind it. Zero the whole before filling it: equal
 * findings then make equal files. */
struct digest_finding {
    enum image_use use; /* what it was checked for */
    bool accepted;
    struct seal seal; /* with which the verdict stands; a rejection of the bytes themselves has none */
    union {
        struct image_facts facts;     /* accepted */
        struct image_verdict verdict; /* not accepted */
    };
};

struct digest_cache;

/* NULL without memory. */
struct digest_cache *digest_cache_new(void);
void digest_cache_free(struct digest_cache *cache); /* NULL is fine */

/* Replaces the content by that of a file that digest_cache_save wrote. On failure the cache is empty and
 * usable: NOT_FOUND: no such file, as at the first start. INVALID: no regular file, or anything in it does
 * not fit. DENIED, IO, NO_MEMORY as they say. */
enum status digest_cache_load(struct digest_cache *cache, const char *file);

/* Writes `file`.tmp beside it, synchronises, and renames: after a crash the file is the old one or the new
 * one. On failure (DENIED, NOT_FOUND, IO, NO_MEMORY) the file before is left as it was. */
enum status digest_cache_save(struct digest_cache *cache, const char *file);

/* Whether digest_cache_save would write something else than what was last loaded or saved. */
bool digest_cache_has_changed(const struct digest_cache *cache);

/* What was learned of this very state of the file for this use, or NULL. `path` is relative to the
 * repository. Borrowed until the cache is next changed. Touches the entry. */
const struct digest_finding *digest_cache_find(struct digest_cache *cache, struct slice path,
                                               const struct file_identity *identity, enum image_use use);

/* Copies a finding in, instead of what was known of that path, and touches the entry. STATUS_TOO_LONG: a path
 * that is empty or over DIGEST_CACHE_PATH_MAX. STATUS_LIMIT: the cache is full. STATUS_NO_MEMORY. After a
 * failure nothing is known of the path, so the file is read again next time. */
enum status digest_cache_put(struct digest_cache *cache, struct slice path, const struct file_identity *identity,
                             const struct digest_finding *finding);

/* Ends a scan: drops what was neither found nor put since the last call (or the load), and returns how many
 * that are. Not to be called after a scan that failed half-way. */
size_t digest_cache_forget_untouched(struct digest_cache *cache);

size_t digest_cache_count(const struct digest_cache *cache);

#endif
