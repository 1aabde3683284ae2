/* The catalog's answers on made-up images: no file is touched. What makes it hard: counts are the loop's and building
 * is the scan's, so the tests keep to that order, and leave it to AddressSanitizer to see an image freed twice or
 * never. */
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

/* --- fixture ----------------------------------------------------------------------------------------------------- */

static struct filename name_of(const char *path)
{
    struct filename name;
    struct filename_refusal refusal;
    if (filename_parse(slice_of(path), &name, &refusal) != FILENAME_OK) {
        fail_msg("%s is no name of the repository", path);
    }
    return name;
}

/* A sketch for an ESP8266 of 4 MiB, all of whose digests begin with `id`. */
static struct image_facts facts_of(uint8_t id)
{
    struct image_facts facts = { .kind = IMAGE_ESP8266, .chip = CHIP_ESP8266, .flash_bytes = 4 * MIB };
    for (uint8_t mode = 0; mode < IMAGE_FLASH_MODES; mode++) {
        facts.run_md5[mode][0] = id;
        facts.run_md5[mode][1] = mode;
    }
    facts.run_sha256[0] = id;
    return facts;
}

static struct file_identity identity_of(uint64_t inode)
{
    return (struct file_identity){ .device = 1, .inode = inode, .size = 7, .mtime_ns = 8, .ctime_ns = 9 };
}

static struct image *add_facts(struct catalog *catalog, const char *path, struct image_facts facts)
{
    static uint64_t inode;
    struct filename name = name_of(path);
    struct file_identity identity = identity_of(++inode);
    facts.gzip = name.gzip;
    return catalog_add(catalog, path, &name, &facts, &identity);
}

static struct image *add(struct catalog *catalog, const char *path)
{
    return add_facts(catalog, path, facts_of(0));
}

static void reject(struct catalog *catalog, const char *path)
{
    struct filename name = name_of(path);
    struct file_identity identity = identity_of(99);
    struct image_verdict verdict = { .fault = IMAGE_FAULT_CHECKSUM };
    catalog_reject(catalog, path, &name, &identity, &verdict);
}

static void expect(struct catalog *catalog, const char *path)
{
    struct filename name = name_of(path);
    struct file_identity identity = identity_of(98);
    catalog_expect(catalog, path, &name, &identity, 5);
}

static struct catalog *adopt(struct catalog *catalog)
{
    catalog_seal(catalog);
    catalog_adopt(catalog);
    return catalog;
}

/* A catalog of one image a path, adopted. */
static struct catalog *catalog_of(const char *const *paths, size_t n)
{
    struct catalog *catalog = catalog_new();
    for (size_t i = 0; i < n; i++) {
        add(catalog, paths[i]);
    }
    return adopt(catalog);
}

#define CATALOG(...) catalog_of((const char *const[]){ __VA_ARGS__ }, COUNT_OF(((const char *const[]){ __VA_ARGS__ })))

static const char *path_of(const struct build *build)
{
    return build != NULL ? image_of_build(build)->path : "";
}

/* Asks, and checks the paths of both forms; "" = none. */
static void check_offer(const struct catalog *catalog, const struct catalog_query *query, const char *plain,
                        const char *gzip)
{
    struct offer offer;
    enum reason missing = REASON_COUNT;
    catalog_offer(catalog, query, &offer, &missing);
    assert_string_equal(path_of(offer.plain), plain);
    assert_string_equal(path_of(offer.gzip), gzip);
    assert_int_equal(missing != REASON_COUNT, offer.plain == NULL && offer.gzip == NULL);
}

static void check_newest(const struct catalog *catalog, const char *type, const char *plain, const char *gzip)
{
    struct catalog_query query = { .type = slice_of(type) };
    check_offer(catalog, &query, plain, gzip);
}

static void check_wanted(const struct catalog *catalog, const char *type, const char *wanted, const char *plain)
{
    struct catalog_query query = { .wanted = wanted };
    if (type != NULL) {
        query.type = slice_of(type);
    }
    check_offer(catalog, &query, plain, "");
}

static void check_fs(const struct catalog *catalog, const char *type, uint64_t flash_bytes, const char *plain)
{
    struct catalog_query query = { .type = slice_of(type), .kind = OFFER_FS, .flash_bytes = flash_bytes };
    check_offer(catalog, &query, plain, "");
}

static void check_missing(const struct catalog *catalog, struct catalog_query query, enum reason expected)
{
    struct offer offer;
    enum reason missing = REASON_COUNT;
    catalog_offer(catalog, &query, &offer, &missing);
    assert_null(offer.plain);
    assert_null(offer.gzip);
    assert_string_equal(reason_word(missing), reason_word(expected));
}

static void check_order(const struct catalog *catalog, const char *const *paths, size_t n)
{
    assert_int_equal(catalog_image_count(catalog), n);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(catalog_image_at(catalog, i)->path, paths[i]);
    }
}

static void check_forms(const struct catalog *catalog, const char *type, enum offer_kind kind, const char *version,
                        const char *const *paths, size_t n)
{
    struct image *forms[8];
    assert_int_equal(catalog_forms(catalog, slice_of(type), kind, version, forms, COUNT_OF(forms)), n);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(forms[i]->path, paths[i]);
    }
}

/* --- order and forms --------------------------------------------------------------------------------------------- */

/* A fresh installation: the first scan of an empty folder must be able to answer. */
static void test_empty(void **state)
{
    (void)state;
    uint8_t digest[32] = { 0 };
    uint8_t mode = 7;
    struct image *slots[2];
    enum reason missing;
    struct catalog *catalog = adopt(catalog_new());
    check_missing(catalog, (struct catalog_query){ .type = slice_of("d1") }, REASON_UNKNOWN_TYPE);
    check_missing(catalog, (struct catalog_query){ .kind = OFFER_FS }, REASON_UNKNOWN_TYPE);
    assert_false(catalog_slots(catalog, slice_of("d1"), NULL, slots, &missing));
    assert_null(catalog_find_md5(catalog, digest, slice_of("d1"), &mode));
    assert_null(catalog_find_sha256(catalog, digest, slice_of("d1")));
    assert_null(catalog_find_path(catalog, slice_of("d1/1.0.bin")));
    assert_int_equal(mode, 7);
    assert_int_equal(catalog_image_count(catalog) + catalog_rejection_count(catalog) + catalog_type_count(catalog), 0);
    catalog_unref(catalog);
}

