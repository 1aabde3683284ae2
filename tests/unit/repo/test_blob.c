/* Blobs on a real loop and real files. What makes it hard: a load ends on the loop's terms, so each test turns the loop
 * until what it waits for has come about, and gives up only after half a minute. */
#include "repo/blob.h"
#include "tests/unit/repo/repo_fixture.h"

#include <errno.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#define PATIENCE_MS 30000
#define NEVER_MS    3600000 /* as idle time: longer than any test */
#define PLENTY      ((size_t)64 << 20)

/* --- fixture ----------------------------------------------------------------------------------------------------- */

struct world {
    struct folder folder;
    uv_loop_t loop;
    uv_timer_t tick; /* keeps the loop turning: the store's own timer does not */
    struct blob_store store;
    bool stopped;
};

static struct world world;

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void on_stopped(struct blob_store *store)
{
    assert_ptr_equal(store, &world.store);
    world.stopped = true;
}

static void world_start(uint64_t idle_ms, size_t bytes_max)
{
    memset(&world, 0, sizeof world);
    folder_make(&world.folder);
    assert_int_equal(uv_loop_init(&world.loop), 0);
    uv_timer_init(&world.loop, &world.tick);
    uv_timer_start(&world.tick, on_tick, 1, 1);
    blob_store_start(&world.store, &world.loop, world.folder.path, idle_ms, bytes_max);
}

typedef bool (*condition_fn)(const void *owner);

static void run_until(condition_fn holds, const void *owner)
{
    uint64_t end_ms = uv_hrtime() / 1000000 + PATIENCE_MS;
    while (!holds(owner)) {
        uv_run(&world.loop, UV_RUN_ONCE);
        if (uv_hrtime() / 1000000 > end_ms) {
            fail_msg("waited %d ms in vain", PATIENCE_MS);
        }
    }
}

static bool has_stopped(const void *owner)
{
    (void)owner;
    return world.stopped;
}

static void world_close(void)
{
    run_until(has_stopped, NULL);
    uv_close((uv_handle_t *)&world.tick, NULL);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world.loop), 0);
    folder_remove(&world.folder, "");
}

/* Nothing may be left: neither bytes nor blobs. */
static void world_stop(void)
{
    blob_store_stop(&world.store, on_stopped);
    world_close();
    assert_int_equal(world.store.blobs, 0);
    assert_int_equal(world.store.bytes_used, 0);
}

static void fill(uint8_t *bytes, size_t n, uint8_t seed)
{
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(seed + i + i / 251);
    }
}

static struct file_identity identity_at(const char *name)
{
    struct stat stat;
    struct file_identity identity;
    assert_int_equal(lstat(in_folder(&world.folder, name).text, &stat), 0);
    file_identity_from(&stat, &identity);
    return identity;
}

/* Writes a file and makes the image that a scan of it would: any bytes do, the store compares digests alone. */
static struct image *image_add(struct catalog *catalog, const char *path, size_t n, uint8_t seed)
{
    struct filename name;
    struct filename_refusal refusal;
    struct image_facts facts = { .file_bytes = n };
    uint8_t *bytes = malloc(n);
    assert_non_null(bytes);
    fill(bytes, n, seed);
    folder_write(&world.folder, path, bytes, n);
    assert_int_equal(EVP_Digest(bytes, n, facts.sha256, NULL, EVP_sha256(), NULL), 1);
    free(bytes);
    assert_int_equal(filename_parse(slice_of(path), &name, &refusal), FILENAME_OK);
    struct file_identity identity = identity_at(path);
    return catalog_add(catalog, path, &name, &facts, &identity);
}

/* Files d/0.bin, d/1.bin … of n bytes each; images[i] is theirs. */
static struct catalog *catalog_make(struct image **images, size_t count, size_t n)
{
    struct catalog *catalog = catalog_new();
    for (size_t i = 0; i < count; i++) {
        char path[32];
        snprintf(path, sizeof path, "d/%zu.bin", i);
        images[i] = image_add(catalog, path, n, (uint8_t)i);
    }
    catalog_seal(catalog);
    catalog_adopt(catalog);
    return catalog;
}

