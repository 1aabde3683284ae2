/* What a catalog is made of: order, duplicates, paths, and how long an image lives. (test_catalog_find.c: what it is
 * asked.)
 */
#include "tests/unit/repo/catalog_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_newest_first),
        cmocka_unit_test(test_conventions_meet_in_a_type),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_duplicates_by_path),
        cmocka_unit_test(test_no_duplicates),
        cmocka_unit_test(test_duplicate_file_systems),
        cmocka_unit_test(test_duplicate_with_long_path),
        cmocka_unit_test(test_shared_becomes_duplicate),
        cmocka_unit_test(test_fresh_is_duplicate_of_shared),
        cmocka_unit_test(test_find_by_path),
        cmocka_unit_test(test_generations),
        cmocka_unit_test(test_image_outlives_catalogs),
        cmocka_unit_test(test_discard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
