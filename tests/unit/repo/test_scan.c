/* Scans of a real folder. What makes it hard: whether a file is whole depends on the clock and on what others do while
 * it is read. So the program has a clock of its own, which a test turns, and a read() before which a test may act; both
 * take the place of the C library's for the code under test. */
#undef _FORTIFY_SOURCE /* it makes read() an inline function, which cannot be replaced */
#include "repo/scan.h"
#include "tests/unit/repo/repo_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

#include <cmocka.h>

#define SETTLE_MS 60000 /* longer than any test: what was just written is never settled by accident */

/* --- the clock and the reader --------------------------------------------------------------------------------------
 */

static int64_t wall_shift_ms, monotonic_shift_ms;

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (syscall(SYS_clock_gettime, clock, now) != 0) {
        return -1;
    }
    int64_t shift_ms = clock == CLOCK_REALTIME ? wall_shift_ms : clock == CLOCK_MONOTONIC ? monotonic_shift_ms : 0;
    now->tv_sec += (time_t)(shift_ms / 1000);
    return 0;
}

static void (*before_read)(void); /* called once */

ssize_t read(int file, void *bytes, size_t n)
{
    void (*act)(void) = before_read;
    before_read = NULL;
    if (act != NULL) {
        act();
    }
    return syscall(SYS_read, file, bytes, n);
}

/* --- fixture ----------------------------------------------------------------------------------------------------- */

static struct folder folder;
static struct digest_cache *cache;

/* Every file that a test writes has settled, and nobody's patience is at an end. */
static int set_up(void **state)
{
    (void)state;
    folder_make(&folder);
    cache = digest_cache_new();
    wall_shift_ms = 10000;
    monotonic_shift_ms = 0;
    return cache == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    digest_cache_free(cache);
    folder_remove(&folder, "");
    return 0;
}

/* The scan's result; its catalog is adopted and the caller's. */
static struct catalog *scan_after(uint64_t settle_ms, const struct catalog *previous, struct scan_result *result)
{
    struct scan_input input = { .root = folder.path, .previous = previous, .cache = cache, .settle_ms = settle_ms };
    assert_int_equal(scan_run(&input, result), STATUS_OK);
    catalog_adopt(result->catalog);
    scan_result_close(result);
    return result->catalog;
}

static struct catalog *scan(const struct catalog *previous, struct scan_result *result)
{
    return scan_after(400, previous, result);
}

static const struct image *find(const struct catalog *catalog, const char *path)
{
    return catalog_find_path(catalog, slice_of(path));
}

static void check_served(const struct catalog *catalog, const char *path)
{
    const struct rejection *rejection = catalog_find_rejection(catalog, slice_of(path));
    if (find(catalog, path) == NULL) {
        fail_msg("%s: %s", path, rejection != NULL ? rejection->verdict.detail : "neither served nor rejected");
    }
}

static void check_rejected(const struct catalog *catalog, const char *path, enum image_fault fault)
{
    const struct rejection *rejection = catalog_find_rejection(catalog, slice_of(path));
    if (rejection == NULL || rejection->verdict.fault != fault) {
        fail_msg("%s: %s", path, rejection != NULL ? image_fault_word(rejection->verdict.fault) : "not rejected");
    }
    assert_null(find(catalog, path));
    assert_true(rejection->verdict.detail[0] != '\0' && rejection->verdict.remedy[0] != '\0');
}

static void check_counts(const struct catalog *catalog, size_t images, size_t rejections)
{
    assert_int_equal(catalog_image_count(catalog), images);
    assert_int_equal(catalog_rejection_count(catalog), rejections);
}

/* Why a sketch of the type cannot be had. */
static void check_why(const struct catalog *catalog, const char *type, enum reason reason)
{
    struct catalog_query query = { .type = slice_of(type) };
    struct offer offer;
    enum reason missing = REASON_COUNT;
    catalog_offer(catalog, &query, &offer, &missing);
    assert_int_equal(missing, reason);
}

static void put_sketch(const char *name, uint32_t seed)
{
    folder_put(&folder, name, &(struct image_make){ .seed = seed });
}

/* --- names and bytes --------------------------------------------------------------------------------------------- */

