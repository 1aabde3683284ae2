#include "repo/withdrawal.h"

#include "repo/judgement.h"

#include <assert.h>

static size_t count_unvouched(const struct catalog *catalog, const struct signature_keys *keys)
{
    size_t count = 0;
    for (size_t i = 0; i < catalog_image_count(catalog); i++) {
        count += !seal_stands(&catalog_image_at(catalog, i)->seal, keys);
    }
    return count;
}

/* By its name, which says the type that is still known then. */
static void reject(struct catalog *catalog, const char *path, const struct file_identity *identity,
                   const struct image_verdict *verdict)
{
    struct filename name;
    struct filename_refusal refusal;
    bool good = filename_parse(slice_of(path), &name, &refusal) == FILENAME_OK;
    catalog_reject(catalog, path, good ? &name : NULL, identity, verdict);
}

struct catalog *withdrawal_of(const struct catalog *before, const struct signature_keys *keys)
{
    struct image_verdict verdict;
    if (keys == NULL || count_unvouched(before, keys) == 0) {
        return NULL;
    }
    struct catalog *catalog = catalog_new();
    verdict_say(&verdict, IMAGE_FAULT_UNKNOWN_KEY, "its signature was not checked with the keys that count now",
                "none, once the repository has been read; where that fails, the log says why (repository_unreadable)");
    for (size_t i = 0; i < catalog_image_count(before); i++) {
        struct image *image = catalog_image_at(before, i);
        if (seal_stands(&image->seal, keys)) {
            catalog_share(catalog, image);
        } else {
            reject(catalog, image->path, &image->identity, &verdict);
        }
    }
    for (size_t i = 0; i < catalog_rejection_count(before); i++) {
        const struct rejection *rejection = catalog_rejection_at(before, i);
        reject(catalog, rejection->path, &rejection->identity, &rejection->verdict);
    }
    catalog_expect_still(catalog, before);
    catalog_seal(catalog);
    return catalog;
}
