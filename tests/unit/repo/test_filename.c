/* The naming conventions, row by row: what each name promises, and what a refused one is told to become.
 *
 * Where a row fails, a file is served under a type or version that nobody gave it, or vanishes without a
 * word.
 */
#include "repo/filename.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

#define TEXT_64 "0123456789012345678901234567890123456789012345678901234567890123"

static const struct {
    const char *path;
    struct filename name; /* of the version only the text counts here */
} accepted[] = {
    /* <project>_<version>.ino.<type>.bin, wherever it lies */
    { "truc_0_4_99.ino.d1_mini.bin", { FILENAME_SKETCH, false, 0, "d1_mini", "", "truc", { .text = "0_4_99" } } },
    { "truc_0.4.99.ino.d1_mini.bin", { FILENAME_SKETCH, false, 0, "d1_mini", "", "truc", { .text = "0.4.99" } } },
    { "truc_0_4_99.ino.d1_mini.bin.gz", { FILENAME_SKETCH, true, 0, "d1_mini", "", "truc", { .text = "0_4_99" } } },
    { "door/truc_1_0.ino.d1_mini.bin", { FILENAME_SKETCH, false, 0, "d1_mini", "", "truc", { .text = "1_0" } } },
    { "a/b/c/truc_1_0.ino.nodemcuv2.bin", { FILENAME_SKETCH, false, 0, "nodemcuv2", "", "truc", { .text = "1_0" } } },
    { "esp_32_cam_1_0_0.ino.esp32.bin", { FILENAME_SKETCH, false, 0, "esp32", "", "esp_32_cam", { .text = "1_0_0" } } },
    { "esp_32_cam_1_0_0-blue.ino.esp32.bin",
      { FILENAME_SKETCH, false, 0, "esp32", "", "esp_32_cam", { .text = "1_0_0-blue" } } },
    { "truc_1.0.0-blue.7.ino.esp32.bin",
      { FILENAME_SKETCH, false, 0, "esp32", "", "truc", { .text = "1.0.0-blue.7" } } },
    { "door_lock_v2_1.ino.esp32.bin", { FILENAME_SKETCH, false, 0, "esp32", "", "door_lock", { .text = "v2_1" } } },
    { "truc_v1_0-blue.ino.esp32.bin", { FILENAME_SKETCH, false, 0, "esp32", "", "truc", { .text = "v1_0-blue" } } },
    { "truc_3_2_2beta.ino.esp32.bin", { FILENAME_SKETCH, false, 0, "esp32", "", "truc", { .text = "3_2_2beta" } } },
    { "truc.ino.copy_1_0.ino.esp32.bin",
      { FILENAME_SKETCH, false, 0, "esp32", "", "truc.ino.copy", { .text = "1_0" } } },
    { "T\xc3\xbcr_1_0.ino.esp32.bin", { FILENAME_SKETCH, false, 0, "esp32", "", "T\xc3\xbcr", { .text = "1_0" } } },
    { "spiffs_tool_1_0.ino.esp32.bin", { FILENAME_SKETCH, false, 0, "esp32", "", "spiffs_tool", { .text = "1_0" } } },
    { TEXT_64 "_1.ino.esp32.bin", { FILENAME_SKETCH, false, 0, "esp32", "", TEXT_64, { .text = "1" } } },
    /* file systems for a flash size, wherever they lie */
    { "spiffs_0_4_99_4M.bin", { FILENAME_SHARED_FS, false, 4, "", "", "", { .text = "0_4_99" } } },
    { "littlefs_1.2.3_16M.bin", { FILENAME_SHARED_FS, false, 16, "", "", "", { .text = "1.2.3" } } },
    { "d1_mini/littlefs_1.2.3_1M.bin.gz", { FILENAME_SHARED_FS, true, 1, "", "", "", { .text = "1.2.3" } } },
    { "a/b/spiffs_7_256M.bin", { FILENAME_SHARED_FS, false, 256, "", "", "", { .text = "7" } } },
    /* <type>/<version>… */
    { "d1_mini/0.4.99.bin", { FILENAME_SKETCH, false, 0, "d1_mini", "", "", { .text = "0.4.99" } } },
    { "d1_mini/0.4.99.bin.gz", { FILENAME_SKETCH, true, 0, "d1_mini", "", "", { .text = "0.4.99" } } },
    { "d1_mini/0.4.99.fs.bin", { FILENAME_FS, false, 0, "d1_mini", "", "", { .text = "0.4.99" } } },
    { "d1_mini/0.4.99.fs.bin.gz", { FILENAME_FS, true, 0, "d1_mini", "", "", { .text = "0.4.99" } } },
    { "sdk/2.0.user1.bin", { FILENAME_USER1, false, 0, "sdk", "", "", { .text = "2.0" } } },
    { "sdk/2.0.user2.bin", { FILENAME_USER2, false, 0, "sdk", "", "", { .text = "2.0" } } },
    { "tasmota/13.4.0(tasmota).bin", { FILENAME_SKETCH, false, 0, "tasmota", "", "", { .text = "13.4.0(tasmota)" } } },
    { "esp32/1.0.0.factory.bin", { FILENAME_SKETCH, false, 0, "esp32", "", "", { .text = "1.0.0.factory" } } },
    { "door/DOOR-7-g14f53a19.bin", { FILENAME_SKETCH, false, 0, "door", "", "", { .text = "DOOR-7-g14f53a19" } } },
    /* <label>.bin at the top */
    { "DOOR-7-g14f53a19.bin", { FILENAME_LABEL, false, 0, "", "DOOR-7-g14f53a19", "", { .text = "" } } },
    { "DOOR-7-g14f53a19.bin.gz", { FILENAME_LABEL, true, 0, "", "DOOR-7-g14f53a19", "", { .text = "" } } },
    { "1.0.0.bin", { FILENAME_LABEL, false, 0, "", "1.0.0", "", { .text = "" } } },
    { "tasmota32.factory.bin", { FILENAME_LABEL, false, 0, "", "tasmota32.factory", "", { .text = "" } } },
    { "app.merged.bin", { FILENAME_LABEL, false, 0, "", "app.merged", "", { .text = "" } } },
    { "spiffs.bin", { FILENAME_LABEL, false, 0, "", "spiffs", "", { .text = "" } } },
    { TEXT_64 ".bin", { FILENAME_LABEL, false, 0, "", TEXT_64, "", { .text = "" } } },
};

