/* The types that somebody is shown who named another. */
#include "server/known_types.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void add(struct catalog *catalog, const char *path)
{
    static uint64_t inode;
    struct filename name;
    struct filename_refusal refusal;
    struct image_facts facts = { .kind = IMAGE_ESP8266, .chip = CHIP_ESP8266 };
    struct file_identity identity = { .device = 1, .inode = ++inode, .size = 7, .mtime_ns = 8, .ctime_ns = 9 };
    assert_int_equal(filename_parse(slice_of(path), &name, &refusal), FILENAME_OK);
    (void)catalog_add(catalog, path, &name, &facts, &identity);
}

static struct catalog *seal(struct catalog *catalog)
{
    catalog_seal(catalog);
    catalog_adopt(catalog);
    return catalog;
}

/* Else the one that was meant stands behind a hundred others, or not at all. */
static void test_the_nearest_first_each_once(void **state)
{
    (void)state;
    static const struct {
        const char *wanted, *remedy;
    } rows[] = {
        { "porhc", "types there are: porch, gate, d1_mini, d1_mini_pro" },
        { "d1_mni", "types there are: d1_mini, d1_mini_pro, gate, porch" },
        { "d1", "types there are: d1_mini, d1_mini_pro, gate, porch" }, /* begin so */
    };
    char text[400];
    struct catalog *catalog = catalog_new();
    add(catalog, "gate/1.0.bin");
    add(catalog, "d1_mini/1.0.bin");
    add(catalog, "d1_mini/2.0.bin");
    add(catalog, "d1_mini_pro/1.0.bin");
    add(catalog, "porch/1.0.bin");
    add(catalog, "littlefs_1_5_4M.bin"); /* of no type */
    seal(catalog);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        known_types_remedy(catalog, slice_of(rows[i].wanted), text, sizeof text);
        assert_string_equal(text, rows[i].remedy);
    }
    char longest[500];
    memset(longest, 'x', sizeof longest);
    known_types_remedy(catalog, (struct slice){ longest, sizeof longest }, text, sizeof text);
    assert_non_null(strstr(text, "d1_mini_pro"));
    catalog_unref(catalog);
}

static void test_there_is_none(void **state)
{
    (void)state;
    char text[400];
    struct catalog *catalog = seal(catalog_new());
    known_types_remedy(catalog, slice_of("d1"), text, sizeof text);
    assert_string_equal(text, "the repository has none yet: add an image");
    catalog_unref(catalog);
}

/* Else the list is cut in the middle of a name, and nobody hears that there are more. */
static void test_more_than_are_shown(void **state)
{
    (void)state;
    char path[100], text[400], small[200];
    struct catalog *catalog = catalog_new();
    for (int i = 0; i < 40; i++) {
        snprintf(path, sizeof path, "type%02d/1.0.bin", i);
        add(catalog, path);
    }
    seal(catalog);
    known_types_remedy(catalog, slice_of("typ39"), text, sizeof text);
    assert_non_null(strstr(text, "types there are: type39, "));
    assert_non_null(strstr(text, " and 28 more: `updraft firmware ls`"));
    known_types_remedy(catalog, slice_of("typ39"), small, sizeof small);
    assert_non_null(strstr(small, " more: `updraft firmware ls`"));
    assert_true(strlen(small) < sizeof small - 1);
    catalog_unref(catalog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_nearest_first_each_once),
        cmocka_unit_test(test_there_is_none),
        cmocka_unit_test(test_more_than_are_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
