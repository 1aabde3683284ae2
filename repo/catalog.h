/* The catalog: an immutable, counted snapshot of the repository. A scan builds a new one on a worker thread; the loop
 * adopts it, and whoever still serves from the old one keeps it until done.
 *
 * Ownership: images are shared by successive catalogs and counted on the loop alone. A catalog under construction
 * belongs to the thread that builds it and counts nothing; catalog_adopt, on the loop, takes the counts.
 */
#ifndef REPO_CATALOG_H
#define REPO_CATALOG_H

#include "proto/decision.h"
#include "proto/image.h"
#include "repo/file_identity.h"
#include "repo/filename.h"
#include "repo/seal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blob;

/* One image of the repository. All but `refs` and `blob` never changes after the scan made it. */
struct image {
    struct build build;
    enum filename_role role;
    char *path; /* relative to the repository */
    char type[TYPE_TEXT_MAX + 1];
    char project[PROJECT_TEXT_MAX + 1];
    struct file_identity identity;
    struct seal seal;   /* what vouched for it */
    bool fresh;         /* made by the scan under way, in no catalog before */
    bool label_doubted; /* the loop's: said that its version header differs from its file name */
    unsigned refs;      /* the loop's */
    struct blob *blob;  /* the loop's, see repo/blob.h; NULL = not in memory */
};

/* A file that is meant as firmware and is not served, and why. */
struct rejection {
    char *path;
    char type[TYPE_TEXT_MAX + 1]; /* "" where the name does not say */
    enum filename_role role;
    struct file_identity identity;
    struct image_verdict verdict;
};

struct catalog;

/* --- building, on any one thread --------------------------------------------------------------------------------- */

struct catalog *catalog_new(void);

/* A fresh image (its seal is the caller's to fill in) or a rejection of this scan: the catalog under construction takes
 * it. `path` is copied. */
struct image *catalog_add(struct catalog *catalog, const char *path, const struct filename *name,
                          const struct image_facts *facts, const struct file_identity *identity);
void catalog_reject(struct catalog *catalog, const char *path, const struct filename *name,
                    const struct file_identity *identity, const struct image_verdict *verdict);

/* An image of an earlier catalog that is unchanged: shared. */
void catalog_share(struct catalog *catalog, struct image *image);

/* A file that is still being written: its type is known, its image not yet. `seen_ms`: since when it has looked so. */
void catalog_expect(struct catalog *catalog, const char *path, const struct filename *name,
                    const struct file_identity *identity, uint64_t seen_ms);

/* All that was awaited in the catalog before, since when it was. */
void catalog_expect_still(struct catalog *catalog, const struct catalog *before);

/* Since when the file at `path` has been awaited in exactly this state. Returns false where it was not. */
bool catalog_awaited_since(const struct catalog *catalog, const char *path, const struct file_identity *identity,
                           uint64_t *seen_ms);

/* Sorts and indexes. Of two files that claim the same type, version and form, the first by path stays; the other
 * becomes a rejection. Nothing may be added afterwards. */
void catalog_seal(struct catalog *catalog);

/* Frees a catalog that will not be adopted, and its fresh images; shared ones are left to the catalog before. */
void catalog_discard(struct catalog *catalog);

/* --- on the loop ------------------------------------------------------------------------------------------------- */

void catalog_adopt(struct catalog *catalog); /* once, before any other call of this part; the caller holds one count */
struct catalog *catalog_ref(struct catalog *catalog); /* NULL is fine, and returned */
void catalog_unref(struct catalog *catalog);          /* NULL is fine */
void image_ref(struct image *image);
void image_unref(struct image *image); /* an image without holders must have no blob left */

size_t catalog_image_count(const struct catalog *catalog);
size_t catalog_type_count(const struct catalog *catalog);
struct image *catalog_image_at(const struct catalog *catalog, size_t i); /* ordered by type, role, newest first */
size_t catalog_rejection_count(const struct catalog *catalog);
const struct rejection *catalog_rejection_at(const struct catalog *catalog, size_t i); /* ordered by path */

bool catalog_has_type(const struct catalog *catalog, struct slice type); /* some file is for it */
struct image *catalog_find_path(const struct catalog *catalog, struct slice path);
const struct rejection *catalog_find_rejection(const struct catalog *catalog, struct slice path);

enum offer_kind { OFFER_SKETCH, OFFER_FS };

/* What a type offers, NULL or zero for whatever it has not. The builds are those of images: image_of_build. */
struct catalog_query {
    struct slice type; /* absent = none: only a label can be found */
    enum offer_kind kind;
    const char *wanted;   /* a label or version, by equality; NULL = the newest */
    uint64_t flash_bytes; /* file systems: of the device's flash; 0 = as the type's newest sketch says */
};

/* Fills *offer, or returns why it is empty in *missing: UNKNOWN_TYPE, NO_IMAGE, REJECTED, NOT_YET. */
void catalog_offer(const struct catalog *catalog, const struct catalog_query *query, struct offer *offer,
                   enum reason *missing);

/* The version that is `wanted`, by equality, or the newest (NULL), of which both slots are there. Returns false, with
 * *missing as above, where none is. */
bool catalog_slots(const struct catalog *catalog, struct slice type, const char *wanted, struct image *slots[2],
                   enum reason *missing);

/* All images of exactly this version that devices of the type may be sent: its sketches and, where both are there, its
 * slots; or its file systems, shared ones of every flash size. Returns how many, at most `max`. */
size_t catalog_forms(const struct catalog *catalog, struct slice type, enum offer_kind kind, const char *version,
                     struct image *forms[], size_t max);

/* The image that a device runs by its reported digest; an image of `type` is preferred. *flash_mode: the variant.
 * NULL where no image has it. */
struct image *catalog_find_md5(const struct catalog *catalog, const uint8_t md5[16], struct slice type,
                               uint8_t *flash_mode);
struct image *catalog_find_sha256(const struct catalog *catalog, const uint8_t sha256[32], struct slice type);

struct image *image_of_build(const struct build *build);

#endif