static void check_name(const char *path, const struct filename *name, const struct filename *expected)
{
    if (name->role != expected->role || name->gzip != expected->gzip || name->flash_mib != expected->flash_mib) {
        fail_msg("%s: role %d, gzip %d, %u MiB", path, (int)name->role, name->gzip, (unsigned)name->flash_mib);
    }
    assert_string_equal(name->type, expected->type);
    assert_string_equal(name->label, expected->label);
    assert_string_equal(name->project, expected->project);
    assert_string_equal(name->version.text, expected->version.text);
}

static void test_accepted(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(accepted); i++) {
        struct filename name;
        struct filename_refusal refusal = { "", "" };
        if (filename_parse(slice_of(accepted[i].path), &name, &refusal) != FILENAME_OK) {
            fail_msg("%s: %s; %s", accepted[i].path, refusal.detail, refusal.remedy);
        }
        check_name(accepted[i].path, &name, &accepted[i].name);
    }
}

/* The version is usable, not only its text: the catalog orders by it. */
static void test_version_is_parsed(void **state)
{
    (void)state;
    struct filename older;
    struct filename newer;
    struct filename_refusal refusal;
    assert_int_equal(filename_parse(slice_of("truc_0_4_9.ino.d1.bin"), &older, &refusal), FILENAME_OK);
    assert_int_equal(filename_parse(slice_of("d1/0.4.10.bin"), &newer, &refusal), FILENAME_OK);
    assert_true(version_compare(&older.version, &newer.version) < 0);
}

static const char *const ignored[] = {
    "",
    "README.md",
    "truc.ino",
    "truc_1_0.ino.d1_mini.elf",
    "d1_mini/1.0.bin.part",
    "1.0.gz",
    "bin",
    "d1_mini/bin",
    ".bin",
    ".bin.gz",
    "d1_mini/.1.0.bin",
    ".git/1.0.bin",
    "a/.stash/b/1.0.bin",
    ".hidden/truc_1_0.ino.d1.bin",
    "../1.0.bin",
    "d1_mini/1.0.bin~",
    "d1_mini/1.0.bin.gz.tmp",
    "x\xff.txt",
};

static void test_ignored(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(ignored); i++) {
        struct filename name;
        struct filename_refusal refusal = { "", "" };
        if (filename_parse(slice_of(ignored[i]), &name, &refusal) != FILENAME_IGNORED) {
            fail_msg("\"%s\" is not ignored: %s", ignored[i], refusal.detail);
        }
        assert_string_equal(refusal.detail, "");
    }
}