/* Versions ordered as strings would offer 0_4_9 here, and the beta of 0_5_0 before 0_5_0. */
static void test_newest_first(void **state)
{
    (void)state;
    static const char *const sorted[] = { "d1/0.5.0.bin", "d1/0_5_0-beta.bin", "d1/0_4_10.bin", "d1/0_4_9.bin",
                                          "esp32/0.1.bin" };
    struct catalog *catalog = CATALOG(sorted[3], sorted[4], sorted[0], sorted[2], sorted[1]);
    check_newest(catalog, "d1", "d1/0.5.0.bin", "");
    check_newest(catalog, "esp32", "esp32/0.1.bin", "");
    check_order(catalog, sorted, COUNT_OF(sorted));
    catalog_unref(catalog);
}

/* One type, whichever naming convention its files follow; another role of it is never offered as its sketch. */
static void test_conventions_meet_in_a_type(void **state)
{
    (void)state;
    struct catalog *catalog = CATALOG("d1/1.0.bin", "truc_1_1.ino.d1.bin", "d1/9.0.fs.bin", "d1/9.0.user1.bin",
                                      "littlefs_9.0_4M.bin", "9.0.bin");
    check_newest(catalog, "d1", "truc_1_1.ino.d1.bin", "");
    assert_int_equal(catalog_type_count(catalog), 1);
    catalog_unref(catalog);
}

/* Both forms of the newest version are offered together, and never the form of an older one beside it. */
static void test_forms(void **state)
{
    (void)state;
    struct catalog *both = CATALOG("d1/1.0.bin.gz", "d1/1_0.bin", "d1/0.9.bin");
    struct catalog *gzip_newer = CATALOG("d1/1.0.bin.gz", "d1/0.9.bin");
    struct catalog *plain_newer = CATALOG("d1/0.9.bin.gz", "d1/1.0.bin");
    check_newest(both, "d1", "d1/1_0.bin", "d1/1.0.bin.gz");
    check_newest(gzip_newer, "d1", "", "d1/1.0.bin.gz");
    check_newest(plain_newer, "d1", "d1/1.0.bin", "");
    catalog_unref(both);
    catalog_unref(gzip_newer);
    catalog_unref(plain_newer);
}

/* --- what is wanted ---------------------------------------------------------------------------------------------- */

/* An assignment names one version, in whatever spelling, and may go back; what it does not equal is never served. */
static void test_wanted_version(void **state)
{
    (void)state;
    struct catalog *catalog = CATALOG("d1/0.4.9.bin", "d1/0.5.0.bin", "d1/DOOR-7-g14.bin");
    static const struct {
        const char *wanted, *path;
    } rows[] = {
        { "0.4.9", "d1/0.4.9.bin" }, { "0_4_9", "d1/0.4.9.bin" },           { "v0.4.9", "d1/0.4.9.bin" },
        { "0.5", "d1/0.5.0.bin" },   { "DOOR-7-g14", "d1/DOOR-7-g14.bin" },
    };
    static const char *const absent[] = { "0.4", "0.4.10", "0.4.9-beta", "0.6", "door", "", "latest" };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        check_wanted(catalog, "d1", rows[i].wanted, rows[i].path);
    }
    for (size_t i = 0; i < COUNT_OF(absent); i++) {
        struct catalog_query query = { .type = slice_of("d1"), .wanted = absent[i] };
        check_missing(catalog, query, REASON_NO_IMAGE);
    }
    catalog_unref(catalog);
}

static void test_wanted_version_in_both_forms(void **state)
{
    (void)state;
    struct catalog *catalog = CATALOG("d1/2.0.bin", "d1/1.0.bin", "d1/1.0.bin.gz", "d1/0.9.bin.gz");
    struct catalog_query query = { .type = slice_of("d1"), .wanted = "1_0" };
    check_offer(catalog, &query, "d1/1.0.bin", "d1/1.0.bin.gz");
    catalog_unref(catalog);
}

/* A label is a name, not a version: found exactly as written or not at all, with or without a type, and never by a
 * device that nobody assigned it to. */
static void test_wanted_label(void **state)
{
    (void)state;
    struct catalog *catalog = CATALOG("DOOR-7-g14f53a19.bin", "DOOR-8.bin", "1.0.bin", "d1/0.5.bin");
    check_wanted(catalog, NULL, "DOOR-7-g14f53a19", "DOOR-7-g14f53a19.bin");
    check_wanted(catalog, "d1", "DOOR-7-g14f53a19", "DOOR-7-g14f53a19.bin");
    check_wanted(catalog, "nobody", "DOOR-8", "DOOR-8.bin");
    check_wanted(catalog, "d1", "1.0", "1.0.bin");
    check_missing(catalog, (struct catalog_query){ .wanted = "door-8" }, REASON_NO_IMAGE);
    check_missing(catalog, (struct catalog_query){ .wanted = "DOOR" }, REASON_NO_IMAGE);
    check_missing(catalog, (struct catalog_query){ .wanted = "1_0" }, REASON_NO_IMAGE);
    check_missing(catalog, (struct catalog_query){ .type = slice_of("") }, REASON_UNKNOWN_TYPE);
    check_newest(catalog, "d1", "d1/0.5.bin", "");
    catalog_unref(catalog);
}