/* One asker, and what it was told. */
struct asker {
    struct blob_wait wait; /* first: on_ready casts */
    unsigned answers;
    unsigned turn; /* which answer of the test it was */
    enum status status;
    struct blob *blob;
    struct asker *cancels;    /* is taken back by this one's answer */
    struct image *asks_again; /* is asked for from within the answer, by `again` */
    struct asker *again;
    const char *renames; /* first renamed to d */
};

static unsigned turns;

static void on_ready(struct blob_wait *wait, enum status status, struct blob *blob)
{
    struct asker *asker = (struct asker *)wait;
    asker->answers++;
    asker->turn = ++turns;
    asker->status = status;
    asker->blob = blob;
    assert_int_equal(status == STATUS_OK, blob != NULL);
    if (asker->cancels != NULL) {
        blob_cancel(&asker->cancels->wait);
    }
    if (asker->renames != NULL) {
        folder_rename(&world.folder, asker->renames, "d");
    }
    if (asker->asks_again != NULL) {
        asker->again->wait.ready = on_ready;
        blob_get(&world.store, asker->asks_again, &asker->again->wait);
    }
}

static void ask(struct asker *asker, struct image *image)
{
    asker->wait.ready = on_ready;
    blob_get(&world.store, image, &asker->wait);
}

static bool is_answered(const void *owner)
{
    return ((const struct asker *)owner)->answers > 0;
}

static enum status ask_and_wait(struct asker *asker, struct image *image)
{
    ask(asker, image);
    run_until(is_answered, asker);
    assert_int_equal(asker->answers, 1);
    return asker->status;
}

/* Loads an image and returns its blob, held. */
static struct blob *load(struct image *image)
{
    struct asker asker = { .answers = 0 };
    assert_int_equal(ask_and_wait(&asker, image), STATUS_OK);
    return asker.blob;
}

static bool is_unloaded(const void *owner)
{
    return ((const struct image *)owner)->blob == NULL;
}

static bool is_loaded(const void *owner)
{
    const struct image *image = owner;
    return image->blob != NULL && !image->blob->loading;
}

static void check_bytes(const struct blob *blob, size_t n, uint8_t seed)
{
    uint8_t *expected = malloc(n), *sent = malloc(n);
    assert_true(expected != NULL && sent != NULL);
    fill(expected, n, seed);
    assert_int_equal(blob->size, n);
    assert_memory_equal(blob->bytes, expected, n);
    assert_int_equal(pread(blob->fd, sent, n, 0), n);
    assert_memory_equal(sent, expected, n);
    free(expected);
    free(sent);
}

/* --- loading and sharing ----------------------------------------------------------------------------------------- */

/* More than one piece of the copy, and no whole number of them. */
static void test_load(void **state)
{
    (void)state;
    world_start(NEVER_MS, PLENTY);
    struct image *image;
    struct catalog *catalog = catalog_make(&image, 1, 700001);
    struct blob *blob = load(image);
    check_bytes(blob, 700001, 0);
    assert_ptr_equal(image->blob, blob);
    blob_release(blob);
    world_stop();
    catalog_unref(catalog);
}

/* A thousand downloads of one image take its bytes once; who comes later does not wait. */
static void test_share(void **state)
{
    (void)state;
    world_start(NEVER_MS, PLENTY);
    struct image *image;
    struct catalog *catalog = catalog_make(&image, 1, 5000);
    struct blob *blob = load(image);
    struct asker second = { .answers = 0 };
    ask(&second, image);
    assert_int_equal(second.answers, 1);
    assert_ptr_equal(second.blob, blob);
    blob_release(blob);
    check_bytes(second.blob, 5000, 0);
    assert_int_equal(world.store.bytes_used, 5000);
    blob_release(second.blob);
    struct asker third = { .answers = 0 }; /* from idle */
    ask(&third, image);
    assert_ptr_equal(third.blob, blob);
    blob_release(third.blob);
    world_stop();
    catalog_unref(catalog);
}

