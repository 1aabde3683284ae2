/* Keys that change while the watch is busy, or can do nothing. */
#include "tests/unit/repo/watch_fixture.h"

static bool is_rejected(const char *path)
{
    return catalog_find_rejection(world.catalog, slice_of(path)) != NULL;
}

static struct signature_keys *some_keys(void)
{
    char message[300];
    struct signature_keys *keys = signature_keys_new();
    struct signature_private *private = signature_private_make(true);
    char *pem = signature_public_pem(private);
    assert_true(signature_keys_add(keys, slice_of(pem), message, sizeof message));
    signature_pem_free(pem);
    signature_private_free(private);
    return keys;
}

/* The scan that is under way goes by the keys before: what it finds is not published. */
static void test_keys_change_during_a_scan(void **state)
{
    (void)state;
    struct signature_keys *keys = some_keys();
    put("d1/1.0.bin", 0);
    usleep(30000); /* it has settled, or the first scan would find nothing */
    watch_from_now(HOUR_MS);
    watch_use_keys(world.watch, keys);
    run_until(has_catalog, "the first catalog");
    assert_false(is_served("d1/1.0.bin"));
    signature_keys_unref(keys);
    stop();
}

/* The keys change while the drive is gone: nobody can say what they vouch for, so nothing is served. */
static void test_keys_change_while_the_root_is_gone(void **state)
{
    (void)state;
    struct signature_keys *keys = some_keys();
    put("d1/1.0.bin", 0);
    put("d1/no-firmware.bin", 0);
    watch_from_now(50);
    run_until(is_served, "d1/1.0.bin");
    folder_rename(&world.folder, "repo", "away");
    watch_use_keys(world.watch, keys);
    run_until(is_gone, "d1/1.0.bin");
    assert_true(is_rejected("d1/1.0.bin") && is_rejected("d1/no-firmware.bin"));
    assert_true(catalog_has_type(world.catalog, slice_of("d1")));
    watch_use_keys(world.watch, NULL);
    folder_rename(&world.folder, "away", "repo");
    run_until(is_served, "d1/1.0.bin");
    signature_keys_unref(keys);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCH_TEST(test_keys_change_during_a_scan),
        WATCH_TEST(test_keys_change_while_the_root_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