/* Every convention, in any folder it may stand in, becomes an image with the type and role that its name promises. */
static void test_conventions(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        struct image_make wish;
        enum filename_role role;
        const char *type;
    } rows[] = {
        { "truc_0_4_99.ino.d1_mini.bin", { .seed = 1 }, FILENAME_SKETCH, "d1_mini" },
        { "a/b/truc_0.5.ino.d1_mini.bin.gz", { .gzip = true }, FILENAME_SKETCH, "d1_mini" },
        { "esp32/1.0.bin", { .kind = IMAGE_MAKE_ESP32 }, FILENAME_SKETCH, "esp32" },
        { "tasmota/13.4.0.bin", { .kind = IMAGE_MAKE_TASMOTA }, FILENAME_SKETCH, "tasmota" },
        { "spiffs_1.0_4M.bin", { .kind = IMAGE_MAKE_SPIFFS }, FILENAME_SHARED_FS, "" },
        { "littlefs_1.0_1M.bin.gz", { .kind = IMAGE_MAKE_LITTLEFS, .gzip = true }, FILENAME_SHARED_FS, "" },
        { "d1_mini/1.0.fs.bin", { .kind = IMAGE_MAKE_LITTLEFS }, FILENAME_FS, "d1_mini" },
        { "sdk/1.0.user1.bin", { .kind = IMAGE_MAKE_USER1 }, FILENAME_USER1, "sdk" },
        { "sdk/1.0.user2.bin", { .kind = IMAGE_MAKE_USER2 }, FILENAME_USER2, "sdk" },
        { "DOOR-7-g14f53a19.bin", { .seed = 2 }, FILENAME_LABEL, "" },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        folder_put(&folder, rows[i].path, &rows[i].wish);
    }
    struct scan_result result;
    struct catalog *catalog = scan(NULL, &result);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        check_served(catalog, rows[i].path);
        const struct image *image = find(catalog, rows[i].path);
        assert_int_equal(image->role, rows[i].role);
        assert_string_equal(image->type, rows[i].type);
        assert_int_equal(image->build.facts.gzip, rows[i].wish.gzip);
        assert_int_equal(image->build.facts.file_bytes, image->identity.size);
    }
    check_counts(catalog, COUNT_OF(rows), 0);
    assert_int_equal(result.files, COUNT_OF(rows));
    assert_int_equal(result.read, COUNT_OF(rows));
    assert_int_equal(result.unsettled_ms, 0);
    catalog_unref(catalog);
}

/* What is none of ours is not even opened: a half-made upload, an editor's copy, a note. */
static void test_ignored(void **state)
{
    (void)state;
    static const char *const names[] = { "README.md",       ".truc_1_0.ino.d1.bin.x7Zq",
                                         "d1/1.0.bin.part", ".git/objects/1.0.bin",
                                         "d1/.1.1.bin",     "d1/1.2.bin~" };
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        put_sketch(names[i], 0);
    }
    struct scan_result result;
    struct catalog *catalog = scan(NULL, &result);
    check_counts(catalog, 0, 0);
    assert_int_equal(result.files + result.read, 0);
    catalog_unref(catalog);
}

/* Meant as firmware and not served: each says why, and the good file beside it is served all the same. */
static void test_rejected(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        struct image_make wish;
        enum image_fault fault;
    } rows[] = {
        { "truc.ino.d1.bin", { .seed = 1 }, IMAGE_FAULT_NAME },
        { "d1/1.1.bin", { .broken = IMAGE_MAKE_BREAK_DIGEST }, IMAGE_FAULT_CHECKSUM },
        { "d1/1.2.bin", { .kind = IMAGE_MAKE_HTML }, IMAGE_FAULT_HTML },
        { "d1/1.3.bin", { .kind = IMAGE_MAKE_LITTLEFS }, IMAGE_FAULT_WRONG_USE },
        { "d1/1.4.bin", { .gzip = true }, IMAGE_FAULT_WRONG_USE },
        { "d1/1.5.bin.gz", { .gzip = false }, IMAGE_FAULT_WRONG_USE },
        { "d1/1.6.fs.bin", { .seed = 6 }, IMAGE_FAULT_WRONG_USE },
        { "d1/1.7.user1.bin", { .seed = 7 }, IMAGE_FAULT_WRONG_USE },
        { "d1/1.8.bin", { .kind = IMAGE_MAKE_FACTORY }, IMAGE_FAULT_FACTORY },
        { "littlefs_1.0_4M.bin", { .seed = 8 }, IMAGE_FAULT_WRONG_USE },
        { "LABEL.bin", { .kind = IMAGE_MAKE_SPIFFS }, IMAGE_FAULT_WRONG_USE },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        folder_put(&folder, rows[i].path, &rows[i].wish);
    }
    folder_write(&folder, "d1/1.9.bin", "", 0);
    put_sketch("d1/1.0.bin", 0);
    struct scan_result result;
    struct catalog *catalog = scan(NULL, &result);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        check_rejected(catalog, rows[i].path, rows[i].fault);
    }
    check_rejected(catalog, "d1/1.9.bin", IMAGE_FAULT_EMPTY);
    check_served(catalog, "d1/1.0.bin");
    check_counts(catalog, 1, COUNT_OF(rows) + 1);
    assert_int_equal(result.unsettled_ms, 0);
    catalog_unref(catalog);
}