/* Those who ask while it loads are answered first come, first served, each holding for itself. */
static void test_waiting_in_order(void **state)
{
    (void)state;
    world_start(NEVER_MS, PLENTY);
    struct image *image;
    struct catalog *catalog = catalog_make(&image, 1, 5000);
    struct asker askers[4] = { { .answers = 0 } };
    turns = 0;
    for (size_t i = 0; i < COUNT_OF(askers); i++) {
        ask(&askers[i], image);
    }
    run_until(is_answered, &askers[3]);
    for (unsigned i = 0; i < COUNT_OF(askers); i++) {
        assert_int_equal(askers[i].answers, 1);
        assert_int_equal(askers[i].turn, i + 1);
        assert_ptr_equal(askers[i].blob, askers[0].blob);
    }
    assert_int_equal(world.store.bytes_used, 5000);
    for (size_t i = 0; i < COUNT_OF(askers); i++) {
        check_bytes(askers[i].blob, 5000, 0);
        blob_release(askers[i].blob);
    }
    world_stop();
    catalog_unref(catalog);
}

/* A connection that breaks while its image loads is freed: an answer to it would write into freed memory. */
static void test_cancel(void **state)
{
    (void)state;
    for (unsigned mask = 1; mask < 8; mask++) {
        world_start(NEVER_MS, PLENTY);
        struct image *image;
        struct catalog *catalog = catalog_make(&image, 1, 5000);
        struct asker askers[3] = { { .answers = 0 } };
        for (unsigned i = 0; i < 3; i++) {
            ask(&askers[i], image);
        }
        for (unsigned i = 0; i < 3; i++) {
            if (mask & 1u << i) {
                blob_cancel(&askers[i].wait);
            }
        }
        run_until(is_loaded, image);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(askers[i].answers, !(mask & 1u << i));
            if (askers[i].answers > 0) {
                blob_release(askers[i].blob);
            }
        }
        world_stop();
        catalog_unref(catalog);
    }
}

/* After its answer a wait is nobody's: taking it back then must be harmless. */
static void test_cancel_after_answer(void **state)
{
    (void)state;
    world_start(NEVER_MS, PLENTY);
    struct image *image;
    struct catalog *catalog = catalog_make(&image, 1, 5000);
    struct asker asker = { .answers = 0 };
    ask_and_wait(&asker, image);
    blob_cancel(&asker.wait);
    check_bytes(asker.blob, 5000, 0);
    blob_release(asker.blob);
    world_stop();
    catalog_unref(catalog);
}

/* The answer to one connection may close others, as a limit on connections would. */
static void test_cancel_from_an_answer(void **state)
{
    (void)state;
    for (int gone = 0; gone < 2; gone++) {
        world_start(NEVER_MS, PLENTY);
        struct image *image;
        struct catalog *catalog = catalog_make(&image, 1, 5000);
        struct asker askers[3] = { { .answers = 0 } };
        askers[0].cancels = &askers[1];
        if (gone) {
            folder_remove(&world.folder, "d/0.bin");
        }
        for (unsigned i = 0; i < 3; i++) {
            ask(&askers[i], image);
        }
        run_until(is_answered, &askers[2]);
        assert_int_equal(askers[1].answers, 0);
        for (unsigned i = 0; i < 3 && !gone; i += 2) {
            blob_release(askers[i].blob);
        }
        world_stop();
        catalog_unref(catalog);
    }
}

/* The catalog that knew the image may be gone before its bytes are there. */
static void test_catalog_goes_while_loading(void **state)
{
    (void)state;
    world_start(NEVER_MS, PLENTY);
    struct image *image;
    struct catalog *catalog = catalog_make(&image, 1, 5000);
    struct asker asker = { .answers = 0 };
    ask(&asker, image);
    catalog_unref(catalog);
    run_until(is_answered, &asker);
    check_bytes(asker.blob, 5000, 0);
    blob_release(asker.blob);
    world_stop();
}

