/* Catalogs of made-up images: no file is touched. What makes it hard: counts are the loop's and building is the scan's,
 * so the tests keep to that order, and leave it to AddressSanitizer to see an image freed twice or never. */
#ifndef TESTS_UNIT_REPO_CATALOG_FIXTURE_H
#define TESTS_UNIT_REPO_CATALOG_FIXTURE_H

#include "repo/catalog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define MIB             ((uint64_t)1 << 20)

static inline struct filename name_of(const char *path)
{
    struct filename name;
    struct filename_refusal refusal;
    if (filename_parse(slice_of(path), &name, &refusal) != FILENAME_OK) {
        fail_msg("%s is no name of the repository", path);
    }
    return name;
}

/* A sketch for an ESP8266 of 4 MiB, all of whose digests begin with `id`. */
static inline struct image_facts facts_of(uint8_t id)
{
    struct image_facts facts = { .kind = IMAGE_ESP8266, .chip = CHIP_ESP8266, .flash_bytes = 4 * MIB };
    for (uint8_t mode = 0; mode < IMAGE_FLASH_MODES; mode++) {
        facts.run_md5[mode][0] = id;
        facts.run_md5[mode][1] = mode;
    }
    facts.run_sha256[0] = id;
    return facts;
}

static inline struct file_identity identity_of(uint64_t inode)
{
    return (struct file_identity){ .device = 1, .inode = inode, .size = 7, .mtime_ns = 8, .ctime_ns = 9 };
}

static inline struct image *add_facts(struct catalog *catalog, const char *path, struct image_facts facts)
{
    static uint64_t inode;
    struct filename name = name_of(path);
    struct file_identity identity = identity_of(++inode);
    facts.gzip = name.gzip;
    return catalog_add(catalog, path, &name, &facts, &identity);
}

static inline struct image *add(struct catalog *catalog, const char *path)
{
    return add_facts(catalog, path, facts_of(0));
}

static inline void reject(struct catalog *catalog, const char *path)
{
    struct filename name = name_of(path);
    struct file_identity identity = identity_of(99);
    struct image_verdict verdict = { .fault = IMAGE_FAULT_CHECKSUM };
    catalog_reject(catalog, path, &name, &identity, &verdict);
}

static inline void expect(struct catalog *catalog, const char *path)
{
    struct filename name = name_of(path);
    struct file_identity identity = identity_of(98);
    catalog_expect(catalog, path, &name, &identity, 5);
}

static inline struct catalog *adopt(struct catalog *catalog)
{
    catalog_seal(catalog);
    catalog_adopt(catalog);
    return catalog;
}

/* A catalog of one image a path, adopted. */
static inline struct catalog *catalog_of(const char *const *paths, size_t n)
{
    struct catalog *catalog = catalog_new();
    for (size_t i = 0; i < n; i++) {
        add(catalog, paths[i]);
    }
    return adopt(catalog);
}

#define CATALOG(...) catalog_of((const char *const[]){ __VA_ARGS__ }, COUNT_OF(((const char *const[]){ __VA_ARGS__ })))

static inline const char *path_of(const struct build *build)
{
    return build != NULL ? image_of_build(build)->path : "";
}

/* Asks, and checks the paths of both forms; "" = none. */
static inline void check_offer(const struct catalog *catalog, const struct catalog_query *query, const char *plain,
                               const char *gzip)
{
    struct offer offer;
    enum reason missing = REASON_COUNT;
    catalog_offer(catalog, query, &offer, &missing);
    assert_string_equal(path_of(offer.plain), plain);
    assert_string_equal(path_of(offer.gzip), gzip);
    assert_int_equal(missing != REASON_COUNT, offer.plain == NULL && offer.gzip == NULL);
}

static inline void check_newest(const struct catalog *catalog, const char *type, const char *plain, const char *gzip)
{
    struct catalog_query query = { .type = slice_of(type) };
    check_offer(catalog, &query, plain, gzip);
}

static inline void check_wanted(const struct catalog *catalog, const char *type, const char *wanted, const char *plain)
{
    struct catalog_query query = { .wanted = wanted };
    if (type != NULL) {
        query.type = slice_of(type);
    }
    check_offer(catalog, &query, plain, "");
}

static inline void check_fs(const struct catalog *catalog, const char *type, uint64_t flash_bytes, const char *plain)
{
    struct catalog_query query = { .type = slice_of(type), .kind = OFFER_FS, .flash_bytes = flash_bytes };
    check_offer(catalog, &query, plain, "");
}

static inline void check_missing(const struct catalog *catalog, struct catalog_query query, enum reason expected)
{
    struct offer offer;
    enum reason missing = REASON_COUNT;
    catalog_offer(catalog, &query, &offer, &missing);
    assert_null(offer.plain);
    assert_null(offer.gzip);
    assert_string_equal(reason_word(missing), reason_word(expected));
}

static inline void check_order(const struct catalog *catalog, const char *const *paths, size_t n)
{
    assert_int_equal(catalog_image_count(catalog), n);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(catalog_image_at(catalog, i)->path, paths[i]);
    }
}

static inline void check_forms(const struct catalog *catalog, const char *type, enum offer_kind kind,
                               const char *version, const char *const *paths, size_t n)
{
    struct image *forms[8];
    assert_int_equal(catalog_forms(catalog, slice_of(type), kind, version, forms, COUNT_OF(forms)), n);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(forms[i]->path, paths[i]);
    }
}

#endif