/* Bytes that no image can have are not read into memory. */
static void test_oversized(void **state)
{
    (void)state;
    folder_write(&folder, "d1/1.0.bin", "\xe9", 1);
    assert_int_equal(truncate(in_folder(&folder, "d1/1.0.bin").text, 33 << 20), 0);
    struct scan_result result;
    struct catalog *catalog = scan(NULL, &result);
    check_rejected(catalog, "d1/1.0.bin", IMAGE_FAULT_TOO_LARGE);
    assert_int_equal(result.read, 0);
    catalog_unref(catalog);
}

/* --- links and what is no file ----------------------------------------------------------------------------------- */

/* A library elsewhere, linked in; one build under two types; a link to nothing yet. */
static void test_links(void **state)
{
    (void)state;
    put_sketch(".store/some.image", 1);
    put_sketch("d1/1.0.bin", 2);
    folder_link(&folder, "../.store/some.image", "d2/1.0.bin");
    folder_link(&folder, "d1", "d3");
    folder_link(&folder, "nowhere", "d1/1.1.bin");
    folder_link(&folder, "nowhere", "d4");
    struct scan_result result;
    struct catalog *catalog = scan(NULL, &result);
    check_served(catalog, "d2/1.0.bin");
    check_served(catalog, "d3/1.0.bin");
    check_counts(catalog, 3, 0);
    catalog_unref(catalog);
}

/* A link back to a folder above must neither hang the scan nor offer every file again under names of its own, of
 * which `loop/LABEL.bin` would even be another image. Two of them double at each step. */
static void test_loops_of_folders(void **state)
{
    (void)state;
    static const char *const loops[] = { "loop", "other", "d1/up", "d1/self", "third", "fourth" };
    put_sketch("d1/1.0.bin", 0);
    put_sketch("LABEL.bin", 1);
    put_sketch("truc_1_0.ino.d2.bin", 2);
    for (size_t i = 0; i < COUNT_OF(loops); i++) {
        folder_link(&folder, strchr(loops[i], '/') != NULL ? ".." : ".", loops[i]);
    }
    folder_link(&folder, "self.bin", "self.bin");
    struct scan_result result;
    struct catalog *catalog = scan(NULL, &result);
    check_rejected(catalog, "self.bin", IMAGE_FAULT_UNREADABLE);
    check_counts(catalog, 3, 1);
    assert_int_equal(catalog_type_count(catalog), 2);
    catalog_unref(catalog);
}

/* Opening a fifo for reading waits for a writer: the only scan there is would hang for ever. */
static void test_no_files(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(in_folder(&folder, "fifo.bin").text, 0644), 0);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket.bin", folder.path);
    int socket_ = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(socket_, (struct sockaddr *)&address, sizeof address), 0);
    put_sketch("folder.bin/1.0.bin", 0); /* a folder whose name ends so is a type */
    struct scan_result result;
    struct catalog *catalog = scan(NULL, &result);
    close(socket_);
    check_rejected(catalog, "fifo.bin", IMAGE_FAULT_UNREADABLE);
    check_rejected(catalog, "socket.bin", IMAGE_FAULT_UNREADABLE);
    check_served(catalog, "folder.bin/1.0.bin");
    catalog_unref(catalog);
}

/* Copied with the wrong rights: said, looked at again, and no reason to keep the rest from the devices, nor to count as
 * a file that is being written, for which a start waits. */