/* --- what the catalog says is what is served --------------------------------------------------------------------- */

/* Every way in which a file can be another one than was checked. */
enum change { APPENDED, CUT, REWRITTEN, REPLACED, MTIME_RESTORED, IDENTITY_FORGED };

static void change_file(enum change change, struct image *image)
{
    struct file_path path = in_folder(&world.folder, "d/0.bin");
    struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
                                 { .tv_sec = (time_t)(image->identity.mtime_ns / 1000000000),
                                   .tv_nsec = image->identity.mtime_ns % 1000000000 } };
    static const size_t sizes[] = { [APPENDED] = 5001, [CUT] = 4999 };
    size_t n = change <= CUT ? sizes[change] : 5000;
    uint8_t bytes[5001];
    fill(bytes, n, change <= CUT || change == REPLACED ? 0 : 9);
    folder_write(&world.folder, change == REPLACED ? "new" : "d/0.bin", bytes, n);
    if (change == REPLACED) {
        folder_rename(&world.folder, "new", "d/0.bin");
    }
    if (change == MTIME_RESTORED) {
        assert_int_equal(utimensat(AT_FDCWD, path.text, times, 0), 0);
        image->identity.mtime_ns = identity_at("d/0.bin").mtime_ns; /* its last digits may be rounded */
    }
    if (change == IDENTITY_FORGED) {
        image->identity = identity_at("d/0.bin"); /* as if the clock had not ticked: then the MD5 is what tells */
    }
}

static void test_changed(void **state)
{
    (void)state;
    for (enum change change = APPENDED; change <= IDENTITY_FORGED; change++) {
        world_start(NEVER_MS, PLENTY);
        struct image *image;
        struct catalog *catalog = catalog_make(&image, 1, 5000);
        struct timespec a_tick = { .tv_nsec = 20000000 }; /* so that the ctime moves */
        nanosleep(&a_tick, NULL);
        change_file(change, image);
        struct asker asker = { .answers = 0 };
        if (ask_and_wait(&asker, image) != STATUS_CHANGED) {
            fail_msg("change %d: %s", (int)change, status_name(asker.status));
        }
        assert_null(image->blob);
        assert_int_equal(world.store.bytes_used, 0);
        world_stop();
        catalog_unref(catalog);
    }
}

static void test_vanished(void **state)
{
    (void)state;
    world_start(NEVER_MS, PLENTY);
    struct image *image;
    struct catalog *catalog = catalog_make(&image, 1, 5000);
    folder_remove(&world.folder, "d/0.bin");
    struct asker asker = { .answers = 0 };
    assert_int_equal(ask_and_wait(&asker, image), STATUS_NOT_FOUND);
    world_stop();
    catalog_unref(catalog);
}

/* Something that would block for ever to be opened or read must not cost a worker thread. */
static void test_fifo_in_its_place(void **state)
{
    (void)state;
    world_start(NEVER_MS, PLENTY);
    struct image *image;
    struct catalog *catalog = catalog_make(&image, 1, 5000);
    folder_remove(&world.folder, "d/0.bin");
    assert_int_equal(mkfifo(in_folder(&world.folder, "d/0.bin").text, 0644), 0);
    struct asker asker = { .answers = 0 };
    assert_int_not_equal(ask_and_wait(&asker, image), STATUS_OK);
    world_stop();
    catalog_unref(catalog);
}