static void test_label_in_both_forms(void **state)
{
    (void)state;
    struct catalog *catalog = CATALOG("DOOR-7.bin.gz", "DOOR-7.bin");
    struct catalog_query query = { .wanted = "DOOR-7" };
    check_offer(catalog, &query, "DOOR-7.bin", "DOOR-7.bin.gz");
    catalog_unref(catalog);
}

/* The type's own version comes before a label of the same text. */
static void test_version_before_label(void **state)
{
    (void)state;
    struct catalog *catalog = CATALOG("1.0.bin", "d1/1.0.bin");
    check_wanted(catalog, "d1", "1.0", "d1/1.0.bin");
    check_wanted(catalog, NULL, "1.0", "1.0.bin");
    catalog_unref(catalog);
}

/* --- duplicates -------------------------------------------------------------------------------------------------- */

static void check_duplicate(const struct catalog *catalog, const char *path, const char *first)
{
    const struct rejection *rejection = catalog_find_rejection(catalog, slice_of(path));
    assert_non_null(rejection);
    assert_int_equal(rejection->verdict.fault, IMAGE_FAULT_DUPLICATE);
    assert_non_null(strstr(rejection->verdict.detail, first));
    assert_null(catalog_find_path(catalog, slice_of(path)));
}

/* Whichever way the folder was read, the same file is served; the others say with what they collide. */
static void test_duplicates_by_path(void **state)
{
    (void)state;
    static const char *const paths[] = { "a_1_0.ino.d1.bin", "b/truc_1.0.0.ino.d1.bin", "d1/1.0.bin" };
    static const unsigned orders[][3] = { { 0, 1, 2 }, { 2, 1, 0 }, { 1, 2, 0 }, { 1, 0, 2 } };
    for (size_t i = 0; i < COUNT_OF(orders); i++) {
        struct catalog *catalog = CATALOG(paths[orders[i][0]], paths[orders[i][1]], paths[orders[i][2]]);
        check_newest(catalog, "d1", paths[0], "");
        assert_int_equal(catalog_image_count(catalog), 1);
        assert_int_equal(catalog_rejection_count(catalog), 2);
        assert_string_equal(catalog_rejection_at(catalog, 0)->path, paths[1]);
        check_duplicate(catalog, paths[1], paths[0]);
        check_duplicate(catalog, paths[2], paths[0]);
        catalog_unref(catalog);
    }
}

/* Side by side these claim different things: none may push another out. */
static void test_no_duplicates(void **state)
{
    (void)state;
    struct catalog *catalog =
        CATALOG("d1/1.0.bin", "d1/1.0.bin.gz", "d1/1.0.fs.bin", "d1/1.0.user1.bin", "d1/1.0.user2.bin", "d2/1.0.bin",
                "1.0.bin", "1_0.bin", "littlefs_1.0_4M.bin", "littlefs_1.0_1M.bin", "d1/1.0.1.bin", "D1/1.0.bin");
    assert_int_equal(catalog_rejection_count(catalog), 0);
    assert_int_equal(catalog_image_count(catalog), 12);
    catalog_unref(catalog);
}

/* spiffs_… and littlefs_… of one version and size: a device could not say which of the two it wants. */
static void test_duplicate_file_systems(void **state)
{
    (void)state;
    struct catalog *catalog = CATALOG("spiffs_1.0_4M.bin", "littlefs_1.0_4M.bin");
    check_duplicate(catalog, "spiffs_1.0_4M.bin", "littlefs_1.0_4M.bin");
    catalog_unref(catalog);
}

/* A long path must neither overrun the verdict's text nor be lost as a rejection. */
static void test_duplicate_with_long_path(void **state)
{
    (void)state;
    char first[256], second[256];
    snprintf(first, sizeof first, "%0200d/truc_1_0.ino.d1.bin", 1);
    snprintf(second, sizeof second, "%0200d/truc_1_0.ino.d1.bin", 2);
    struct catalog *catalog = CATALOG(second, first);
    const struct rejection *rejection = catalog_find_rejection(catalog, slice_of(second));
    assert_non_null(rejection);
    assert_true(strlen(rejection->verdict.detail) < sizeof rejection->verdict.detail);
    check_newest(catalog, "d1", first, "");
    catalog_unref(catalog);
}

/* An image that was served loses its place to a new file, yet downloads of it go on from the catalog before. */
static void test_shared_becomes_duplicate(void **state)
{
    (void)state;
    struct catalog *before = CATALOG("d1/1.0.bin");
    struct image *old = catalog_image_at(before, 0);
    struct catalog *now = catalog_new();
    catalog_share(now, old);
    struct image *fresh = add(now, "a_1.0.ino.d1.bin");
    adopt(now);
    check_newest(now, "d1", "a_1.0.ino.d1.bin", "");
    check_duplicate(now, "d1/1.0.bin", "a_1.0.ino.d1.bin");
    assert_int_equal(old->refs, 1);
    assert_int_equal(fresh->refs, 1);
    check_newest(before, "d1", "d1/1.0.bin", "");
    catalog_unref(before);
    catalog_unref(now);
}

static void test_fresh_is_duplicate_of_shared(void **state)
{
    (void)state;
    struct catalog *before = CATALOG("d1/1.0.bin");
    struct image *old = catalog_image_at(before, 0);
    struct catalog *now = catalog_new();
    add(now, "z_1.0.ino.d1.bin");
    catalog_share(now, old);
    adopt(now);
    check_duplicate(now, "z_1.0.ino.d1.bin", "d1/1.0.bin");
    assert_ptr_equal(catalog_image_at(now, 0), old);
    catalog_unref(before);
    assert_string_equal(old->path, "d1/1.0.bin");
    catalog_unref(now);
}

/* --- file systems ------------------------------------------------------------------------------------------------ */

