/* What a scan learned survives a restart exactly, and nothing that is not exactly it is believed.
 *
 * Where a test of damage fails, a server may serve an image under a digest that is not its own.
 */
#include "repo/digest_cache.h"

#include <errno.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define DIGEST_BYTES 32

struct fixture {
    char folder[256];
    char file[300];
    char temporary[310];
    struct digest_cache *cache;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    const char *parent = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
    snprintf(fixture.folder, sizeof fixture.folder, "%s/updraft-cache-XXXXXX", parent);
    if (mkdtemp(fixture.folder) == NULL) {
        return -1;
    }
    snprintf(fixture.file, sizeof fixture.file, "%s/digests", fixture.folder);
    snprintf(fixture.temporary, sizeof fixture.temporary, "%s.tmp", fixture.file);
    fixture.cache = digest_cache_new();
    *state = &fixture;
    return fixture.cache != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    digest_cache_free(fixture->cache);
    (void)chmod(fixture->folder, 0700);
    (void)unlink(fixture->file);
    (void)unlink(fixture->temporary);
    return rmdir(fixture->folder);
}

static struct file_identity identity_of(uint64_t number)
{
    return (struct file_identity){ .device = 7,
                                   .inode = number,
                                   .size = 1000 + number,
                                   .mtime_ns = -5 + (int64_t)number,
                                   .ctime_ns = 1700000000123456789 };
}

static struct digest_finding accepted_finding(uint64_t number)
{
    struct digest_finding finding;
    memset(&finding, 0, sizeof finding);
    finding.use = IMAGE_USE_SKETCH;
    finding.accepted = true;
    finding.facts.kind = IMAGE_ESP32;
    finding.facts.chip = CHIP_ESP32_C3;
    finding.facts.has_app = true;
    finding.facts.flash_mode = 2;
    finding.facts.file_bytes = 1000 + number;
    snprintf(finding.facts.app_version, sizeof finding.facts.app_version, "1.0.%u", (unsigned)number);
    memcpy(finding.facts.md5, &number, sizeof number);
    return finding;
}

static struct digest_finding rejected_finding(void)
{
    struct digest_finding finding;
    memset(&finding, 0, sizeof finding);
    finding.use = IMAGE_USE_FS;
    finding.verdict.fault = IMAGE_FAULT_TRUNCATED;
    snprintf(finding.verdict.detail, sizeof finding.verdict.detail, "ends at 70000, the file at 65536");
    snprintf(finding.verdict.remedy, sizeof finding.verdict.remedy, "copy it again");
    return finding;
}

static void put(struct digest_cache *cache, const char *path, uint64_t number, struct digest_finding finding)
{
    struct file_identity identity = identity_of(number);
    assert_int_equal(digest_cache_put(cache, slice_of(path), &identity, &finding), STATUS_OK);
}

static const struct digest_finding *find(struct digest_cache *cache, const char *path, uint64_t number,
                                         enum image_use use)
{
    struct file_identity identity = identity_of(number);
    return digest_cache_find(cache, slice_of(path), &identity, use);
}

static void fill_two(struct digest_cache *cache)
{
    put(cache, "d1_mini/1.0.bin", 1, accepted_finding(1));
    put(cache, "d1_mini/1.0.fs.bin", 2, rejected_finding());
}

static void check_two(struct digest_cache *cache)
{
    struct digest_finding accepted = accepted_finding(1);
    struct digest_finding rejected = rejected_finding();
    const struct digest_finding *found = find(cache, "d1_mini/1.0.bin", 1, IMAGE_USE_SKETCH);
    assert_non_null(found);
    assert_memory_equal(found, &accepted, sizeof accepted);
    found = find(cache, "d1_mini/1.0.fs.bin", 2, IMAGE_USE_FS);
    assert_non_null(found);
    assert_memory_equal(found, &rejected, sizeof rejected);
}

/* Reads a whole file into fresh memory. */
static unsigned char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    unsigned char *bytes = malloc(1 << 20);
    assert_non_null(bytes);
    *size = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return bytes;
}