/* Once loaded, a blob is what it was, whatever becomes of the file or whoever gets hold of its descriptor. */
static void test_sealed(void **state)
{
    (void)state;
    world_start(NEVER_MS, PLENTY);
    struct image *image;
    struct catalog *catalog = catalog_make(&image, 1, 5000);
    struct blob *blob = load(image);
    assert_int_equal(pwrite(blob->fd, "x", 1, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(blob->fd, 10), -1);
    assert_int_equal(ftruncate(blob->fd, 9000), -1);
    assert_ptr_equal(mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, blob->fd, 0), MAP_FAILED);
    assert_int_equal(fcntl(blob->fd, F_ADD_SEALS, 0), -1); /* the seals themselves are sealed */
    assert_int_equal(truncate(in_folder(&world.folder, "d/0.bin").text, 0), 0);
    check_bytes(blob, 5000, 0);
    folder_remove(&world.folder, "d/0.bin");
    check_bytes(blob, 5000, 0);
    blob_release(blob);
    world_stop();
    catalog_unref(catalog);
}

/* A failure is not remembered: who asks anew, even from within the bad news, loads anew, and finds the room free. The
 * folder is renamed, not the file, since that would change the file. */
static void test_retry_from_the_answer(void **state)
{
    (void)state;
    world_start(NEVER_MS, 5000);
    struct image *image;
    struct catalog *catalog = catalog_make(&image, 1, 5000);
    struct asker again = { .answers = 0 };
    struct asker first = { .asks_again = image, .again = &again, .renames = "away" };
    struct asker second = { .answers = 0 };
    folder_rename(&world.folder, "d", "away");
    ask(&first, image);
    ask(&second, image);
    run_until(is_answered, &again);
    assert_int_equal(first.status, STATUS_NOT_FOUND);
    assert_int_equal(second.status, STATUS_NOT_FOUND);
    assert_int_equal(second.answers, 1);
    assert_int_equal(again.status, STATUS_OK);
    assert_ptr_equal(image->blob, again.blob);
    check_bytes(again.blob, 5000, 0);
    assert_int_equal(world.store.bytes_used, 5000);
    blob_release(again.blob);
    world_stop();
    catalog_unref(catalog);
}

/* Asking for the same image from within the good news must not wait for a load that is over. */
static void test_ask_again_from_the_answer(void **state)
{
    (void)state;
    world_start(NEVER_MS, PLENTY);
    struct image *image;
    struct catalog *catalog = catalog_make(&image, 1, 5000);
    struct asker again = { .answers = 0 };
    struct asker first = { .asks_again = image, .again = &again };
    assert_int_equal(ask_and_wait(&first, image), STATUS_OK);
    assert_ptr_equal(again.blob, first.blob);
    blob_release(first.blob);
    blob_release(again.blob);
    world_stop();
    catalog_unref(catalog);
}

/* --- letting go -------------------------------------------------------------------------------------------------- */

/* Memory comes back by itself after use, from every blob, and never from under a download. */
static void test_idle(void **state)
{
    (void)state;
    world_start(20, PLENTY);
    struct image *images[3];
    struct catalog *catalog = catalog_make(images, 3, 5000);
    struct blob *held = load(images[0]);
    blob_release(load(images[1]));
    blob_release(load(images[2]));
    run_until(is_unloaded, images[1]);
    run_until(is_unloaded, images[2]);
    check_bytes(held, 5000, 0);
    assert_int_equal(world.store.bytes_used, 5000);
    blob_release(held);
    run_until(is_unloaded, images[0]);
    assert_int_equal(world.store.bytes_used, 0);
    assert_int_equal(images[0]->refs, 1);
    blob_release(load(images[0])); /* and it can be loaded anew */
    world_stop();
    catalog_unref(catalog);
}

/* A reload of the configuration with a shorter time counts for what is idle already. */
static void test_idle_reconfigured(void **state)
{
    (void)state;
    world_start(NEVER_MS, PLENTY);
    struct image *image;
    struct catalog *catalog = catalog_make(&image, 1, 5000);
    blob_release(load(image));
    blob_store_configure(&world.store, 1, PLENTY);
    run_until(is_unloaded, image);
    world_stop();
    catalog_unref(catalog);
}