/* A file system of another size would overwrite the sketch or lie beyond the end of the flash. */
static void test_shared_fs_by_flash_size(void **state)
{
    (void)state;
    struct catalog *catalog = CATALOG("littlefs_1.0_4M.bin", "littlefs_1.1_4M.bin", "littlefs_2.0_1M.bin",
                                      "littlefs_3.0_16M.bin", "d1/1.0.bin", "d2/1.0.bin");
    check_fs(catalog, "d1", 4 * MIB, "littlefs_1.1_4M.bin");
    check_fs(catalog, "d2", 1 * MIB, "littlefs_2.0_1M.bin");
    check_fs(catalog, "d1", 16 * MIB, "littlefs_3.0_16M.bin");
    catalog_unref(catalog);
}

/* A client that does not say its flash: the type's newest sketch does. */
static void test_shared_fs_by_the_sketch(void **state)
{
    (void)state;
    struct catalog *catalog = catalog_new();
    struct image_facts small = facts_of(0);
    small.flash_bytes = 1 * MIB;
    add(catalog, "littlefs_1.0_4M.bin");
    add(catalog, "littlefs_1.0_1M.bin");
    add(catalog, "d1/1.0.bin");
    add_facts(catalog, "d1/1.1.bin", small);
    adopt(catalog);
    check_fs(catalog, "d1", 0, "littlefs_1.0_1M.bin");
    catalog_unref(catalog);
}

/* Between the type's own file system and the shared one the version decides, and at a draw the nearer one. */
static void test_specific_fs(void **state)
{
    (void)state;
    static const struct {
        const char *specific, *offered;
    } rows[] = {
        { "d1/1.1.fs.bin", "d1/1.1.fs.bin" },
        { "d1/1.0.fs.bin", "d1/1.0.fs.bin" },
        { "d1/0.9.fs.bin", "littlefs_1.0_4M.bin" },
        { "d2/1.1.fs.bin", "littlefs_1.0_4M.bin" },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct catalog *catalog = CATALOG("littlefs_1.0_4M.bin", "d1/1.0.bin", rows[i].specific);
        check_fs(catalog, "d1", 4 * MIB, rows[i].offered);
        catalog_unref(catalog);
    }
}

static void test_wanted_fs(void **state)
{
    (void)state;
    struct catalog *catalog =
        CATALOG("littlefs_1.0_4M.bin", "littlefs_1.2_4M.bin", "littlefs_1.1_1M.bin", "d1/1.1.fs.bin", "DOOR.bin");
    struct catalog_query query = { .type = slice_of("d1"), .kind = OFFER_FS, .flash_bytes = 4 * MIB };
    query.wanted = "1_0";
    check_offer(catalog, &query, "littlefs_1.0_4M.bin", "");
    query.wanted = "1.1";
    check_offer(catalog, &query, "d1/1.1.fs.bin", "");
    query.wanted = "DOOR"; /* a label is a sketch's */
    check_missing(catalog, query, REASON_NO_IMAGE);
    catalog_unref(catalog);
}

/* Else a form that nobody ordered passes for one that was, or one that is there for missing. */
static void test_all_forms(void **state)
{
    (void)state;
    struct catalog *catalog =
        CATALOG("d1/1.0.bin", "d1/1_0.bin.gz", "d1/1.0.user1.bin", "d1/1.0.user2.bin", "d1/1.1.user1.bin", "d1/1.1.bin",
                "d1/1.1.fs.bin", "spiffs_1.0_1M.bin", "spiffs_1.0_4M.bin", "spiffs_1.1_4M.bin");
    check_forms(catalog, "d1", OFFER_SKETCH, "1.0",
                (const char *const[]){ "d1/1.0.bin", "d1/1_0.bin.gz", "d1/1.0.user1.bin", "d1/1.0.user2.bin" }, 4);
    check_forms(catalog, "d1", OFFER_SKETCH, "1.1", (const char *const[]){ "d1/1.1.bin" }, 1);
    check_forms(catalog, "d1", OFFER_FS, "1.0", (const char *const[]){ "spiffs_1.0_1M.bin", "spiffs_1.0_4M.bin" }, 2);
    check_forms(catalog, "d1", OFFER_FS, "1.1", (const char *const[]){ "d1/1.1.fs.bin" }, 1);
    check_forms(catalog, "d2", OFFER_SKETCH, "1.0", NULL, 0);
    catalog_unref(catalog);
}

/* Only file systems of another size: one is offered, so that the refusal can name both sizes. */
static void test_fs_of_wrong_size(void **state)
{
    (void)state;
    struct catalog *catalog = CATALOG("littlefs_1.0_4M.bin", "littlefs_1.1_4M.bin", "d1/1.0.bin");
    struct catalog_query query = { .type = slice_of("d1"), .kind = OFFER_FS, .flash_bytes = 2 * MIB };
    struct offer offer;
    enum reason missing;
    catalog_offer(catalog, &query, &offer, &missing);
    assert_non_null(offer.plain);
    assert_int_equal(offer.plain->flash_mib, 4);
    query.type = slice_of("nobody");
    check_missing(catalog, query, REASON_UNKNOWN_TYPE);
    catalog_unref(catalog);
}

/* Where nobody says the flash size there is nothing to hold the wrong one against: it would be served. */
static void test_fs_without_known_size(void **state)
{
    (void)state;
    struct catalog *catalog = CATALOG("littlefs_1.0_1M.bin", "d1/1.0.bin", "d2/1.0.user1.bin");
    check_missing(catalog, (struct catalog_query){ .type = slice_of("d1"), .kind = OFFER_FS }, REASON_NO_IMAGE);
    check_missing(catalog, (struct catalog_query){ .type = slice_of("d2"), .kind = OFFER_FS }, REASON_NO_IMAGE);
    catalog_unref(catalog);
}

/* --- what is missing --------------------------------------------------------------------------------------------- */

enum mark { NOTHING, ADDED, REJECTED, EXPECTED };

static void put_mark(struct catalog *catalog, const char *path, enum mark mark)
{
    if (mark == ADDED) {
        add(catalog, path);
    } else if (mark == REJECTED) {
        reject(catalog, path);
    } else if (mark == EXPECTED) {
        expect(catalog, path);
    }
}

