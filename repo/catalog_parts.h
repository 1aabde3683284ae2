/* What a catalog is made of: for catalog.c, which builds it, and catalog_find.c, which asks it, and nobody else. */
#ifndef REPO_CATALOG_PARTS_H
#define REPO_CATALOG_PARTS_H

#include "repo/catalog.h"

#include <uthash.h>

/* One type: its runs in the sorted array, by role, and what is known to be missing. */
struct type_entry {
    char name[TYPE_TEXT_MAX + 1];
    struct {
        size_t first, count;
        bool rejected, expected;
    } roles[FILENAME_LABEL + 1];
    UT_hash_handle hh;
};

struct path_entry {
    const char *path;
    struct image *image; /* one of the two */
    const struct rejection *rejection;
    UT_hash_handle hh;
};

/* A file that is not whole yet, as it looked when it was first seen so. */
struct expectation {
    char *path;
    struct file_identity identity;
    uint64_t seen_ms;
    UT_hash_handle hh;
};

/* One digest that a device may report. Several images may have it: the same bytes under two names. */
struct digest_entry {
    uint8_t digest[32];
    struct image *image;
    uint8_t flash_mode;
    struct digest_entry *next_same;
    UT_hash_handle hh;
};

struct catalog {
    unsigned refs;
    bool sealed;
    struct image **images;
    size_t image_count, image_room;
    struct rejection *rejections;
    size_t rejection_count, rejection_room;
    struct expectation *expectations;
    struct type_entry *types;
    struct path_entry *paths;
    struct digest_entry *md5s;
    struct digest_entry *sha256s;
};

#endif