static void write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* Makes the digest at the end right again, so that only what was changed can be the reason of a refusal. */
static void seal(unsigned char *bytes, size_t size)
{
    assert_int_equal(EVP_Digest(bytes, size - DIGEST_BYTES, bytes + size - DIGEST_BYTES, NULL, EVP_sha256(), NULL), 1);
}

static void expect_refused(struct fixture *fixture, const void *bytes, size_t size, const char *what)
{
    write_file(fixture->file, bytes, size);
    enum status status = digest_cache_load(fixture->cache, fixture->file);
    if (status != STATUS_INVALID || digest_cache_count(fixture->cache) != 0) {
        fail_msg("%s: %s, %zu entries", what, status_name(status), digest_cache_count(fixture->cache));
    }
}

static void test_round_trip(void **state)
{
    struct fixture *fixture = *state;
    fill_two(fixture->cache);
    assert_true(digest_cache_has_changed(fixture->cache));
    assert_int_equal(digest_cache_save(fixture->cache, fixture->file), STATUS_OK);
    assert_false(digest_cache_has_changed(fixture->cache));
    assert_int_equal(access(fixture->temporary, F_OK), -1);

    struct digest_cache *second = digest_cache_new();
    assert_int_equal(digest_cache_load(second, fixture->file), STATUS_OK);
    assert_false(digest_cache_has_changed(second));
    assert_int_equal(digest_cache_count(second), 2);
    check_two(second);
    digest_cache_free(second);
}

static void test_load_replaces(void **state)
{
    struct fixture *fixture = *state;
    fill_two(fixture->cache);
    assert_int_equal(digest_cache_save(fixture->cache, fixture->file), STATUS_OK);
    put(fixture->cache, "later/1.bin", 9, accepted_finding(9));
    assert_int_equal(digest_cache_load(fixture->cache, fixture->file), STATUS_OK);
    assert_int_equal(digest_cache_count(fixture->cache), 2);
    check_two(fixture->cache);
}

/* An empty repository is a fact too; and the smallest file must not be refused for its size. */
static void test_empty_round_trip(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(digest_cache_save(fixture->cache, fixture->file), STATUS_OK);
    assert_int_equal(digest_cache_load(fixture->cache, fixture->file), STATUS_OK);
    assert_int_equal(digest_cache_count(fixture->cache), 0);
}

/* Whichever part of a file's identity differs, the file is read again. */
static void test_any_difference_is_unknown(void **state)
{
    struct fixture *fixture = *state;
    put(fixture->cache, "a/1.bin", 1, accepted_finding(1));
    struct slice path = slice_of("a/1.bin");
    for (int field = 0; field < 6; field++) {
        struct file_identity identity = identity_of(1);
        identity.device += field == 1;
        identity.inode += field == 2;
        identity.size += field == 3;
        identity.mtime_ns += field == 4;
        identity.ctime_ns += field == 5;
        const void *found = digest_cache_find(fixture->cache, path, &identity, IMAGE_USE_SKETCH);
        assert_true((found != NULL) == (field == 0));
    }
    assert_null(find(fixture->cache, "a/1.bin", 1, IMAGE_USE_FS));
    assert_null(find(fixture->cache, "a/1.bi", 1, IMAGE_USE_SKETCH));
    assert_null(find(fixture->cache, "a/1.bin2", 1, IMAGE_USE_SKETCH));
    assert_null(find(fixture->cache, "", 1, IMAGE_USE_SKETCH));
}

static void test_put_replaces(void **state)
{
    struct fixture *fixture = *state;
    put(fixture->cache, "a/1.bin", 1, accepted_finding(1));
    put(fixture->cache, "a/1.bin", 2, rejected_finding());
    assert_int_equal(digest_cache_count(fixture->cache), 1);
    assert_null(find(fixture->cache, "a/1.bin", 1, IMAGE_USE_SKETCH));
    assert_non_null(find(fixture->cache, "a/1.bin", 2, IMAGE_USE_FS));
}

/* A file that was only touched is put again with what was found of it: the source is the entry that is
 * replaced. */