/* The reason is what the operator acts upon, and 304 or 404 is what the device makes of it. */
static void test_why_missing(void **state)
{
    (void)state;
    static const struct {
        const char *one;
        enum mark one_is;
        const char *two;
        enum mark two_is;
        enum offer_kind kind;
        const char *wanted;
        enum reason reason;
    } rows[] = {
        { "d2/1.0.bin", ADDED, NULL, NOTHING, OFFER_SKETCH, NULL, REASON_UNKNOWN_TYPE },
        { "d2/1.0.bin", REJECTED, NULL, NOTHING, OFFER_SKETCH, NULL, REASON_UNKNOWN_TYPE },
        { "d2/1.0.bin", ADDED, NULL, NOTHING, OFFER_SKETCH, "1.0", REASON_NO_IMAGE },
        { "d1/1.0.fs.bin", ADDED, NULL, NOTHING, OFFER_SKETCH, NULL, REASON_NO_IMAGE },
        { "d1/1.0.bin", ADDED, NULL, NOTHING, OFFER_FS, NULL, REASON_NO_IMAGE },
        { "d1/1.0.bin", REJECTED, NULL, NOTHING, OFFER_SKETCH, NULL, REASON_REJECTED },
        { "d1/1.0.bin", REJECTED, NULL, NOTHING, OFFER_FS, NULL, REASON_NO_IMAGE },
        { "d1/1.0.fs.bin", REJECTED, NULL, NOTHING, OFFER_FS, NULL, REASON_REJECTED },
        { "d1/1.0.bin", REJECTED, "d1/0.9.bin", ADDED, OFFER_SKETCH, "1.0", REASON_NO_IMAGE },
        { "d1/1.0.bin", EXPECTED, NULL, NOTHING, OFFER_SKETCH, NULL, REASON_NOT_YET },
        { "d1/1.0.bin", EXPECTED, "d1/0.9.bin", REJECTED, OFFER_SKETCH, NULL, REASON_NOT_YET },
        { "d1/1.0.bin", EXPECTED, "d1/0.9.bin", ADDED, OFFER_SKETCH, "1.0", REASON_NOT_YET },
        { "d1/1.0.fs.bin", EXPECTED, NULL, NOTHING, OFFER_FS, NULL, REASON_NOT_YET },
        { "d1/1.0.fs.bin", EXPECTED, NULL, NOTHING, OFFER_SKETCH, NULL, REASON_NO_IMAGE },
        { "littlefs_1.0_4M.bin", EXPECTED, "d1/1.0.bin", ADDED, OFFER_FS, NULL, REASON_NOT_YET },
        { "littlefs_1.0_4M.bin", REJECTED, "d1/1.0.bin", ADDED, OFFER_FS, NULL, REASON_REJECTED },
        { "littlefs_1.0_4M.bin", EXPECTED, NULL, NOTHING, OFFER_FS, NULL, REASON_UNKNOWN_TYPE },
        { "DOOR-7.bin", EXPECTED, NULL, NOTHING, OFFER_SKETCH, "DOOR-7", REASON_NOT_YET },
        { "DOOR-7.bin", REJECTED, NULL, NOTHING, OFFER_SKETCH, "DOOR-7", REASON_REJECTED },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct catalog *catalog = catalog_new();
        put_mark(catalog, rows[i].one, rows[i].one_is);
        put_mark(catalog, rows[i].two, rows[i].two_is);
        adopt(catalog);
        struct catalog_query query = { .type = slice_of("d1"), .kind = rows[i].kind, .wanted = rows[i].wanted };
        struct offer offer;
        enum reason missing = REASON_COUNT;
        catalog_offer(catalog, &query, &offer, &missing);
        if (missing != rows[i].reason) {
            fail_msg("row %zu (%s): %s", i, rows[i].one, missing < REASON_COUNT ? reason_word(missing) : "an offer");
        }
        catalog_unref(catalog);
    }
}

/* The settling of a file counts from when it was first seen so; any difference starts it anew. */
static void test_awaited_since(void **state)
{
    (void)state;
    struct catalog *catalog = catalog_new();
    struct file_identity other = identity_of(98);
    uint64_t seen_ms = 0;
    expect(catalog, "d1/1.0.bin");
    catalog_seal(catalog);
    assert_true(catalog_awaited_since(catalog, "d1/1.0.bin", &other, &seen_ms));
    assert_int_equal(seen_ms, 5);
    assert_false(catalog_awaited_since(catalog, "d1/1.1.bin", &other, &seen_ms));
    other.ctime_ns++;
    seen_ms = 0;
    assert_false(catalog_awaited_since(catalog, "d1/1.0.bin", &other, &seen_ms));
    assert_int_equal(seen_ms, 0);
    catalog_discard(catalog);
}

/* --- slots ------------------------------------------------------------------------------------------------------- */

/* A device that got only one of the two slots could not update again: half a pair is no version. */
static void test_slots(void **state)
{
    (void)state;
    struct image *slots[2];
    enum reason missing = REASON_COUNT;
    struct catalog *catalog =
        CATALOG("sdk/3.0.user1.bin", "sdk/2.0.user2.bin", "sdk/1_5.user1.bin.gz", "sdk/1.5.user2.bin.gz",
                "sdk/1.0.user1.bin", "sdk/1_0.user2.bin", "sdk/0.9.user1.bin", "sdk/0.9.user2.bin");
    assert_true(catalog_slots(catalog, slice_of("sdk"), NULL, slots, &missing));
    assert_string_equal(slots[0]->path, "sdk/1.0.user1.bin");
    assert_string_equal(slots[1]->path, "sdk/1_0.user2.bin");
    assert_true(catalog_slots(catalog, slice_of("sdk"), "v0.9", slots, &missing)); /* an operator may go back */
    assert_string_equal(slots[0]->path, "sdk/0.9.user1.bin");
    assert_string_equal(slots[1]->path, "sdk/0.9.user2.bin");
    assert_int_equal(missing, REASON_COUNT);
    assert_false(catalog_slots(catalog, slice_of("sdk"), "3.0", slots, &missing)); /* half of it is there */
    assert_int_equal(missing, REASON_NO_IMAGE);
    catalog_unref(catalog);
}

