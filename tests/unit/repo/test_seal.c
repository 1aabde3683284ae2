/* What vouches for a file, as scans meet it: the .sig that comes, changes and goes, and keys that change. The program
 * has a clock of its own, as in test_scan.c. */
#include "repo/seal.h"

#include "repo/scan.h"
#include "tests/unit/repo/repo_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

#include <cmocka.h>

#define FILE_NAME "door/1.0.bin"
#define SIG_NAME  FILE_NAME ".sig"

static int64_t wall_shift_ms;

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (syscall(SYS_clock_gettime, clock, now) != 0) {
        return -1;
    }
    now->tv_sec += (time_t)(clock == CLOCK_REALTIME ? wall_shift_ms / 1000 : 0);
    return 0;
}

/* --- fixture ------------------------------------------------------------------------------------------------------ */

struct signer {
    struct signature_private *private;
    struct signature_keys *keys;
};

static struct folder folder;
static struct digest_cache *cache;
static struct signer ann, bob;
static struct catalog *catalog; /* of the last scan */
static size_t files_read;       /* by it */

static struct signer signer_new(bool ed25519)
{
    char message[300];
    struct signer signer = { signature_private_make(ed25519), signature_keys_new() };
    char *pem = signature_public_pem(signer.private);
    assert_true(signature_keys_add(signer.keys, slice_of(pem), message, sizeof message));
    signature_pem_free(pem);
    return signer;
}

static void signer_free(struct signer *signer)
{
    signature_private_free(signer->private);
    signature_keys_unref(signer->keys);
}

static int set_up(void **state)
{
    (void)state;
    folder_make(&folder);
    cache = digest_cache_new();
    ann = signer_new(true);
    bob = signer_new(true);
    catalog = NULL;
    wall_shift_ms = 10000; /* all that is written has settled */
    return cache == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    if (catalog != NULL) {
        catalog_unref(catalog);
    }
    digest_cache_free(cache);
    signer_free(&ann);
    signer_free(&bob);
    folder_remove(&folder, "");
    return 0;
}

/* The core's trailer, of RSA, within the image. */
static void put_image_with_trailer(uint32_t seed, const struct signer *signer)
{
    size_t n;
    uint8_t *bytes = image_make(&(struct image_make){ .seed = seed }, &n);
    bytes = realloc(bytes, n + SIGNATURE_BYTES_MAX + 4);
    assert_non_null(bytes);
    size_t made = signature_make(signer->private, bytes, n, bytes + n);
    uint8_t length[4] = { (uint8_t)made, (uint8_t)(made >> 8) };
    memcpy(bytes + n + made, length, sizeof length);
    folder_write(&folder, FILE_NAME, bytes, n + made + sizeof length);
    free(bytes);
}

/* The seed's image, and whose signature lies beside it, if anybody's. */
static void put_image(uint32_t seed)
{
    folder_drop(&folder, FILE_NAME, &(struct image_make){ .kind = IMAGE_MAKE_ESP32, .seed = seed });
}

static void put_signature(const struct signer *signer, uint32_t seed)
{
    uint8_t signature[SIGNATURE_BYTES_MAX];
    size_t n;
    uint8_t *bytes = image_make(&(struct image_make){ .kind = IMAGE_MAKE_ESP32, .seed = seed }, &n);
    folder_write(&folder, ".sig", signature, signature_make(signer->private, bytes, n, signature));
    folder_rename(&folder, ".sig", SIG_NAME);
    free(bytes);
}

static void remove_signature(void)
{
    assert_int_equal(unlink(in_folder(&folder, SIG_NAME).text), 0);
}

/* Returns how long the scan wants to wait for the next. */
static uint64_t scan_with(struct signature_keys *keys)
{
    struct scan_result result;
    struct scan_input input = {
        .root = folder.path, .previous = catalog, .cache = cache, .keys = keys, .settle_ms = 400
    };
    assert_int_equal(scan_run(&input, &result), STATUS_OK);
    catalog_adopt(result.catalog);
    if (catalog != NULL) {
        catalog_unref(catalog);
    }
    catalog = result.catalog;
    files_read = result.read;
    scan_result_close(&result);
    return result.unsettled_ms;
}

static const struct image *served(void)
{
    const struct image *image = catalog_find_path(catalog, slice_of(FILE_NAME));
    assert_true(image == NULL || catalog_rejection_count(catalog) == 0);
    return image;
}

static void expect_rejected(enum image_fault fault)
{
    const struct rejection *rejection = catalog_find_rejection(catalog, slice_of(FILE_NAME));
    assert_null(served());
    assert_non_null(rejection);
    assert_int_equal(rejection->verdict.fault, fault);
    assert_int_equal(catalog_rejection_count(catalog), 1); /* a .sig is none */
}

