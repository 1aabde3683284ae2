/* What may be placed, under which name, and what is refused before anything is written. (test_place_disk.c: what can
 * be in the way there.)
 */
#include "repo/place.h"

#include "tests/unit/repo/repo_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* --- fixture ------------------------------------------------------------------------------------------------------ */

static struct folder folder;

static int set_up(void **state)
{
    (void)state;
    folder_make(&folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(&folder, "");
    return 0;
}

/* An order for an image of this wish; its bytes are the caller's to free. */
static struct place_order order_of(const char *type, const char *version, enum filename_role role,
                                   const struct image_make *wish)
{
    struct place_order order;
    struct place_name_fault fault;
    size_t n;
    memset(&order, 0, sizeof order);
    if (!place_path(slice_of(type), slice_of(version), role, wish->gzip, &order, &fault)) {
        fail_msg("%s %s: %s", type, version, fault.reason);
    }
    order.root = folder.path;
    order.bytes = image_make(wish, &n);
    order.size = n;
    order.chip = CHIP_UNKNOWN;
    return order;
}

static void free_order(struct place_order *order)
{
    free((void *)(uintptr_t)order->bytes);
}

static struct place_outcome place(const struct place_order *order)
{
    struct place_outcome outcome;
    memset(&outcome, 0x5a, sizeof outcome);
    place_image(order, &outcome);
    return outcome;
}

/* --- names -------------------------------------------------------------------------------------------------------- */

static void test_paths(void **state)
{
    (void)state;
    static const struct {
        enum filename_role role;
        bool gzip;
        const char *path;
    } rows[] = {
        { FILENAME_SKETCH, false, "d1_mini/0.4.10.bin" },        { FILENAME_SKETCH, true, "d1_mini/0.4.10.bin.gz" },
        { FILENAME_FS, false, "d1_mini/0.4.10.fs.bin" },         { FILENAME_FS, true, "d1_mini/0.4.10.fs.bin.gz" },
        { FILENAME_USER1, false, "d1_mini/0.4.10.user1.bin" },   { FILENAME_USER2, false, "d1_mini/0.4.10.user2.bin" },
        { FILENAME_USER2, true, "d1_mini/0.4.10.user2.bin.gz" },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct place_order order;
        struct place_name_fault fault;
        assert_true(place_path(slice_of("d1_mini"), slice_of("0.4.10"), rows[i].role, rows[i].gzip, &order, &fault));
        assert_string_equal(order.path, rows[i].path);
        assert_true(order.name.role == rows[i].role && order.name.gzip == rows[i].gzip);
        assert_string_equal(order.name.version.text, "0.4.10");
    }
}

/* Nothing that a scan would read as something else, and nothing that leaves its folder; and what is wrong is said. */
static void test_names_that_cannot_be(void **state)
{
    (void)state;
    static const struct {
        const char *type, *version;
        const char *reason; /* a part of it */
    } rows[] = {
        { "", "1.0", "a type" },
        { ".", "1.0", "a type" },
        { "..", "1.0", "a type" },
        { ".door", "1.0", "a type" },
        { "a/b", "1.0", "a type" },
        { "a b", "1.0", "a type" },
        { "t\xc3\xbcr", "1", "a type" },
        { "a\n", "1.0", "a type" },
        { "door", "", "empty" },
        { "door", ".", "no digit" },
        { "door", "..", "no digit" },
        { "door", "new", "no digit" },
        { "door", "beta-rc", "no digit" },
        { "door", "user", "no digit" },
        { "door", "../1", "other characters" },
        { "door", "1/2", "other characters" },
        { "door", "1 0", "other characters" },
        { "door", "1\x01", "other characters" },
        { "door", "1\xc3\xbc", "other characters" },
        { "door", "1.fs", ".fs" },
        { "door", "1.user2", ".user2" },
        { "door", "user1", "something else" },
        { "door", "1.ino.gate", "something else" },
        { "door", "1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1", "24 parts" },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct place_order order;
        struct place_name_fault fault = { false, "", "" };
        bool good =
            place_path(slice_of(rows[i].type), slice_of(rows[i].version), FILENAME_SKETCH, false, &order, &fault);
        if (good || fault.bad_type != (strcmp(rows[i].reason, "a type") == 0) ||
            strstr(fault.reason, rows[i].reason) == NULL || fault.remedy[0] == '\0') {
            fail_msg("%s %s: %d %d %s", rows[i].type, rows[i].version, good, fault.bad_type, fault.reason);
        }
    }
}

/* Who says a branch's name for a version must learn what a version is. */
static void test_version_without_a_digit(void **state)
{
    (void)state;
    struct place_order order;
    struct place_name_fault fault;
    assert_false(place_path(slice_of("door"), slice_of("main"), FILENAME_SKETCH, false, &order, &fault));
    assert_non_null(strstr(fault.remedy, "needs a digit, such as 0.4.10"));
}

static void test_longest_names(void **state)
{
    (void)state;
    char type[80] = "", version[80] = "";
    struct place_name_fault fault;
    struct place_order order;
    memset(type, 't', TYPE_TEXT_MAX);
    memset(version, '1', VERSION_TEXT_MAX);
    assert_true(place_path(slice_of(type), slice_of(version), FILENAME_USER1, true, &order, &fault));
    assert_int_equal(strlen(order.path), TYPE_TEXT_MAX + 1 + VERSION_TEXT_MAX + strlen(".user1.bin.gz"));
    strcat(type, "t");
    assert_false(place_path(slice_of(type), slice_of("1"), FILENAME_SKETCH, false, &order, &fault));
    assert_true(fault.bad_type);
    strcat(version, "1");
    assert_false(place_path(slice_of("t"), slice_of(version), FILENAME_SKETCH, false, &order, &fault));
    assert_false(fault.bad_type);
    assert_non_null(strstr(fault.reason, "64"));
}

/* --- placing ------------------------------------------------------------------------------------------------------ */

static void test_placed_whole(void **state)
{
    (void)state;
    struct image_make wish = { .seed = 1 };
    struct stat found;
    struct file_identity identity;
    struct place_order order = order_of("door", "1.0", FILENAME_SKETCH, &wish);
    struct place_outcome outcome = place(&order);
    assert_int_equal(outcome.result, PLACE_DONE);
    assert_true(folder_holds(&folder, "door/1.0.bin", order.bytes, order.size));
    assert_int_equal(folder_count(&folder, "door"), 1);
    assert_int_equal(outcome.facts.file_bytes, order.size);
    assert_int_equal(stat(in_folder(&folder, "door/1.0.bin").text, &found), 0);
    file_identity_from(&found, &identity);
    assert_true(file_identity_equal(&identity, &outcome.identity)); /* else nobody could tell it from an older file */
    free_order(&order);
}

static void test_exists_and_replace(void **state)
{
    (void)state;
    struct image_make first = { .seed = 1 }, second = { .seed = 2, .bytes = 20000 };
    struct place_order old = order_of("door", "1.0", FILENAME_SKETCH, &first);
    struct place_order new = order_of("door", "1.0", FILENAME_SKETCH, &second);
    assert_int_equal(place(&old).result, PLACE_DONE);
    struct place_outcome outcome = place(&new);
    assert_int_equal(outcome.result, PLACE_EXISTS);
    assert_non_null(strstr(outcome.message, "door/1.0.bin"));
    assert_non_null(strstr(outcome.remedy, "--replace"));
    assert_true(folder_holds(&folder, "door/1.0.bin", old.bytes, old.size));
    new.replace = true;
    assert_int_equal(place(&new).result, PLACE_DONE);
    assert_true(folder_holds(&folder, "door/1.0.bin", new.bytes, new.size));
    assert_int_equal(folder_count(&folder, "door"), 1);
    free_order(&old);
    free_order(&new);
}

/* A replaced file that is open keeps its bytes: a new one took its name. */
static void test_open_file_keeps_its_bytes(void **state)
{
    (void)state;
    struct image_make wish = { .seed = 2 };
    char byte = 0;
    struct place_order order = order_of("door", "1.0", FILENAME_SKETCH, &wish);
    order.replace = true;
    folder_write(&folder, "door/1.0.bin", "old", 3);
    int fd = open(in_folder(&folder, "door/1.0.bin").text, O_RDONLY);
    assert_int_equal(place(&order).result, PLACE_DONE);
    assert_true(read(fd, &byte, 1) == 1 && byte == 'o');
    close(fd);
    free_order(&order);
}

/* What fails is not even given a folder. */
static void test_rejected(void **state)
{
    (void)state;
    static const struct {
        struct image_make wish;
        enum filename_role role;
        enum image_fault fault;
    } rows[] = {
        { { .kind = IMAGE_MAKE_HTML }, FILENAME_SKETCH, IMAGE_FAULT_HTML },
        { { .broken = IMAGE_MAKE_BREAK_CHECKSUM }, FILENAME_SKETCH, IMAGE_FAULT_NONE },
        { { .kind = IMAGE_MAKE_ESP32, .broken = IMAGE_MAKE_BREAK_TRUNCATE }, FILENAME_SKETCH, IMAGE_FAULT_TRUNCATED },
        { { .kind = IMAGE_MAKE_LITTLEFS }, FILENAME_SKETCH, IMAGE_FAULT_WRONG_USE },
        { { .kind = IMAGE_MAKE_USER1 }, FILENAME_SKETCH, IMAGE_FAULT_WRONG_USE },
        { { .seed = 1 }, FILENAME_FS, IMAGE_FAULT_WRONG_USE },
        { { .seed = 1 }, FILENAME_USER1, IMAGE_FAULT_WRONG_USE },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct place_order order = order_of("door", "1.0", rows[i].role, &rows[i].wish);
        struct place_outcome outcome = place(&order);
        if (outcome.result != PLACE_REJECTED || outcome.verdict.fault == IMAGE_FAULT_NONE ||
            (rows[i].fault != IMAGE_FAULT_NONE && outcome.verdict.fault != rows[i].fault)) {
            fail_msg("row %zu: %s %s", i, place_result_word(outcome.result), image_fault_word(outcome.verdict.fault));
        }
        assert_true(outcome.verdict.detail[0] != '\0' && outcome.verdict.remedy[0] != '\0');
        assert_int_equal(folder_count(&folder, ""), 0);
        free_order(&order);
    }
}

/* A scan refuses compressed bytes under a plain name and the other way round: so must this, before they lie there. */
static void test_name_and_form_disagree(void **state)
{
    (void)state;
    for (int gzip = 0; gzip <= 1; gzip++) {
        struct image_make name = { .gzip = gzip != 0 }, bytes = { .gzip = gzip == 0 };
        struct place_order order = order_of("door", "1.0", FILENAME_SKETCH, &name);
        size_t n;
        free_order(&order);
        order.bytes = image_make(&bytes, &n);
        order.size = n;
        struct place_outcome outcome = place(&order);
        assert_int_equal(outcome.result, PLACE_REJECTED);
        assert_int_equal(outcome.verdict.fault, IMAGE_FAULT_WRONG_USE);
        assert_true(outcome.verdict.detail[0] != '\0' && outcome.verdict.remedy[0] != '\0');
        assert_int_equal(folder_count(&folder, ""), 0);
        free_order(&order);
    }
}

static void test_version_inside(void **state)
{
    (void)state;
    static const struct {
        const char *inside, *said;
        bool contradicts;
    } rows[] = {
        { "2.0.0", "1.0.0", true },
        { "1.0.1", "1.0", true },
        { "1.2.0-rc1", "1.2.0", true },
        { "1.2.0", "1_2", false },
        { "v1.2", "1.2.0", false },
        { "1", "1.0.7", false },
        { "", "1.0", false },
        { "arduino-lib-builder", "1", false },
        { "f1e2d3c", "1.0", false },
        { "17", "3.1", false },
        { "my build 1.5", "1.0", false },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct image_make wish = { .kind = IMAGE_MAKE_ESP32, .version = rows[i].inside };
        struct place_order order = order_of("door", rows[i].said, FILENAME_SKETCH, &wish);
        struct place_outcome outcome;
        order.replace = true;
        outcome = place(&order);
        if (outcome.result != (rows[i].contradicts ? PLACE_CONTRADICTS_VERSION : PLACE_DONE)) {
            fail_msg("%s as %s: %s", rows[i].inside, rows[i].said, place_result_word(outcome.result));
        }
        if (rows[i].contradicts) {
            assert_non_null(strstr(outcome.message, rows[i].inside));
            assert_non_null(strstr(outcome.message, rows[i].said));
            assert_non_null(strstr(outcome.remedy, rows[i].inside));
        }
        free_order(&order);
    }
}

static void test_chip_of_the_type(void **state)
{
    (void)state;
    static const struct {
        struct image_make wish;
        enum filename_role role;
        enum chip chip;
        enum place_result result;
    } rows[] = {
        { { .seed = 1 }, FILENAME_SKETCH, CHIP_ESP32_C3, PLACE_CONTRADICTS_CHIP },
        { { .kind = IMAGE_MAKE_ESP32, .chip = CHIP_ESP32_S3 }, FILENAME_SKETCH, CHIP_ESP32_C3, PLACE_CONTRADICTS_CHIP },
        { { .kind = IMAGE_MAKE_ESP32, .chip = CHIP_ESP32_C3 }, FILENAME_SKETCH, CHIP_ESP32_C3, PLACE_DONE },
        { { .kind = IMAGE_MAKE_USER1 }, FILENAME_USER1, CHIP_ESP32, PLACE_CONTRADICTS_CHIP },
        { { .kind = IMAGE_MAKE_USER1 }, FILENAME_USER1, CHIP_ESP8266, PLACE_DONE },
        { { .kind = IMAGE_MAKE_LITTLEFS }, FILENAME_FS, CHIP_ESP32_C3, PLACE_DONE }, /* it fits every chip */
        { { .seed = 2 }, FILENAME_SKETCH, CHIP_UNKNOWN, PLACE_DONE },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct place_order order = order_of("door", "1.0.0", rows[i].role, &rows[i].wish);
        order.chip = rows[i].chip;
        order.replace = true;
        struct place_outcome outcome = place(&order);
        if (outcome.result != rows[i].result) {
            fail_msg("row %zu: %s", i, place_result_word(outcome.result));
        }
        if (outcome.result == PLACE_CONTRADICTS_CHIP) {
            assert_non_null(strstr(outcome.message, chip_text(rows[i].chip)));
        }
        free_order(&order);
    }
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_paths),
        IN_FOLDER(test_names_that_cannot_be),
        IN_FOLDER(test_version_without_a_digit),
        IN_FOLDER(test_longest_names),
        IN_FOLDER(test_placed_whole),
        IN_FOLDER(test_exists_and_replace),
        IN_FOLDER(test_open_file_keeps_its_bytes),
        IN_FOLDER(test_rejected),
        IN_FOLDER(test_name_and_form_disagree),
        IN_FOLDER(test_version_inside),
        IN_FOLDER(test_chip_of_the_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
