/* What is offered to whom: the wanted version or label, the file system that fits, both slots; why there is none; and
 * which image a digest names. */
#include "tests/unit/repo/catalog_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wanted_version),
        cmocka_unit_test(test_wanted_version_in_both_forms),
        cmocka_unit_test(test_wanted_label),
        cmocka_unit_test(test_label_in_both_forms),
        cmocka_unit_test(test_version_before_label),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