static void test_slots_missing(void **state)
{
    (void)state;
    static const struct {
        enum mark one, two;
        const char *type;
        enum reason reason;
    } rows[] = {
        { ADDED, NOTHING, "sdk", REASON_NO_IMAGE },     { NOTHING, ADDED, "sdk", REASON_NO_IMAGE },
        { ADDED, REJECTED, "sdk", REASON_REJECTED },    { REJECTED, ADDED, "sdk", REASON_REJECTED },
        { ADDED, EXPECTED, "sdk", REASON_NOT_YET },     { EXPECTED, ADDED, "sdk", REASON_NOT_YET },
        { ADDED, ADDED, "other", REASON_UNKNOWN_TYPE }, { ADDED, ADDED, "", REASON_UNKNOWN_TYPE },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct image *slots[2];
        enum reason missing = REASON_COUNT;
        struct catalog *catalog = catalog_new();
        put_mark(catalog, "sdk/1.0.user1.bin", rows[i].one);
        put_mark(catalog, "sdk/1.0.user2.bin", rows[i].two);
        adopt(catalog);
        if (catalog_slots(catalog, slice_of(rows[i].type), NULL, slots, &missing) || missing != rows[i].reason) {
            fail_msg("row %zu: reason %d", i, (int)missing);
        }
        catalog_unref(catalog);
    }
}

/* --- digests ----------------------------------------------------------------------------------------------------- */

static const struct image *by_md5(const struct catalog *catalog, uint8_t id, uint8_t mode, const char *type,
                                  uint8_t *flash_mode)
{
    uint8_t md5[16] = { id, mode };
    *flash_mode = 77;
    return catalog_find_md5(catalog, md5, slice_of(type), flash_mode);
}

/* A device whose Updater wrote another flash mode into byte 2 runs the same build, and says so by its digest. */
static void test_flash_mode_variant(void **state)
{
    (void)state;
    uint8_t mode;
    struct catalog *catalog = catalog_new();
    struct image *image = add_facts(catalog, "d1/1.0.bin", facts_of(1));
    adopt(catalog);
    for (uint8_t i = 0; i < IMAGE_FLASH_MODES; i++) {
        assert_ptr_equal(by_md5(catalog, 1, i, "d1", &mode), image);
        assert_int_equal(mode, i);
    }
    assert_null(by_md5(catalog, 2, 0, "d1", &mode));
    assert_int_equal(mode, 77);
    catalog_unref(catalog);
}

/* An ESP32's digest says nothing of its flash mode, whatever mode it was found under. */
static void test_no_flash_mode_of_esp32(void **state)
{
    (void)state;
    uint8_t mode;
    struct catalog *catalog = catalog_new();
    struct image_facts facts = facts_of(1);
    facts.kind = IMAGE_ESP32;
    struct image *image = add_facts(catalog, "esp32/1.0.bin", facts);
    adopt(catalog);
    assert_ptr_equal(by_md5(catalog, 1, 0, "esp32", &mode), image);
    assert_int_equal(mode, FLASH_MODE_UNKNOWN);
    catalog_unref(catalog);
}

/* The same build under several types: asked by a device of one type, its own is meant, else any of them. */
static void test_digest_prefers_type(void **state)
{
    (void)state;
    static const char *const paths[] = { "d1/1.0.bin", "d2/1.0.bin", "d3/1.0.bin", "LABEL.bin" };
    uint8_t mode;
    struct catalog *catalog = catalog_new();
    struct image_facts facts = facts_of(1);
    facts.has_run_sha256 = true;
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        add_facts(catalog, paths[i], facts);
    }
    adopt(catalog);
    for (size_t i = 0; i < 3; i++) {
        char type[] = { paths[i][0], paths[i][1], '\0' };
        assert_string_equal(by_md5(catalog, 1, 2, type, &mode)->path, paths[i]);
        assert_string_equal(catalog_find_sha256(catalog, facts.run_sha256, slice_of(type))->path, paths[i]);
        assert_int_equal(mode, 2);
    }
    assert_non_null(by_md5(catalog, 1, 0, "other", &mode));
    assert_non_null(catalog_find_sha256(catalog, facts.run_sha256, slice_of("other")));
    assert_non_null(catalog_find_md5(catalog, facts.run_md5[0], (struct slice){ NULL, 0 }, &mode));
    catalog_unref(catalog);
}

/* Devices report the digest of their sketch: what is none, or has none, must never be taken for what they run. */
static void test_digest_of_sketches_alone(void **state)
{
    (void)state;
    static const char *const others[] = { "d1/1.0.fs.bin", "littlefs_1.0_4M.bin", "d1/1.0.user1.bin",
                                          "d1/1.0.user2.bin" };
    uint8_t mode;
    struct catalog *catalog = catalog_new();
    struct image_facts facts = facts_of(1);
    facts.has_run_sha256 = true;
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        add_facts(catalog, others[i], facts);
    }
    struct image *label = add_facts(catalog, "LABEL.bin", facts_of(2));
    adopt(catalog);
    assert_null(by_md5(catalog, 1, 0, "d1", &mode));
    assert_null(catalog_find_sha256(catalog, facts.run_sha256, slice_of("d1")));
    assert_ptr_equal(by_md5(catalog, 2, 0, "d1", &mode), label);
    assert_null(catalog_find_sha256(catalog, label->build.facts.run_sha256, slice_of("d1")));
    catalog_unref(catalog);
}

/* --- paths ------------------------------------------------------------------------------------------------------- */