static void test_put_of_a_borrowed_finding(void **state)
{
    struct fixture *fixture = *state;
    struct file_identity later = identity_of(2);
    struct digest_finding expected = accepted_finding(1);
    put(fixture->cache, "a/1.bin", 1, accepted_finding(1));
    const struct digest_finding *found = find(fixture->cache, "a/1.bin", 1, IMAGE_USE_SKETCH);
    assert_int_equal(digest_cache_put(fixture->cache, slice_of("a/1.bin"), &later, found), STATUS_OK);
    found = find(fixture->cache, "a/1.bin", 2, IMAGE_USE_SKETCH);
    assert_non_null(found);
    assert_memory_equal(found, &expected, sizeof expected);
}

static void test_forget_untouched(void **state)
{
    struct fixture *fixture = *state;
    fill_two(fixture->cache);
    put(fixture->cache, "gone/1.bin", 3, accepted_finding(3));
    assert_int_equal(digest_cache_save(fixture->cache, fixture->file), STATUS_OK);
    assert_int_equal(digest_cache_load(fixture->cache, fixture->file), STATUS_OK);

    check_two(fixture->cache); /* the scan of this run finds two of the three */
    assert_int_equal(digest_cache_forget_untouched(fixture->cache), 1);
    assert_true(digest_cache_has_changed(fixture->cache));
    assert_int_equal(digest_cache_count(fixture->cache), 2);
    assert_null(find(fixture->cache, "gone/1.bin", 3, IMAGE_USE_SKETCH));

    assert_non_null(find(fixture->cache, "d1_mini/1.0.bin", 1, IMAGE_USE_SKETCH)); /* the next one, only one */
    assert_int_equal(digest_cache_forget_untouched(fixture->cache), 1);
    assert_int_equal(digest_cache_count(fixture->cache), 1);
}

/* A file seen in another state is not the file that is remembered: looking for it does not keep the memory.
 */
static void test_a_miss_does_not_touch(void **state)
{
    struct fixture *fixture = *state;
    put(fixture->cache, "a/1.bin", 1, accepted_finding(1));
    assert_int_equal(digest_cache_forget_untouched(fixture->cache), 0);
    assert_null(find(fixture->cache, "a/1.bin", 2, IMAGE_USE_SKETCH));
    assert_int_equal(digest_cache_forget_untouched(fixture->cache), 1);
}

/* A file that differs where nothing else does would be rewritten at every start. */
static void test_same_content_same_file(void **state)
{
    struct fixture *fixture = *state;
    size_t first_size;
    size_t second_size;
    fill_two(fixture->cache);
    assert_int_equal(digest_cache_save(fixture->cache, fixture->file), STATUS_OK);
    unsigned char *first = read_file(fixture->file, &first_size);

    struct digest_cache *other = digest_cache_new();
    struct digest_finding dirty;
    memset(&dirty, 0xee, sizeof dirty); /* the part of the union that does not count */
    struct digest_finding clean = rejected_finding();
    dirty.use = clean.use;
    dirty.accepted = false;
    dirty.seal = clean.seal;
    dirty.verdict = clean.verdict;
    put(other, "d1_mini/1.0.fs.bin", 2, dirty);
    put(other, "d1_mini/1.0.bin", 1, accepted_finding(1));
    assert_int_equal(digest_cache_save(other, fixture->file), STATUS_OK);
    unsigned char *second = read_file(fixture->file, &second_size);
    assert_int_equal(first_size, second_size);
    assert_memory_equal(first, second, first_size);
    digest_cache_free(other);
    free(first);
    free(second);
}

static void test_every_changed_byte_is_refused(void **state)
{
    struct fixture *fixture = *state;
    size_t size;
    fill_two(fixture->cache);
    assert_int_equal(digest_cache_save(fixture->cache, fixture->file), STATUS_OK);
    unsigned char *bytes = read_file(fixture->file, &size);
    for (size_t i = 0; i < size; i++) {
        char what[40];
        snprintf(what, sizeof what, "byte %zu", i);
        unsigned char kept = bytes[i];
        bytes[i] ^= (unsigned char)(1u << i % 8);
        expect_refused(fixture, bytes, size, what);
        bytes[i] = kept;
    }
    write_file(fixture->file, bytes, size); /* the file itself is still good */
    assert_int_equal(digest_cache_load(fixture->cache, fixture->file), STATUS_OK);
    free(bytes);
}