/* A new process: the same cache, no catalog. */
static void start_anew(void)
{
    struct file_path file = in_folder(&folder, ".cache");
    catalog_unref(catalog);
    catalog = NULL;
    assert_int_equal(digest_cache_save(cache, file.text), STATUS_OK);
    assert_int_equal(digest_cache_load(cache, file.text), STATUS_OK);
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

static void test_sig_comes_changes_and_goes(void **state)
{
    (void)state;
    put_image(1);
    scan_with(ann.keys);
    expect_rejected(IMAGE_FAULT_UNSIGNED);
    put_signature(&ann, 1);
    scan_with(ann.keys);
    assert_non_null(served());
    put_signature(&ann, 2);
    scan_with(ann.keys);
    expect_rejected(IMAGE_FAULT_WRONG_SIGNATURE);
    put_signature(&ann, 1);
    scan_with(ann.keys);
    assert_non_null(served());
    remove_signature();
    scan_with(ann.keys);
    expect_rejected(IMAGE_FAULT_UNSIGNED);
}

/* The signature that lies there is one of the image before. */
static void test_image_changes(void **state)
{
    (void)state;
    put_image(1);
    put_signature(&ann, 1);
    scan_with(ann.keys);
    assert_non_null(served());
    put_image(2);
    scan_with(ann.keys);
    expect_rejected(IMAGE_FAULT_WRONG_SIGNATURE);
}

/* Verified once, whether it passed or not; and anew once anything of it is another. */
static void test_what_is_known(void **state)
{
    (void)state;
    put_image(1);
    put_signature(&ann, 1);
    for (int i = 0; i < 3; i++) {
        struct signature_keys *keys = i < 2 ? ann.keys : bob.keys;
        scan_with(keys);
        assert_int_equal(files_read, i != 1);
        scan_with(keys);
        assert_int_equal(files_read, 0);
        start_anew();
        scan_with(keys);
        assert_int_equal(files_read, 0);
        assert_int_equal(served() != NULL, i < 2);
    }
    start_anew();
    scan_with(NULL);
    assert_non_null(served());
    start_anew();
    scan_with(bob.keys);
    expect_rejected(IMAGE_FAULT_WRONG_SIGNATURE);
    start_anew();
    remove_signature(); /* while nobody looked */
    scan_with(ann.keys);
    expect_rejected(IMAGE_FAULT_UNSIGNED);
}

/* The first of two renames has been seen: the image before, of which this .sig knows nothing, is served meanwhile, but
 * not under keys that never vouched for it. */
static void test_sig_of_the_image_to_come(void **state)
{
    (void)state;
    put_image(1);
    put_signature(&ann, 1);
    scan_with(ann.keys);
    const struct image *before = served();
    wall_shift_ms = 0;
    usleep(500000); /* the image itself has settled */
    put_signature(&ann, 2);
    assert_true(scan_with(ann.keys) > 0);
    assert_ptr_equal(served(), before);
    assert_int_equal(catalog_rejection_count(catalog), 0);
    assert_true(scan_with(bob.keys) > 0);
    assert_null(served());
    wall_shift_ms = 10000;
    scan_with(ann.keys);
    expect_rejected(IMAGE_FAULT_WRONG_SIGNATURE);
}

static void test_sig_that_cannot_be_read(void **state)
{
    (void)state;
    put_image(1);
    assert_int_equal(mkdir(in_folder(&folder, SIG_NAME).text, 0755), 0);
    for (int i = 0; i < 2; i++) { /* never kept: not every cure is seen */
        assert_true(scan_with(ann.keys) > 0);
        expect_rejected(IMAGE_FAULT_UNREADABLE);
        assert_int_equal(files_read, 1);
    }
    assert_int_equal(rmdir(in_folder(&folder, SIG_NAME).text), 0);
    put_signature(&ann, 1);
    scan_with(ann.keys);
    assert_non_null(served());
}

/* Nor is one needed where the image has a trailer: and then it is no reason to read the image each time. */
static void test_sig_that_cannot_be_read_beside_a_trailer(void **state)
{
    (void)state;
    struct signer eve = signer_new(false);
    put_image_with_trailer(1, &eve);
    put_signature(&ann, 2);
    assert_int_equal(chmod(in_folder(&folder, SIG_NAME).text, 0), 0);
    bool is_root = geteuid() == 0;
    assert_int_equal(is_root ? seteuid(65534) : 0, 0);
    for (int i = 0; i < 2; i++) { /* a trailer that does not count is none: nothing else may be kept in mind */
        assert_true(scan_with(bob.keys) > 0);
        expect_rejected(IMAGE_FAULT_UNREADABLE);
        assert_int_equal(files_read, 1);
    }
    const struct image *first = NULL;
    for (int i = 0; i < 2; i++) {
        scan_with(eve.keys);
        assert_int_equal(files_read, i == 0);
        first = i == 0 ? served() : first;
        assert_ptr_equal(served(), first);
        assert_non_null(first);
    }
    assert_int_equal(is_root ? seteuid(0) : 0, 0);
    for (int i = 0; i < 2; i++) {
        const struct seal *seal = &served()->seal;
        assert_true(seal_stands(seal, eve.keys) && seal_stands(seal, NULL) && !seal_stands(seal, ann.keys));
        start_anew();
        scan_with(eve.keys);
        assert_int_equal(files_read, 0);
    }
    signer_free(&eve);
}

static void test_states(void **state)
{
    (void)state;
    struct seal without, nobody, ours, theirs;
    int root = open(in_folder(&folder, "").text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    seal_of(ann.keys, root, FILE_NAME, &nobody);
    put_signature(&ann, 1);
    seal_of(NULL, root, FILE_NAME, &without);
    seal_of(ann.keys, root, FILE_NAME, &ours);
    seal_of(bob.keys, root, FILE_NAME, &theirs);
    assert_true(seal_equal(&without, &(struct seal){ .keys = { 0 } }));
    assert_true(seal_equal(&ours, &ours));
    assert_false(seal_equal(&ours, &nobody));
    assert_false(seal_equal(&ours, &theirs));
    assert_false(seal_equal(&ours, &without));
    close(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sig_comes_changes_and_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_image_changes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_known, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sig_of_the_image_to_come, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sig_that_cannot_be_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sig_that_cannot_be_read_beside_a_trailer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_states, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
