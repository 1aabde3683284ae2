/* The watch over a real folder, with real events. What makes it hard: nothing here happens at a time that a test could
 * know, so it turns the loop until what it waits for is there, and gives up only after half a minute. With the slow
 * rescan an hour away, what is found in that time was found by an event. */
#include "tests/unit/repo/watch_fixture.h"

/* --- what is there, and what comes ------------------------------------------------------------------------------- */

/* The first catalog is whole although its files were written a moment before: no device is told 404 at a restart. */
static void test_first_catalog(void **state)
{
    (void)state;
    put("d1/1.0.bin", 0);
    put("LABEL.bin", 1);
    watch_from_now(HOUR_MS);
    run_until(has_catalog, "the first catalog");
    assert_true(is_served("d1/1.0.bin"));
    assert_true(is_served("LABEL.bin"));
    stop();
    assert_int_equal(world.firsts, 1);
}

static void test_empty_repository(void **state)
{
    (void)state;
    watch_from_now(HOUR_MS);
    run_until(has_catalog, "the first catalog");
    assert_int_equal(catalog_image_count(world.catalog), 0);
    stop();
}

/* A file that nobody may read never becomes whole; the others' first catalog does not wait for it. The bound is far
 * above what a slow machine needs. */
static void test_first_catalog_despite_unreadable(void **state)
{
    (void)state;
    put("d1/1.0.bin", 0);
    put("d1/1.1.bin", 1);
    bool is_root = geteuid() == 0;
    assert_int_equal(chmod(in_folder(&world.folder, "repo/d1/1.1.bin").text, 0), 0);
    assert_int_equal(chmod(in_folder(&world.folder, "state").text, 0777), 0);
    assert_int_equal(is_root ? seteuid(65534) : 0, 0);
    watch_from_now(HOUR_MS);
    run_within(10000, has_catalog, "the first catalog");
    stop();
    assert_int_equal(is_root ? seteuid(0) : 0, 0);
    assert_true(is_served("d1/1.0.bin"));
    assert_int_equal(catalog_rejection_count(world.catalog), 1);
}

/* Every way in which a file comes, changes and goes, each found without a restart. */
static void test_changes(void **state)
{
    (void)state;
    put("d1/1.0.bin", 0);
    watch_from_now(HOUR_MS);
    run_until(is_served, "d1/1.0.bin");
    settle_down();
    drop("d1/1.1.bin", 1);
    run_until(is_served, "d1/1.1.bin");
    settle_down();
    put("truc_1_0.ino.d2.bin", 2); /* written in place, at the top */
    run_until(is_served, "truc_1_0.ino.d2.bin");
    settle_down();
    drop("new/deep/down/truc_1_0.ino.d3.bin", 3); /* in folders that come with it */
    run_until(is_served, "new/deep/down/truc_1_0.ino.d3.bin");
    settle_down();
    drop("new/deep/down/truc_1_1.ino.d3.bin", 4); /* and those are watched by now */
    run_until(is_served, "new/deep/down/truc_1_1.ino.d3.bin");
    settle_down();
    folder_remove(&world.folder, "repo/d1/1.0.bin");
    run_until(is_gone, "d1/1.0.bin");
    settle_down();
    folder_rename(&world.folder, "repo/d1/1.1.bin", "repo/d1/1.2.bin");
    run_until(is_served, "d1/1.2.bin");
    assert_false(is_served("d1/1.1.bin"));
    stop();
    assert_int_equal(world.firsts, 1);
}

/* An image that was replaced under its name is another one; one that was not stays the same, with its downloads. */
static void test_replaced_file(void **state)
{
    (void)state;
    put("d1/1.0.bin", 0);
    put("d1/1.1.bin", 1);
    watch_from_now(HOUR_MS);
    run_until(is_served, "d1/1.1.bin");
    settle_down();
    const struct image *kept = catalog_find_path(world.catalog, slice_of("d1/1.0.bin"));
    struct image *old = catalog_find_path(world.catalog, slice_of("d1/1.1.bin"));
    image_ref(old);
    drop("d1/1.1.bin", 2);
    uint64_t end_ms = now_ms() + PATIENCE_MS;
    while (catalog_find_path(world.catalog, slice_of("d1/1.1.bin")) == old && now_ms() < end_ms) {
        uv_run(&world.loop, UV_RUN_ONCE);
    }
    run_until(is_served, "d1/1.1.bin");
    assert_memory_not_equal(catalog_find_path(world.catalog, slice_of("d1/1.1.bin"))->build.facts.md5,
                            old->build.facts.md5, 16);
    assert_ptr_equal(catalog_find_path(world.catalog, slice_of("d1/1.0.bin")), kept);
    image_unref(old);
    stop();
}

/* A folder that was deleted and made anew has its old name, and on many file systems its old number too: the events
 * of the new one must arrive all the same. */
static void check_remade_folder(const char *folder)
{
    char before[64], after[64], later[64];
    snprintf(before, sizeof before, "%s/truc_1_0.ino.d1.bin", folder);
    snprintf(after, sizeof after, "%s/truc_2_0.ino.d1.bin", folder);
    snprintf(later, sizeof later, "%s/truc_3_0.ino.d1.bin", folder);
    put(before, 1);
    run_until(is_served, before);
    settle_down();
    folder_remove(&world.folder, in_repo(folder).text);
    put(after, 2);
    run_until(is_served, after);
    settle_down();
    drop(later, 3);
    run_until(is_served, later);
    settle_down();
}

static void test_folder_made_anew(void **state)
{
    (void)state;
    watch_from_now(HOUR_MS);
    check_remade_folder("d1");
    check_remade_folder("a/b");
    stop();
}