static void test_find_by_path(void **state)
{
    (void)state;
    struct catalog *catalog = catalog_new();
    add(catalog, "d1/1.0.bin");
    reject(catalog, "d1/1.1.bin");
    reject(catalog, "a/truc_1_0.ino.d1.bin");
    adopt(catalog);
    assert_string_equal(catalog_find_path(catalog, slice_of("d1/1.0.bin"))->path, "d1/1.0.bin");
    assert_null(catalog_find_rejection(catalog, slice_of("d1/1.0.bin")));
    assert_null(catalog_find_path(catalog, slice_of("d1/1.1.bin")));
    assert_string_equal(catalog_find_rejection(catalog, slice_of("d1/1.1.bin"))->type, "d1");
    assert_null(catalog_find_path(catalog, slice_of("d1/1.0.bi")));
    assert_null(catalog_find_path(catalog, (struct slice){ "d1/1.0.bin", 9 }));
    assert_null(catalog_find_path(catalog, (struct slice){ NULL, 0 }));
    assert_string_equal(catalog_rejection_at(catalog, 0)->path, "a/truc_1_0.ino.d1.bin");
    catalog_unref(catalog);
}

/* --- counts ------------------------------------------------------------------------------------------------------ */

static struct catalog *share_all(const struct catalog *before)
{
    struct catalog *now = catalog_new();
    for (size_t i = 0; i < catalog_image_count(before); i++) {
        catalog_share(now, catalog_image_at(before, i));
    }
    return now;
}

/* An image lives as long as any generation holds it, in whichever order they go. */
static void test_generations(void **state)
{
    (void)state;
    struct catalog *first = CATALOG("d1/1.0.bin");
    struct image *old = catalog_image_at(first, 0);
    struct catalog *second = share_all(first);
    struct image *added = add(second, "d1/1.1.bin");
    adopt(second);
    assert_int_equal(old->refs, 2);
    catalog_unref(first);
    assert_int_equal(old->refs, 1);
    struct catalog *third = adopt(share_all(second));
    catalog_unref(third); /* the younger one first */
    assert_string_equal(old->path, "d1/1.0.bin");
    assert_int_equal(added->refs, 1);
    catalog_unref(second);
}

/* A download outlives both the catalog and the file. */
static void test_image_outlives_catalogs(void **state)
{
    (void)state;
    struct catalog *catalog = CATALOG("d1/1.0.bin");
    struct image *image = catalog_image_at(catalog, 0);
    image_ref(image);
    catalog_ref(catalog);
    catalog_unref(catalog);
    check_newest(catalog, "d1", "d1/1.0.bin", "");
    catalog_unref(catalog);
    assert_string_equal(image->path, "d1/1.0.bin");
    assert_int_equal(image->refs, 1);
    image_unref(image);
}

/* A scan that is thrown away, sealed or not, must leave what it borrowed as it was. */
static void test_discard(void **state)
{
    (void)state;
    struct catalog *before = CATALOG("d1/1.0.bin", "d1/2.0.bin");
    for (int sealed = 0; sealed < 2; sealed++) {
        struct catalog *now = share_all(before);
        add(now, "d1/3.0.bin");
        add(now, "a_1.0.ino.d1.bin"); /* pushes a shared one out */
        add(now, "z_2.0.ino.d1.bin"); /* is pushed out by one */
        expect(now, "d1/4.0.bin");
        if (sealed) {
            catalog_seal(now);
            assert_int_equal(catalog_rejection_count(now), 2);
        }
        catalog_discard(now);
        assert_int_equal(catalog_image_at(before, 0)->refs, 1);
        check_newest(before, "d1", "d1/2.0.bin", "");
    }
    catalog_unref(before);
}

/* --- any set of images ------------------------------------------------------------------------------------------- */

struct dice {
    uint64_t state;
};

static unsigned roll(struct dice *dice, unsigned sides)
{
    dice->state ^= dice->state << 13;
    dice->state ^= dice->state >> 7;
    dice->state ^= dice->state << 17;
    return (unsigned)(dice->state % sides);
}

/* Some are the same version in another spelling. */
static const char *const versions[] = { "0.9",   "0.10",   "0_10_0", "1.0-beta", "1.0", "v1.0", "1.0.0", "1.0.1",
                                        "1_0_1", "1.1rc1", "1.1",    "2",        "2.0", "2.0a", "10.0",  "9.99.99" };

#define ROUND_IMAGES_MAX 40

struct round {
    char paths[ROUND_IMAGES_MAX][96];
    struct filename names[ROUND_IMAGES_MAX];
    size_t count;
};

static void roll_path(struct dice *dice, char *path, size_t size)
{
    const char *version = versions[roll(dice, COUNT_OF(versions))];
    const char *gzip = roll(dice, 3) == 0 ? ".gz" : "";
    unsigned type = 1 + roll(dice, 2);
    switch (roll(dice, 4)) {
    case 0:
        snprintf(path, size, "%c/p_%s.ino.d%u.bin%s", 'a' + (char)roll(dice, 3), version, type, gzip);
        break;
    case 1:
        snprintf(path, size, "d%u/%s.fs.bin%s", type, version, gzip);
        break;
    case 2:
        snprintf(path, size, "%s_%s_%uM.bin%s", roll(dice, 2) == 0 ? "spiffs" : "littlefs", version,
                 1 + 3 * roll(dice, 2), gzip);
        break;
    default:
        snprintf(path, size, "d%u/%s.bin%s", type, version, gzip);
    }
}

static bool has_path(const struct round *round, const char *path)
{
    for (size_t i = 0; i < round->count; i++) {
        if (strcmp(round->paths[i], path) == 0) {
            return true;
        }
    }
    return false;
}