static void test_every_length_is_refused(void **state)
{
    struct fixture *fixture = *state;
    size_t size;
    fill_two(fixture->cache);
    assert_int_equal(digest_cache_save(fixture->cache, fixture->file), STATUS_OK);
    unsigned char *bytes = read_file(fixture->file, &size);
    for (size_t length = 0; length < size; length++) {
        char what[40];
        snprintf(what, sizeof what, "length %zu", length);
        expect_refused(fixture, bytes, length, what);
    }
    bytes[size] = 0;
    expect_refused(fixture, bytes, size + 1, "a byte too many");
    free(bytes);
}

/* Another release's file has a right digest, and still is not to be believed. */
static void test_other_format_is_refused(void **state)
{
    struct fixture *fixture = *state;
    size_t size;
    fill_two(fixture->cache);
    assert_int_equal(digest_cache_save(fixture->cache, fixture->file), STATUS_OK);
    unsigned char *bytes = read_file(fixture->file, &size);
    for (size_t i = 0; i < 32; i++) { /* magic, format number, sizes and count: 32 bytes */
        char what[40];
        snprintf(what, sizeof what, "sealed header byte %zu", i);
        bytes[i] ^= 1;
        seal(bytes, size);
        expect_refused(fixture, bytes, size, what);
        bytes[i] ^= 1;
    }
    seal(bytes, size);
    write_file(fixture->file, bytes, size);
    assert_int_equal(digest_cache_load(fixture->cache, fixture->file), STATUS_OK);
    free(bytes);
}

#define FINDING_AT      (32 + sizeof(struct file_identity) + 8) /* of the first record */
#define FIELD_AT(field) (FINDING_AT + offsetof(struct digest_finding, field))

/* The digest is no seal: with it put right, values that no struct of ours can hold are refused all the same.
 */
static void test_impossible_values_are_refused(void **state)
{
    static const struct {
        const char *what;
        size_t at, count;
        unsigned char value;
    } rows[] = {
        { "accepted = 2", FIELD_AT(accepted), 1, 2 },
        { "gzip = 255", FIELD_AT(facts.gzip), 1, 255 },
        { "has_run_sha256 = 2", FIELD_AT(facts.has_run_sha256), 1, 2 },
        { "has_app = 2", FIELD_AT(facts.has_app), 1, 2 },
        { "unknown use", FIELD_AT(use), 1, 3 },
        { "unknown kind", FIELD_AT(facts.kind), 1, 99 },
        { "flash mode 4", FIELD_AT(facts.flash_mode), 1, 4 },
        { "slot 3", FIELD_AT(facts.slot), 1, 3 },
        { "other size than the file", FIELD_AT(facts.file_bytes), 1, 99 },
        { "app_version without an end", FIELD_AT(facts.app_version), 33, 'x' },
        { "app_project without an end", FIELD_AT(facts.app_project), 33, 'x' },
        { "app_idf without an end", FIELD_AT(facts.app_idf), 33, 'x' },
        { "path of 0 bytes", FINDING_AT - 8, 8, 0 },
        { "path of 2^64-1 bytes", FINDING_AT - 8, 8, 255 },
    };
    struct fixture *fixture = *state;
    size_t size;
    put(fixture->cache, "a", 1, accepted_finding(1));
    assert_int_equal(digest_cache_save(fixture->cache, fixture->file), STATUS_OK);
    unsigned char *bytes = read_file(fixture->file, &size);
    unsigned char *changed = malloc(size);
    assert_non_null(changed);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        memcpy(changed, bytes, size);
        memset(changed + rows[i].at, rows[i].value, rows[i].count);
        seal(changed, size);
        expect_refused(fixture, changed, size, rows[i].what);
    }
    free(changed);
    free(bytes);
}