static const struct {
    const char *path;
    const char *detail; /* a part of it */
    const char *remedy; /* a part of it */
} refused[] = {
    /* exports that lack something */
    { "truc_1_0.ino.d1_mini.bin.signed", "ends in .signed", "in the place of the image" },
    { "truc.ino.d1_mini.bin", "no version before .ino", "rename it to truc_1_0_0.ino.d1_mini.bin" },
    { "truc.ino.d1_mini.bin.gz", "no version before .ino", "truc_1_0_0.ino.d1_mini.bin.gz" },
    { "truc_neuf.ino.d1_mini.bin", "no version before .ino", "truc_neuf_1_0_0.ino.d1_mini.bin" },
    { "truc1.0.ino.d1_mini.bin", "no version before .ino", "truc1.0_1_0_0.ino.d1_mini.bin" },
    { "truc.ino.bin", "no type between .ino and .bin", "rename it to truc_1_0_0.ino.d1_mini.bin" },
    { "truc_2_1.ino.bin", "no type", "rename it to truc_2_1.ino.d1_mini.bin" },
    { "esp32/truc_2_1.ino.bin", "no type", "rename it to truc_2_1.ino.esp32.bin" },
    { "esp32/1.0.0.ino.bin", "no type", "rename it to sketch_1.0.0.ino.esp32.bin" },
    { "truc_1_0.ino..bin", "\"\" is no type", "truc_1_0.ino.name.bin" },
    { "truc_1_0.ino.d1 mini.bin", "a blank in", "rename it with _ or -" },
    { "truc 0_5_3.ino.d1_mini.bin", "a blank in", "rename it with _ or -" },
    { "d1_mini/1.0.BIN", "in capitals", "small letters" },
    { "truc_1_0.ino.d1_mini.Bin.gz", "in capitals", "small letters" },
    { "2048_1_0_0.ino.d1.bin", "no project", "sketch_2048_1_0_0.ino.d1.bin" },
    { "1_0.ino.d1.bin", "no project", "sketch_1_0.ino.d1.bin" },
    { "_1_0.ino.d1.bin", "no project", "rename it to sketch_1_0.ino.d1.bin" },
    { "truc_1_0 (1).ino.d1.bin", "a blank in", "rename it with _ or -" },
    { "truc_1_0@1.ino.d1.bin", "no version before .ino: a version has letters", "rename it to truc_1_0_0.ino.d1.bin" },
    { TEXT_64 "x_1.ino.d1.bin", "65 bytes long", "shorten" },
    /* the sketch's companions */
    { "truc.ino.bootloader.bin", "\"bootloader\" is a part of a build", "truc_1_0_0.ino.d1_mini.bin" },
    { "truc_1_0.ino.bootloader.bin", "\"bootloader\"", "truc_1_0.ino.d1_mini.bin" },
    { "truc_1_0.ino.partitions.bin", "\"partitions\"", "truc_1_0.ino.d1_mini.bin" },
    { "truc_1_0.ino.merged.bin", "\"merged\"", "truc_1_0.ino.d1_mini.bin" },
    { "truc_1_0.ino.esp32.merged.bin", "\"esp32.merged\"", "truc_1_0.ino.d1_mini.bin" },
    /* file systems */
    { "spiffs_0_4_99.bin", "no flash size", "rename it to spiffs_0_4_99_4M.bin" },
    { "littlefs_1.0_4m.bin", "no flash size", "rename it to littlefs_1.0_4M.bin" },
    { "littlefs_1.0_0M.bin", "no flash size", "rename it to littlefs_1.0_4M.bin" },
    { "littlefs_1.0_257M.bin", "no flash size", "rename it to littlefs_1.0_4M.bin" },
    { "littlefs_1.0_99999999999999999999M.bin", "no flash size", "rename it to littlefs_1.0_4M.bin" },
    { "littlefs_beta_4M.bin", "a version needs a digit, such as 1_0_0", "rename it to littlefs_1_0_0_4M.bin" },
    { "littlefs_.bin", "a version needs a digit, such as 1_0_0", "rename it to littlefs_1_0_0_4M.bin" },
    { "littlefs_16M.bin", "a version needs a digit, such as 1_0_0", "rename it to littlefs_1_0_0_16M.bin" },
    { "d1_mini/spiffs_1.0.bin", "no flash size", "rename it to spiffs_1.0_4M.bin" },
    /* type folders */
    { "d1_mini/firmware.bin", "\"firmware\" is no version", "rename it to d1_mini/1_0_0.bin" },
    { "d1_mini/firmware.fs.bin.gz", "\"firmware\" is no version", "rename it to d1_mini/1_0_0.fs.bin.gz" },
    { "sdk/user1.bin", "\"user1\" is no version", "rename it to sdk/1_0_0.user1.bin" },
    { "sdk/user2.4096.new.6.bin", "is no version", "rename it to sdk/1_0_0.user2.bin" },
    { "sdk/fs.bin", "is no version", "rename it to sdk/1_0_0.fs.bin" },
    { "d1_mini/1.0 (1).bin", "a blank in", "rename it with _ or -" },
    { "d1_mini/" TEXT_64 "5.bin", "64 characters", "rename it" },
    { "d1 mini/1.0.bin", "a blank in", "rename it with _ or -" },
    { TEXT_64 "x/1.0.bin", "is no type", "rename the folder to " TEXT_64 },
    { "/1.0.bin", "is no type", "rename the folder to" },
    { "a/d1_mini/1.0.bin", "more than one folder deep", "move it to d1_mini/1.0.bin" },
    { "a/b/c d/1.0.bin", "a blank in", "rename it with _ or -" },
    { "d1_mini//1.0.bin", "more than one folder deep", "move it to <type>/1.0.bin" },
    /* labels */
    { "my firmware.bin", "a blank in", "rename it with _ or -" },
    { TEXT_64 "x.bin", "is no label", "rename it to " TEXT_64 ".bin" },
    { "T\xc3\xbcr.bin", "\"T\\xc3\\xbcr\" is no label", "rename it to T__r.bin" },
    /* bytes */
    { "tr\x1b[31mc_1_0.ino.d1.bin", "\"tr\\x1b[31mc_1_0.ino.d1.bin\"", "letters, digits" },
    { "d1_mini/1.0\n.bin", "\"d1_mini/1.0\\x0a.bin\"", "letters, digits" },
    { "\xff\xfe.bin", "\"\\xff\\xfe.bin\"", "letters, digits" },
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct filename name;
        struct filename untouched;
        struct filename_refusal refusal = { "", "" };
        memset(&name, 0x5a, sizeof name);
        untouched = name;
        if (filename_parse(slice_of(refused[i].path), &name, &refusal) != FILENAME_REFUSED) {
            fail_msg("\"%s\" is not refused", refused[i].path);
        }
        if (strstr(refusal.detail, refused[i].detail) == NULL || strstr(refusal.remedy, refused[i].remedy) == NULL) {
            fail_msg("\"%s\": %s; %s", refused[i].path, refusal.detail, refusal.remedy);
        }
        assert_memory_equal(&name, &untouched, sizeof name);
    }
}