static void test_unreadable(void **state)
{
    (void)state;
    put_sketch("d1/1.0.bin", 0);
    put_sketch("d1/1.1.bin", 1);
    put_sketch("d2/1.0.bin", 2);
    assert_int_equal(chmod(in_folder(&folder, "d1/1.1.bin").text, 0), 0);
    assert_int_equal(chmod(in_folder(&folder, "d2").text, 0), 0);
    bool is_root = geteuid() == 0;
    assert_int_equal(is_root ? seteuid(65534) : 0, 0);
    struct scan_result result;
    struct catalog *catalog = scan_after(0, NULL, &result);
    assert_int_equal(is_root ? seteuid(0) : 0, 0);
    assert_int_equal(chmod(in_folder(&folder, "d2").text, 0755), 0);
    check_rejected(catalog, "d1/1.1.bin", IMAGE_FAULT_UNREADABLE);
    check_rejected(catalog, "d2", IMAGE_FAULT_UNREADABLE);
    check_served(catalog, "d1/1.0.bin");
    assert_true(result.unsettled_ms >= 1000); /* with no time to settle at all, this is no reason to spin */
    assert_int_equal(result.unsettled, 0);
    catalog_unref(catalog);
}

/* --- is it whole? ------------------------------------------------------------------------------------------------ */

/* A file that was just written is not read, its type is known as coming, and it is served once it has settled. */
static void test_settling(void **state)
{
    (void)state;
    wall_shift_ms = 0;
    put_sketch("d1/1.0.bin", 0);
    struct scan_result result;
    struct catalog *first = scan_after(SETTLE_MS, NULL, &result);
    check_counts(first, 0, 0);
    check_why(first, "d1", REASON_NOT_YET);
    assert_true(result.unsettled_ms > 0 && result.unsettled_ms <= SETTLE_MS);
    assert_int_equal(result.unsettled, 1);
    assert_int_equal(result.read, 0);
    wall_shift_ms = SETTLE_MS + 1000;
    struct catalog *second = scan_after(SETTLE_MS, first, &result);
    check_served(second, "d1/1.0.bin");
    assert_int_equal(result.unsettled_ms, 0);
    catalog_unref(first);
    catalog_unref(second);
}

/* Of several that are not whole the one that will be first decides when to look again. */
static void test_soonest_settles_first(void **state)
{
    (void)state;
    wall_shift_ms = 0;
    put_sketch("d1/1.0.bin", 0);
    struct scan_result result;
    struct catalog *first = scan_after(SETTLE_MS, NULL, &result);
    monotonic_shift_ms = 50000;
    put_sketch("d1/1.1.bin", 1);
    struct catalog *second = scan_after(SETTLE_MS, first, &result);
    assert_int_equal(result.unsettled, 2);
    assert_true(result.unsettled_ms <= SETTLE_MS - 50000);
    catalog_unref(first);
    catalog_unref(second);
}

/* The repository lies on a machine whose clock is ahead: only looking twice can tell that a file is still. */
static void test_file_from_the_future(void **state)
{
    (void)state;
    wall_shift_ms = -3600000;
    put_sketch("d1/1.0.bin", 0);
    struct scan_result result;
    struct catalog *first = scan_after(SETTLE_MS, NULL, &result);
    check_why(first, "d1", REASON_NOT_YET);
    assert_int_equal(result.unsettled_ms, SETTLE_MS);

    monotonic_shift_ms = SETTLE_MS / 2; /* half the time has passed, and then it grows */
    struct catalog *second = scan_after(SETTLE_MS, first, &result);
    check_why(second, "d1", REASON_NOT_YET);
    assert_true(result.unsettled_ms <= SETTLE_MS / 2);
    folder_put(&folder, "d1/1.0.bin", &(struct image_make){ .bytes = 8192 });
    monotonic_shift_ms = SETTLE_MS + 1000;
    struct catalog *third = scan_after(SETTLE_MS, second, &result);
    check_why(third, "d1", REASON_NOT_YET);

    monotonic_shift_ms = 2 * (SETTLE_MS + 1000);
    struct catalog *fourth = scan_after(SETTLE_MS, third, &result);
    check_served(fourth, "d1/1.0.bin");
    catalog_unref(first);
    catalog_unref(second);
    catalog_unref(third);
    catalog_unref(fourth);
}