static void test_impossible_verdicts_are_refused(void **state)
{
    static const size_t texts[] = { FIELD_AT(verdict.detail), FIELD_AT(verdict.remedy) };
    struct fixture *fixture = *state;
    size_t size;
    put(fixture->cache, "a", 1, rejected_finding());
    assert_int_equal(digest_cache_save(fixture->cache, fixture->file), STATUS_OK);
    unsigned char *bytes = read_file(fixture->file, &size);
    for (size_t i = 0; i < 2; i++) {
        unsigned char kept[160];
        memcpy(kept, bytes + texts[i], sizeof kept);
        memset(bytes + texts[i], 'x', sizeof kept);
        seal(bytes, size);
        expect_refused(fixture, bytes, size, "a text without an end");
        memcpy(bytes + texts[i], kept, sizeof kept);
    }
    bytes[FIELD_AT(verdict.fault)] = 99;
    seal(bytes, size);
    expect_refused(fixture, bytes, size, "an unknown fault");
    free(bytes);
}

/* Two records of one path: which one would count? */
static void test_double_path_is_refused(void **state)
{
    struct fixture *fixture = *state;
    size_t size;
    put(fixture->cache, "a", 1, accepted_finding(1));
    put(fixture->cache, "b", 1, accepted_finding(1));
    assert_int_equal(digest_cache_save(fixture->cache, fixture->file), STATUS_OK);
    unsigned char *bytes = read_file(fixture->file, &size);
    assert_int_equal(bytes[size - DIGEST_BYTES - 1], 'b');
    bytes[size - DIGEST_BYTES - 1] = 'a';
    seal(bytes, size);
    expect_refused(fixture, bytes, size, "one path twice");
    free(bytes);
}

static void test_no_file(void **state)
{
    struct fixture *fixture = *state;
    fill_two(fixture->cache);
    assert_int_equal(digest_cache_load(fixture->cache, fixture->file), STATUS_NOT_FOUND);
    assert_int_equal(digest_cache_count(fixture->cache), 0);
    assert_int_equal(digest_cache_load(fixture->cache, fixture->folder), STATUS_INVALID);
}

/* A named pipe or a device in the file's place must not be waited for. */
static void test_no_regular_file(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(mkfifo(fixture->file, 0600), 0);
    assert_int_equal(digest_cache_load(fixture->cache, fixture->file), STATUS_INVALID);
}

static void test_save_overcomes_what_a_crash_left(void **state)
{
    struct fixture *fixture = *state;
    write_file(fixture->temporary, "half", 4);
    fill_two(fixture->cache);
    assert_int_equal(digest_cache_save(fixture->cache, fixture->file), STATUS_OK);
    assert_int_equal(digest_cache_load(fixture->cache, fixture->file), STATUS_OK);
    assert_int_equal(digest_cache_count(fixture->cache), 2);
}

static void test_save_that_fails_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    char elsewhere[400];
    snprintf(elsewhere, sizeof elsewhere, "%s/no-folder/digests", fixture->folder);
    fill_two(fixture->cache);
    assert_int_equal(digest_cache_save(fixture->cache, elsewhere), STATUS_NOT_FOUND);
    assert_true(digest_cache_has_changed(fixture->cache));
    check_two(fixture->cache);
    assert_int_not_equal(digest_cache_save(fixture->cache, fixture->folder), STATUS_OK); /* a folder is there */
    char left[400];
    snprintf(left, sizeof left, "%s.tmp", fixture->folder);
    assert_int_equal(access(left, F_OK), -1);
}

static void test_path_limits(void **state)
{
    struct fixture *fixture = *state;
    static char path[DIGEST_CACHE_PATH_MAX + 1];
    struct file_identity identity = identity_of(1);
    struct digest_finding finding = accepted_finding(1);
    memset(path, 'p', sizeof path);
    struct slice longest = { path, DIGEST_CACHE_PATH_MAX };
    struct slice longer = { path, DIGEST_CACHE_PATH_MAX + 1 };
    assert_int_equal(digest_cache_put(fixture->cache, longest, &identity, &finding), STATUS_OK);
    assert_int_equal(digest_cache_put(fixture->cache, longer, &identity, &finding), STATUS_TOO_LONG);
    assert_int_equal(digest_cache_put(fixture->cache, slice_of(""), &identity, &finding), STATUS_TOO_LONG);
    assert_int_equal(digest_cache_save(fixture->cache, fixture->file), STATUS_OK);
    assert_int_equal(digest_cache_load(fixture->cache, fixture->file), STATUS_OK);
    assert_non_null(digest_cache_find(fixture->cache, longest, &identity, IMAGE_USE_SKETCH));
}