static struct catalog *roll_catalog(struct dice *dice, struct round *round)
{
    struct catalog *catalog = catalog_new();
    unsigned tries = roll(dice, ROUND_IMAGES_MAX);
    round->count = 0;
    for (unsigned i = 0; i < tries; i++) {
        char *path = round->paths[round->count];
        roll_path(dice, path, sizeof round->paths[0]);
        if (!has_path(round, path)) {
            add(catalog, path);
            round->names[round->count++] = name_of(path);
        }
    }
    return adopt(catalog);
}

/* The brute force: looks at every file, knows neither order nor runs. Of one claim the first path counts. */
struct best {
    size_t at[2]; /* by form, plain and gzip */
    bool is_there[2];
    const struct version *version; /* NULL = none */
};

static bool may_serve(const struct filename *name, enum filename_role role, const char *type)
{
    return name->role == role && (role == FILENAME_SHARED_FS ? name->flash_mib == 4 : strcmp(name->type, type) == 0);
}

static struct best find_best(const struct round *round, enum filename_role role, const char *type)
{
    struct best best = { .version = NULL };
    for (size_t i = 0; i < round->count; i++) {
        const struct filename *name = &round->names[i];
        if (may_serve(name, role, type) &&
            (best.version == NULL || version_compare(&name->version, best.version) > 0)) {
            best.version = &name->version;
        }
    }
    for (size_t i = 0; i < round->count; i++) {
        const struct filename *name = &round->names[i];
        if (may_serve(name, role, type) && version_compare(&name->version, best.version) == 0 &&
            (!best.is_there[name->gzip] || strcmp(round->paths[i], round->paths[best.at[name->gzip]]) < 0)) {
            best.is_there[name->gzip] = true;
            best.at[name->gzip] = i;
        }
    }
    return best;
}

static struct best find_best_fs(const struct round *round, const char *type)
{
    struct best own = find_best(round, FILENAME_FS, type);
    struct best shared = find_best(round, FILENAME_SHARED_FS, type);
    bool take_shared =
        own.version == NULL || (shared.version != NULL && version_compare(shared.version, own.version) > 0);
    return take_shared ? shared : own;
}

static bool type_is_there(const struct round *round, const char *type)
{
    for (size_t i = 0; i < round->count; i++) {
        if (strcmp(round->names[i].type, type) == 0) {
            return true;
        }
    }
    return false;
}

static void check_best(const struct catalog *catalog, const struct round *round, const char *type, enum offer_kind kind,
                       uint64_t seed)
{
    struct catalog_query query = { .type = slice_of(type), .kind = kind, .flash_bytes = 4 * MIB };
    struct best best = kind == OFFER_FS ? find_best_fs(round, type) : find_best(round, FILENAME_SKETCH, type);
    if (!type_is_there(round, type)) {
        best = (struct best){ .version = NULL }; /* a type that nobody has heard of gets nothing */
    }
    const char *plain = best.is_there[0] ? round->paths[best.at[0]] : "";
    const char *gzip = best.is_there[1] ? round->paths[best.at[1]] : "";
    struct offer offer;
    enum reason missing;
    catalog_offer(catalog, &query, &offer, &missing);
    const struct build *any = offer.plain != NULL ? offer.plain : offer.gzip;
    if (best.version == NULL && any != NULL && any->flash_mib == 1 && type_is_there(round, type)) {
        return; /* the one of a wrong size that a refusal names */
    }
    if (strcmp(path_of(offer.plain), plain) != 0 || strcmp(path_of(offer.gzip), gzip) != 0) {
        fail_msg("seed %llu, %s: offered \"%s\" and \"%s\" instead of \"%s\" and \"%s\"", (unsigned long long)seed,
                 type, path_of(offer.plain), path_of(offer.gzip), plain, gzip);
    }
}

static void test_offer_is_the_maximum(void **state)
{
    (void)state;
    static struct round round;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct dice dice = { seed * 0x9e3779b97f4a7c15u };
        struct catalog *catalog = roll_catalog(&dice, &round);
        assert_int_equal(catalog_image_count(catalog) + catalog_rejection_count(catalog), round.count);
        for (int i = 0; i < 4; i++) {
            check_best(catalog, &round, i % 2 == 0 ? "d1" : "d2", i < 2 ? OFFER_SKETCH : OFFER_FS, seed);
        }
        catalog_unref(catalog);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_newest_first),
        cmocka_unit_test(test_conventions_meet_in_a_type),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_wanted_version),
        cmocka_unit_test(test_wanted_version_in_both_forms),
        cmocka_unit_test(test_wanted_label),
        cmocka_unit_test(test_label_in_both_forms),
        cmocka_unit_test(test_version_before_label),
        cmocka_unit_test(test_duplicates_by_path),
        cmocka_unit_test(test_no_duplicates),
        cmocka_unit_test(test_duplicate_file_systems),
        cmocka_unit_test(test_duplicate_with_long_path),
        cmocka_unit_test(test_shared_becomes_duplicate),
        cmocka_unit_test(test_fresh_is_duplicate_of_shared),
        cmocka_unit_test(test_shared_fs_by_flash_size),
        cmocka_unit_test(test_shared_fs_by_the_sketch),
        cmocka_unit_test(test_all_forms),
        cmocka_unit_test(test_specific_fs),
        cmocka_unit_test(test_wanted_fs),
        cmocka_unit_test(test_fs_of_wrong_size),
        cmocka_unit_test(test_fs_without_known_size),
        cmocka_unit_test(test_why_missing),
        cmocka_unit_test(test_awaited_since),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_slots_missing),
        cmocka_unit_test(test_flash_mode_variant),
        cmocka_unit_test(test_no_flash_mode_of_esp32),
        cmocka_unit_test(test_digest_prefers_type),
        cmocka_unit_test(test_digest_of_sketches_alone),
        cmocka_unit_test(test_find_by_path),
        cmocka_unit_test(test_generations),
        cmocka_unit_test(test_image_outlives_catalogs),
        cmocka_unit_test(test_discard),
        cmocka_unit_test(test_offer_is_the_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