/* As a deployment by `mv` does it: another folder takes the name while the old one lives on elsewhere. */
static void test_folder_swapped(void **state)
{
    (void)state;
    put("d1/1.0.bin", 0);
    watch_from_now(HOUR_MS);
    run_until(is_served, "d1/1.0.bin");
    settle_down();
    folder_put(&world.folder, "staged/2.0.bin", &(struct image_make){ .seed = 2 });
    folder_rename(&world.folder, "repo/d1", "old");
    folder_rename(&world.folder, "staged", "repo/d1");
    run_until(is_served, "d1/2.0.bin");
    assert_false(is_served("d1/1.0.bin"));
    settle_down();
    drop("d1/3.0.bin", 3);
    run_until(is_served, "d1/3.0.bin");
    stop();
}

/* --- failures ---------------------------------------------------------------------------------------------------- */

/* The drive is gone for a while: what was served before stays, and all is found again, with its events. */
static void test_root_goes_and_comes(void **state)
{
    (void)state;
    put("d1/1.0.bin", 0);
    watch_from_now(50);
    run_until(is_served, "d1/1.0.bin");
    folder_rename(&world.folder, "repo", "away");
    unsigned catalogs;
    do {
        catalogs = world.catalogs;
        settle_down(); /* rescans that were under way are over, and those since have failed */
    } while (world.catalogs != catalogs);
    assert_true(is_served("d1/1.0.bin"));
    put("d1/2.0.bin", 2);
    run_until(is_served, "d1/2.0.bin");
    assert_false(is_served("d1/1.0.bin"));
    watch_configure(world.watch, 20, HOUR_MS);
    settle_down();
    drop("d1/3.0.bin", 3);
    run_until(is_served, "d1/3.0.bin");
    stop();
}

static void test_root_missing_at_start(void **state)
{
    (void)state;
    folder_remove(&world.folder, "repo");
    watch_from_now(50);
    for (int i = 0; i < 50; i++) {
        uv_run(&world.loop, UV_RUN_ONCE);
    }
    assert_null(world.catalog);
    put("d1/1.0.bin", 0);
    run_until(is_served, "d1/1.0.bin");
    stop();
    assert_int_equal(world.firsts, 1);
}

/* A state folder that cannot be written costs a reading at the next start, nothing else. */
static void test_cache_not_writable(void **state)
{
    (void)state;
    folder_remove(&world.folder, "state");
    put("d1/1.0.bin", 0);
    watch_from_now(HOUR_MS);
    run_until(is_served, "d1/1.0.bin");
    settle_down();
    drop("d1/1.1.bin", 1);
    run_until(is_served, "d1/1.1.bin");
    stop();
}

/* --- asking for a look, and the memory of it ---------------------------------------------------------------------- */

/* Asked for, also several times over and while a scan runs, a look hands over a catalog with the very same images. */
static void test_rescan(void **state)
{
    (void)state;
    put("d1/1.0.bin", 0);
    watch_from_now(HOUR_MS);
    run_until(is_served, "d1/1.0.bin");
    settle_down();
    const struct image *image = catalog_image_at(world.catalog, 0);
    unsigned catalogs = world.catalogs;
    watch_rescan(world.watch);
    watch_rescan(world.watch);
    uint64_t end_ms = now_ms() + PATIENCE_MS;
    while (world.catalogs == catalogs && now_ms() < end_ms) {
        watch_rescan(world.watch);
        uv_run(&world.loop, UV_RUN_ONCE);
    }
    assert_true(world.catalogs > catalogs);
    assert_ptr_equal(catalog_image_at(world.catalog, 0), image);
    stop();
}

/* What a scan learned is on disk by the time the watch has stopped: the next start reads no image. */
static void test_cache_is_saved(void **state)
{
    (void)state;
    put("d1/1.0.bin", 0);
    put("d1/1.1.bin", 1);
    watch_from_now(HOUR_MS);
    run_until(has_catalog, "the first catalog");
    stop();
    struct digest_cache *cache = digest_cache_new();
    assert_int_equal(digest_cache_load(cache, world.cache_path.text), STATUS_OK);
    assert_int_equal(digest_cache_count(cache), 2);
    digest_cache_free(cache);
}

/* --- stopping ---------------------------------------------------------------------------------------------------- */

/* Stopped at any moment of a start, in the middle of the first scan as well as after: it ends, frees all, and hands
 * over nothing any more. */
static void test_stop_at_any_moment(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "d%u/1.0.bin", i);
        folder_put(&world.folder, in_repo(name).text, &(struct image_make){ .seed = i, .bytes = 200000 });
    }
    for (unsigned turns = 0; turns < 24; turns++) {
        world.stopped = false;
        world.catalogs = world.firsts = 0;
        watch_from_now(HOUR_MS);
        for (unsigned i = 0; i < turns; i++) {
            uv_run(&world.loop, UV_RUN_ONCE);
        }
        if (turns % 2 == 1) {
            drop("d1/1.1.bin", turns);
            watch_rescan(world.watch);
        }
        unsigned catalogs = world.catalogs;
        stop();
        assert_int_equal(world.catalogs, catalogs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCH_TEST(test_first_catalog),
        WATCH_TEST(test_empty_repository),
        WATCH_TEST(test_first_catalog_despite_unreadable),
        WATCH_TEST(test_changes),
        WATCH_TEST(test_replaced_file),
        WATCH_TEST(test_folder_made_anew),
        WATCH_TEST(test_folder_swapped),
        WATCH_TEST(test_root_goes_and_comes),
        WATCH_TEST(test_root_missing_at_start),
        WATCH_TEST(test_cache_not_writable),
        WATCH_TEST(test_rescan),
        WATCH_TEST(test_cache_is_saved),
        WATCH_TEST(test_stop_at_any_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