static void test_ten_thousand(void **state)
{
    struct fixture *fixture = *state;
    char path[64];
    for (uint64_t i = 0; i < 10000; i++) {
        snprintf(path, sizeof path, "type%u/1.0.%u.bin", (unsigned)(i % 37), (unsigned)i);
        put(fixture->cache, path, i, accepted_finding(i));
    }
    assert_int_equal(digest_cache_save(fixture->cache, fixture->file), STATUS_OK);
    assert_int_equal(digest_cache_load(fixture->cache, fixture->file), STATUS_OK);
    assert_int_equal(digest_cache_count(fixture->cache), 10000);
    for (uint64_t i = 0; i < 10000; i++) {
        struct digest_finding expected = accepted_finding(i);
        snprintf(path, sizeof path, "type%u/1.0.%u.bin", (unsigned)(i % 37), (unsigned)i);
        const struct digest_finding *found = find(fixture->cache, path, i, IMAGE_USE_SKETCH);
        assert_non_null(found);
        assert_memory_equal(found, &expected, sizeof expected);
    }
    assert_int_equal(digest_cache_forget_untouched(fixture->cache), 0);
}

/* Without a bound, a repository gone wild takes all memory. */
static void test_full(void **state)
{
    struct fixture *fixture = *state;
    struct digest_finding finding = accepted_finding(1);
    struct file_identity identity = identity_of(1);
    char path[32];
    for (unsigned i = 0; i < DIGEST_CACHE_ENTRIES_MAX; i++) {
        snprintf(path, sizeof path, "%u", i);
        assert_int_equal(digest_cache_put(fixture->cache, slice_of(path), &identity, &finding), STATUS_OK);
    }
    assert_int_equal(digest_cache_put(fixture->cache, slice_of("more"), &identity, &finding), STATUS_LIMIT);
    assert_int_equal(digest_cache_put(fixture->cache, slice_of("0"), &identity, &finding), STATUS_OK);
    assert_int_equal(digest_cache_count(fixture->cache), DIGEST_CACHE_ENTRIES_MAX);
}

/* The bound is on what is held, not on all that ever was: else a server that runs for long forgets how to
 * remember. */
static void test_replaced_bytes_do_not_count(void **state)
{
    struct fixture *fixture = *state;
    static char path[DIGEST_CACHE_PATH_MAX];
    memset(path, 'p', sizeof path);
    struct slice longest = { path, sizeof path };
    struct digest_finding finding = accepted_finding(1);
    struct file_identity identity = identity_of(1);
    for (size_t written = 0; written <= DIGEST_CACHE_BYTES_MAX; written += sizeof path) {
        assert_int_equal(digest_cache_put(fixture->cache, longest, &identity, &finding), STATUS_OK);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_load_replaces),
        TEST(test_empty_round_trip),
        TEST(test_any_difference_is_unknown),
        TEST(test_put_replaces),
        TEST(test_put_of_a_borrowed_finding),
        TEST(test_forget_untouched),
        TEST(test_a_miss_does_not_touch),
        TEST(test_same_content_same_file),
        TEST(test_every_changed_byte_is_refused),
        TEST(test_every_length_is_refused),
        TEST(test_other_format_is_refused),
        TEST(test_impossible_values_are_refused),
        TEST(test_impossible_verdicts_are_refused),
        TEST(test_double_path_is_refused),
        TEST(test_no_file),
        TEST(test_no_regular_file),
        TEST(test_save_overcomes_what_a_crash_left),
        TEST(test_save_that_fails_changes_nothing),
        TEST(test_path_limits),
        TEST(test_ten_thousand),
        TEST(test_full),
        TEST(test_replaced_bytes_do_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