/* Advice that is refused in its turn would be worse than none. */
static void test_remedies_are_accepted(void **state)
{
    (void)state;
    static const char lead[] = "rename it to ";
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct filename name;
        struct filename_refusal refusal;
        struct filename_refusal again = { "", "" };
        assert_int_equal(filename_parse(slice_of(refused[i].path), &name, &refusal), FILENAME_REFUSED);
        if (strncmp(refusal.remedy, lead, strlen(lead)) == 0) {
            struct slice proposed = { refusal.remedy + strlen(lead), strcspn(refusal.remedy + strlen(lead), ": ") };
            if (filename_parse(proposed, &name, &again) != FILENAME_OK) {
                fail_msg("\"%s\": %s, but: %s", refused[i].path, refusal.remedy, again.detail);
            }
        }
    }
}

/* A NUL ends no name: what stands behind it counts. */
static void test_nul_in_the_path(void **state)
{
    (void)state;
    struct filename name;
    struct filename_refusal refusal;
    struct slice path = { "d1/1.0\0.bin", 11 };
    assert_int_equal(filename_parse(path, &name, &refusal), FILENAME_REFUSED);
    assert_non_null(strstr(refusal.detail, "d1/1.0\\x00.bin"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),        cmocka_unit_test(test_version_is_parsed),
        cmocka_unit_test(test_ignored),         cmocka_unit_test(test_refused),
        cmocka_unit_test(test_nul_in_the_path), cmocka_unit_test(test_remedies_are_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