/* Whether this file system refuses a read lease to a file that is open for writing. */
static bool leases_are_kept(const char *name)
{
    int file = open(in_folder(&folder, name).text, O_RDONLY | O_CLOEXEC);
    assert_true(file >= 0);
    bool kept = fcntl(file, F_SETLEASE, F_RDLCK) != 0 && errno == EAGAIN;
    (void)fcntl(file, F_SETLEASE, F_UNLCK);
    close(file);
    return kept;
}

/* An upload that stalls looks settled; that somebody has it open for writing gives it away. A program that merely
 * forgot to close its file must not keep it from the devices for ever. */
static void test_writer(void **state)
{
    (void)state;
    put_sketch("d1/1.0.bin", 0);
    int writer = open(in_folder(&folder, "d1/1.0.bin").text, O_WRONLY | O_CLOEXEC);
    assert_true(writer >= 0);
    if (!leases_are_kept("d1/1.0.bin")) {
        close(writer);
        skip();
    }
    struct scan_result result;
    struct catalog *open_ = scan(NULL, &result);
    check_why(open_, "d1", REASON_NOT_YET);
    assert_int_equal(result.read, 0);
    assert_int_equal(result.unsettled_ms, 400);
    wall_shift_ms = 40000;
    struct catalog *patient = scan(open_, &result);
    check_served(patient, "d1/1.0.bin");
    catalog_unref(patient);

    digest_cache_free(cache); /* it knows the file by now */
    cache = digest_cache_new();
    wall_shift_ms = 10000;
    close(writer);
    struct catalog *closed = scan(open_, &result);
    check_served(closed, "d1/1.0.bin");
    catalog_unref(open_);
    catalog_unref(closed);
}