/* Room is made from what was idle longest. */
static void test_oldest_idle_gives_way(void **state)
{
    (void)state;
    for (size_t first = 0; first < 2; first++) {
        world_start(NEVER_MS, 10000);
        struct image *images[3];
        struct catalog *catalog = catalog_make(images, 3, 5000);
        struct blob *blobs[2] = { load(images[0]), load(images[1]) };
        blob_release(blobs[first]);
        blob_release(blobs[1 - first]);
        struct blob *third = load(images[2]);
        assert_null(images[first]->blob);
        assert_ptr_equal(images[1 - first]->blob, blobs[1 - first]);
        blob_release(third);
        world_stop();
        catalog_unref(catalog);
    }
}

/* What was idle and is held again has no longer the oldest claim to go: it may not go at all. */
static void test_held_again_stays(void **state)
{
    (void)state;
    world_start(NEVER_MS, 10000);
    struct image *images[3];
    struct catalog *catalog = catalog_make(images, 3, 5000);
    struct blob *first = load(images[0]);
    blob_release(first);
    blob_release(load(images[1]));
    assert_ptr_equal(load(images[0]), first);
    struct blob *third = load(images[2]);
    assert_null(images[1]->blob);
    check_bytes(first, 5000, 0);
    blob_release(first);
    blob_release(third);
    world_stop();
    catalog_unref(catalog);
}

/* Where all memory is in use, also by loads under way, the answer is "not now", at once, and the store is as before. */
static void test_bytes_max(void **state)
{
    (void)state;
    world_start(NEVER_MS, 10000);
    struct image *images[3];
    struct catalog *catalog = catalog_make(images, 3, 5000);
    struct blob *held = load(images[0]);
    struct asker loading = { .answers = 0 };
    struct asker refused = { .answers = 0 };
    ask(&loading, images[1]);
    ask(&refused, images[2]);
    assert_int_equal(refused.answers, 1);
    assert_int_equal(refused.status, STATUS_LIMIT);
    assert_null(images[2]->blob);
    run_until(is_answered, &loading);
    assert_int_equal(world.store.bytes_used, 10000);
    blob_release(held);
    blob_release(loading.blob);
    blob_release(load(images[2]));
    world_stop();
    catalog_unref(catalog);
}

/* --- stopping ---------------------------------------------------------------------------------------------------- */

/* A blob that is let go of after the stop began, or finishes loading then, still ends the stop. */
static void test_release_while_stopping(void **state)
{
    (void)state;
    world_start(NEVER_MS, PLENTY);
    struct image *images[3];
    struct catalog *catalog = catalog_make(images, 3, 5000);
    struct blob *held = load(images[0]);
    blob_release(load(images[1]));
    struct asker cancelled = { .answers = 0 };
    ask(&cancelled, images[2]);
    blob_cancel(&cancelled.wait);
    blob_store_stop(&world.store, on_stopped);
    assert_null(images[1]->blob);
    run_until(is_unloaded, images[2]);
    assert_false(world.stopped);
    check_bytes(held, 5000, 0);
    blob_release(held);
    world_close();
    assert_int_equal(cancelled.answers, 0);
    assert_int_equal(world.store.bytes_used, 0);
    catalog_unref(catalog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_waiting_in_order),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_after_answer),
        cmocka_unit_test(test_cancel_from_an_answer),
        cmocka_unit_test(test_catalog_goes_while_loading),
        cmocka_unit_test(test_changed),
        cmocka_unit_test(test_vanished),
        cmocka_unit_test(test_fifo_in_its_place),
        cmocka_unit_test(test_sealed),
        cmocka_unit_test(test_retry_from_the_answer),
        cmocka_unit_test(test_ask_again_from_the_answer),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_idle_reconfigured),
        cmocka_unit_test(test_oldest_idle_gives_way),
        cmocka_unit_test(test_held_again_stays),
        cmocka_unit_test(test_bytes_max),
        cmocka_unit_test(test_release_while_stopping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
