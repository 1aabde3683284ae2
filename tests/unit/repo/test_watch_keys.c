/* Keys that change while the watch is busy, or can do nothing. A read() of our own, in which a scan may hang, takes the
 * place of the C library's. */
#undef _FORTIFY_SOURCE /* it makes read() an inline function, which cannot be replaced */
#include "tests/unit/repo/watch_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

static atomic_bool scan_is_to_hang, scan_hangs;
static pthread_t loop_thread;

ssize_t read(int file, void *bytes, size_t n)
{
    while (atomic_load(&scan_is_to_hang) && !pthread_equal(pthread_self(), loop_thread)) {
        atomic_store(&scan_hangs, true);
        usleep(1000);
    }
    return syscall(SYS_read, file, bytes, n);
}

static bool is_hanging(const char *name)
{
    (void)name;
    return atomic_load(&scan_hangs);
}

static bool is_rejected(const char *path)
{
    return catalog_find_rejection(world.catalog, slice_of(path)) != NULL;
}

static bool counts(const char *name)
{
    (void)name;
    return world.news != CATALOG_FOR_NOW;
}

static void add_key(struct signature_keys *keys, const struct signature_private *private)
{
    char message[300];
    char *pem = signature_public_pem(private);
    assert_true(signature_keys_add(keys, slice_of(pem), message, sizeof message));
    signature_pem_free(pem);
}

static struct signature_keys *some_keys(void)
{
    struct signature_keys *keys = signature_keys_new();
    struct signature_private *private = signature_private_make(true);
    add_key(keys, private);
    signature_private_free(private);
    return keys;
}

static void put_signed(const char *name, uint32_t seed, const struct signature_private *private)
{
    uint8_t signature[SIGNATURE_BYTES_MAX];
    char sig[64];
    size_t n;
    uint8_t *bytes = image_make(&(struct image_make){ .seed = seed }, &n);
    snprintf(sig, sizeof sig, "repo/%s.sig", name);
    folder_write(&world.folder, sig, signature, signature_make(private, bytes, n, signature));
    put(name, seed);
    free(bytes);
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
    assert_true(is_gone("d1/1.0.bin") && world.news == CATALOG_FOR_NOW);
    run_until(counts, "the scan that failed");
    assert_true(is_rejected("d1/1.0.bin") && is_rejected("d1/no-firmware.bin"));
    assert_true(catalog_has_type(world.catalog, slice_of("d1")));
    watch_use_keys(world.watch, NULL);
    folder_rename(&world.folder, "away", "repo");
    run_until(is_served, "d1/1.0.bin");
    signature_keys_unref(keys);
    stop();
}

static bool has_type(const char *type)
{
    return world.catalog != NULL && catalog_has_type(world.catalog, slice_of(type));
}

/* A type whose only file is still being written stays known, and since when that is. */
static void test_keys_change_while_a_file_is_written(void **state)
{
    (void)state;
    struct signature_keys *keys = some_keys();
    struct file_identity identity;
    struct stat found;
    uint64_t seen_ms = 1, still_ms = 2;
    put("d1/1.0.bin", 0);
    watch_from_now(HOUR_MS);
    run_until(is_served, "d1/1.0.bin");
    watch_configure(world.watch, HOUR_MS, HOUR_MS);
    put("d2/1.0.bin", 1);
    run_until(has_type, "d2");
    settle_down();
    assert_int_equal(stat(in_folder(&world.folder, "repo/d2/1.0.bin").text, &found), 0);
    file_identity_from(&found, &identity);
    assert_true(catalog_awaited_since(world.catalog, "d2/1.0.bin", &identity, &seen_ms));
    watch_use_keys(world.watch, keys);
    assert_true(is_gone("d1/1.0.bin") && has_type("d2"));
    assert_true(catalog_awaited_since(world.catalog, "d2/1.0.bin", &identity, &still_ms));
    assert_int_equal(still_ms, seen_ms);
    signature_keys_unref(keys);
    stop();
}

/* Who can write there makes a scan take as long as he likes: what only the key vouched for that is taken away is gone
 * at once all the same, and what the other one did stays. */
static void test_a_key_is_retired_while_a_scan_hangs(void **state)
{
    (void)state;
    struct signature_private *ann = signature_private_make(true), *bob = signature_private_make(true);
    struct signature_keys *both = signature_keys_new(), *left = signature_keys_new();
    add_key(both, ann);
    add_key(both, bob);
    add_key(left, ann);
    put_signed("d1/1.0.bin", 1, ann);
    put_signed("d2/1.0.bin", 2, bob);
    loop_thread = pthread_self();
    watch_from_now(HOUR_MS);
    watch_use_keys(world.watch, both);
    run_until(is_served, "d2/1.0.bin");
    settle_down();
    const struct image *kept = catalog_find_path(world.catalog, slice_of("d1/1.0.bin"));
    atomic_store(&scan_hangs, false);
    atomic_store(&scan_is_to_hang, true);
    put_signed("d3/1.0.bin", 3, ann); /* two: what is looked at behind the first needs the catalog before */
    put_signed("d3/1.1.bin", 4, ann);
    run_until(is_hanging, "a scan that hangs");
    watch_use_keys(world.watch, left);
    bool withdrawn = is_gone("d2/1.0.bin") && is_rejected("d2/1.0.bin");
    withdrawn = withdrawn && world.news == CATALOG_FOR_NOW;
    bool stays = catalog_find_path(world.catalog, slice_of("d1/1.0.bin")) == kept;
    atomic_store(&scan_is_to_hang, false);
    assert_true(withdrawn && stays);
    run_until(is_served, "d3/1.1.bin");
    assert_int_equal(world.news, CATALOG_NEXT);
    assert_true(is_served("d1/1.0.bin") && is_gone("d2/1.0.bin"));
    stop();
    signature_keys_unref(both);
    signature_keys_unref(left);
    signature_private_free(ann);
    signature_private_free(bob);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCH_TEST(test_keys_change_during_a_scan),
        WATCH_TEST(test_keys_change_while_the_root_is_gone),
        WATCH_TEST(test_keys_change_while_a_file_is_written),
        WATCH_TEST(test_a_key_is_retired_while_a_scan_hangs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