/* The scan's own look at a file must not stop the program that opens it for writing at that moment. */
static void test_lease_is_given_back(void **state)
{
    (void)state;
    put_sketch("d1/1.0.bin", 0);
    struct scan_result result;
    struct catalog *catalog = scan(NULL, &result);
    int writer = open(in_folder(&folder, "d1/1.0.bin").text, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(writer >= 0);
    close(writer);
    catalog_unref(catalog);
}

static void rewrite_with_other_bytes(void)
{
    put_sketch("d1/1.0.bin", 7);
}

static void cut_in_half(void)
{
    struct stat stat;
    assert_int_equal(lstat(in_folder(&folder, "d1/1.0.bin").text, &stat), 0);
    assert_int_equal(truncate(in_folder(&folder, "d1/1.0.bin").text, stat.st_size / 2), 0);
}

static void remove_it(void)
{
    folder_remove(&folder, "d1/1.0.bin");
}

/* What was read while it changed proves nothing: neither served nor rejected, looked at again, and not remembered. */
static void test_changed_while_read(void **state)
{
    (void)state;
    static void (*const changes[])(void) = { rewrite_with_other_bytes, cut_in_half, remove_it };
    for (uint64_t settle_ms = 0; settle_ms <= 400; settle_ms += 400) {
        for (size_t i = 0; i < COUNT_OF(changes); i++) {
            put_sketch("d1/1.0.bin", (uint32_t)i);
            struct timespec a_tick = { .tv_nsec = 20000000 }; /* so that the ctime moves */
            nanosleep(&a_tick, NULL);
            before_read = changes[i];
            struct scan_result result;
            struct catalog *catalog = scan_after(settle_ms, NULL, &result);
            check_counts(catalog, 0, 0);
            check_why(catalog, "d1", REASON_NOT_YET);
            assert_int_equal(result.unsettled, 1);
            assert_true(result.unsettled_ms >= 100);
            assert_int_equal(digest_cache_count(cache), 0);
            put_sketch("d1/1.0.bin", 1);
            struct catalog *again = scan_after(settle_ms, catalog, &result);
            check_served(again, "d1/1.0.bin");
            catalog_unref(catalog);
            catalog_unref(again);
            folder_remove(&folder, "d1/1.0.bin");
            struct catalog *empty = scan_after(settle_ms, NULL, &result);
            catalog_unref(empty);
        }
    }
}

/* --- what is known already --------------------------------------------------------------------------------------- */

/* A rescan reads nothing that it knows, served or rejected; a restart neither; what changed is read. */
static void test_known(void **state)
{
    (void)state;
    put_sketch("d1/1.0.bin", 0);
    put_sketch("d1/1.1.bin", 1);
    folder_put(&folder, "d1/1.2.bin", &(struct image_make){ .kind = IMAGE_MAKE_HTML });
    struct scan_result result;
    struct catalog *first = scan(NULL, &result);
    assert_int_equal(result.read, 3);

    struct catalog *second = scan(first, &result);
    assert_int_equal(result.read, 0);
    check_counts(second, 2, 1);
    assert_ptr_equal(find(second, "d1/1.0.bin"), find(first, "d1/1.0.bin"));

    struct catalog *restarted = scan(NULL, &result);
    assert_int_equal(result.read, 0);
    check_counts(restarted, 2, 1);
    check_rejected(restarted, "d1/1.2.bin", IMAGE_FAULT_HTML);
    assert_memory_equal(&find(restarted, "d1/1.0.bin")->build.facts, &find(first, "d1/1.0.bin")->build.facts,
                        sizeof(struct image_facts));

    folder_drop(&folder, "d1/1.1.bin", &(struct image_make){ .seed = 9 });
    struct catalog *changed = scan(second, &result);
    assert_int_equal(result.read, 1);
    assert_ptr_equal(find(changed, "d1/1.0.bin"), find(first, "d1/1.0.bin"));
    assert_memory_not_equal(find(changed, "d1/1.1.bin")->build.facts.md5, find(first, "d1/1.1.bin")->build.facts.md5,
                            16);
    catalog_unref(first);
    catalog_unref(second);
    catalog_unref(restarted);
    catalog_unref(changed);
}

/* Without a cache that remembers it, the catalog before is enough; and a file that is gone is forgotten by both. */
static void test_removed(void **state)
{
    (void)state;
    put_sketch("d1/1.0.bin", 0);
    put_sketch("d1/1.1.bin", 1);
    struct scan_result result;
    struct catalog *first = scan(NULL, &result);
    digest_cache_free(cache);
    cache = digest_cache_new();
    struct catalog *second = scan(first, &result);
    assert_int_equal(result.read, 0);
    catalog_unref(first);
    catalog_unref(second);

    struct catalog *third = scan(NULL, &result);
    assert_int_equal(digest_cache_count(cache), 2);
    folder_remove(&folder, "d1/1.1.bin");
    struct catalog *fourth = scan(third, &result);
    check_counts(fourth, 1, 0);
    assert_int_equal(digest_cache_count(cache), 1);
    catalog_unref(third);
    catalog_unref(fourth);
}

/* Renamed into another role, the same bytes are checked for that role: what was found for a sketch says nothing. */
static void test_renamed(void **state)
{
    (void)state;
    put_sketch("d1/1.0.bin", 0);
    struct scan_result result;
    struct catalog *first = scan(NULL, &result);
    folder_rename(&folder, "d1/1.0.bin", "d1/1.0.fs.bin");
    struct catalog *second = scan(first, &result);
    check_rejected(second, "d1/1.0.fs.bin", IMAGE_FAULT_WRONG_USE);
    check_counts(second, 0, 1);
    catalog_unref(first);
    catalog_unref(second);
}

/* Two files with one claim: the same one is served in every scan, and the other becomes it when that one goes. */
static void test_duplicates_over_scans(void **state)
{
    (void)state;
    put_sketch("d1/1.0.bin", 0);
    struct scan_result result;
    struct catalog *first = scan(NULL, &result);
    put_sketch("a_1_0.ino.d1.bin", 1);
    struct catalog *second = scan(first, &result);
    struct catalog *third = scan(second, &result);
    check_served(second, "a_1_0.ino.d1.bin");
    check_rejected(third, "d1/1.0.bin", IMAGE_FAULT_DUPLICATE);
    assert_int_equal(result.read, 0);
    folder_remove(&folder, "a_1_0.ino.d1.bin");
    struct catalog *fourth = scan(third, &result);
    check_served(fourth, "d1/1.0.bin");
    check_counts(fourth, 1, 0);
    catalog_unref(first);
    catalog_unref(second);
    catalog_unref(third);
    catalog_unref(fourth);
}

/* --- limits and failures ----------------------------------------------------------------------------------------- */

static void test_depth_max(void **state)
{
    (void)state;
    put_sketch("1/2/3/4/5/6/7/8/truc_1_0.ino.d1.bin", 0);
    put_sketch("1/2/3/4/5/6/7/8/9/truc_1_1.ino.d1.bin", 1);
    struct scan_result result;
    struct catalog *catalog = scan(NULL, &result);
    check_served(catalog, "1/2/3/4/5/6/7/8/truc_1_0.ino.d1.bin");
    check_counts(catalog, 1, 0);
    catalog_unref(catalog);
}

/* A tree that was never meant as a repository: the scan says so and gives up, and the catalog before stays. */
static void test_folders_max(void **state)
{
    (void)state;
    struct scan_input input = { .root = folder.path, .cache = cache };
    struct scan_result result;
    char name[16];
    for (unsigned i = 1; i < SCAN_FOLDERS_MAX; i++) {
        snprintf(name, sizeof name, "%u", i);
        assert_int_equal(mkdir(in_folder(&folder, name).text, 0755), 0);
    }
    assert_int_equal(scan_run(&input, &result), STATUS_OK);
    assert_int_equal(result.folder_count, SCAN_FOLDERS_MAX);
    catalog_discard(result.catalog);
    scan_result_close(&result);
    assert_int_equal(mkdir(in_folder(&folder, "one-more").text, 0755), 0);
    assert_int_equal(scan_run(&input, &result), STATUS_LIMIT);
    assert_null(result.catalog);
    assert_non_null(strstr(result.failed_path, folder.path));
    scan_result_close(&result);
}

/* A repository that cannot be read is a failure that names the path, never an empty catalog; and what was known is
 * still known when it is back. */
static void test_root_missing(void **state)
{
    (void)state;
    struct scan_result result;
    put_sketch("root/d1/1.0.bin", 0);
    struct file_path root = in_folder(&folder, "root");
    struct scan_input input = { .root = root.text, .cache = cache, .settle_ms = 400 };
    assert_int_equal(scan_run(&input, &result), STATUS_OK);
    catalog_discard(result.catalog);
    scan_result_close(&result);

    folder_rename(&folder, "root", "away");
    assert_int_equal(scan_run(&input, &result), STATUS_NOT_FOUND);
    assert_null(result.catalog);
    assert_string_equal(result.failed_path, root.text);
    scan_result_close(&result);
    folder_write(&folder, "root", "", 0);
    assert_int_not_equal(scan_run(&input, &result), STATUS_OK);
    scan_result_close(&result);
    folder_remove(&folder, "root");

    folder_rename(&folder, "away", "root");
    assert_int_equal(scan_run(&input, &result), STATUS_OK);
    assert_int_equal(result.read, 0);
    catalog_discard(result.catalog);
    scan_result_close(&result);
}

/* The folders that were walked are what is watched: each with the number that tells it from one made anew. */
static void test_folders(void **state)
{
    (void)state;
    put_sketch("d1/1.0.bin", 0);
    assert_int_equal(mkdir(in_folder(&folder, ".hidden").text, 0755), 0);
    struct scan_input input = { .root = folder.path, .cache = cache, .settle_ms = 400 };
    struct scan_result result;
    struct stat stat;
    assert_int_equal(scan_run(&input, &result), STATUS_OK);
    catalog_discard(result.catalog);
    assert_int_equal(result.folder_count, 2);
    assert_string_equal(result.folders[0].path, "");
    assert_string_equal(result.folders[1].path, "d1");
    assert_int_equal(lstat(in_folder(&folder, "d1").text, &stat), 0);
    assert_int_equal(result.folders[1].inode, stat.st_ino);
    assert_int_equal(result.folders[1].device, stat.st_dev);
    scan_result_close(&result);
}

#define SCAN_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCAN_TEST(test_conventions),
        SCAN_TEST(test_ignored),
        SCAN_TEST(test_rejected),
        SCAN_TEST(test_oversized),
        SCAN_TEST(test_links),
        SCAN_TEST(test_loops_of_folders),
        SCAN_TEST(test_no_files),
        SCAN_TEST(test_unreadable),
        SCAN_TEST(test_settling),
        SCAN_TEST(test_soonest_settles_first),
        SCAN_TEST(test_file_from_the_future),
        SCAN_TEST(test_writer),
        SCAN_TEST(test_lease_is_given_back),
        SCAN_TEST(test_changed_while_read),
        SCAN_TEST(test_known),
        SCAN_TEST(test_removed),
        SCAN_TEST(test_renamed),
        SCAN_TEST(test_duplicates_over_scans),
        SCAN_TEST(test_depth_max),
        SCAN_TEST(test_folders_max),
        SCAN_TEST(test_root_missing),
        SCAN_TEST(test_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
