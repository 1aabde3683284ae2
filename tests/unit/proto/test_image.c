/* Tables, and the files that are no image at all. */
#include "tests/unit/proto/image_fixture.h"

static struct sample text_sample(const char *text)
{
    return sample_of(text, strlen(text));
}

static void test_chips_of_the_list_are_known(void **state)
{
    (void)state;
    assert_true(chip_is_known(0x0000));
    assert_true(chip_is_known(0x0020));
    assert_true(chip_is_known(0x8266));
    assert_false(chip_is_known(0xffff)); /* "none" in a header must not pass for a chip */
    assert_false(chip_is_known(0x0001));
    assert_true(chip_is_esp32_family(CHIP_ESP32_C3));
    assert_false(chip_is_esp32_family(CHIP_ESP8266));
    assert_false(chip_is_esp32_family(CHIP_UNKNOWN));
    assert_string_equal(chip_text(CHIP_ESP32_C61), "ESP32-C61");
    assert_string_equal(chip_text((enum chip)0x1234), "unknown chip");
}

static void test_every_value_has_a_text(void **state)
{
    (void)state;
    assert_string_equal(image_fault_word(IMAGE_FAULT_FACTORY), "factory-image");
    assert_string_equal(image_fault_word((enum image_fault)999), "unknown");
    assert_string_equal(flash_mode_text(IMAGE_FLASH_DOUT), "dout");
    assert_string_equal(flash_mode_text(4), "unknown");
}

static void test_empty_file(void **state)
{
    (void)state;
    expect_fault(text_sample(""), IMAGE_USE_SKETCH, IMAGE_FAULT_EMPTY, "0 bytes");
    struct image_verdict verdict;
    struct image_facts facts;
    assert_false(image_check(NULL, 0, IMAGE_USE_FS, &facts, &verdict));
}

static void test_file_over_the_bound_is_not_looked_at(void **state)
{
    (void)state;
    struct image_verdict verdict;
    struct image_facts facts;
    static const uint8_t byte; /* one byte alone is there: a look at more would be seen by the sanitizer */
    assert_false(image_check(&byte, IMAGE_BYTES_MAX + 1, IMAGE_USE_SKETCH, &facts, &verdict));
    assert_int_equal(verdict.fault, IMAGE_FAULT_TOO_LARGE);
    assert_non_null(strstr(verdict.detail, "33554433"));
}

static void test_web_pages_in_any_dress(void **state)
{
    (void)state;
    static const char *const pages[] = {
        "<!DOCTYPE html><html>", " \r\n\t<html lang=en>", "<!doctype HTML>",   "<HTML>",
        "<?xml version='1.0'?>", "\xef\xbb\xbf<html>",    "<!-- error --><p>",
    };
    for (size_t i = 0; i < COUNT_OF(pages); i++) {
        expect_fault(text_sample(pages[i]), IMAGE_USE_SKETCH, IMAGE_FAULT_HTML, "a web page of");
        expect_fault(text_sample(pages[i]), IMAGE_USE_FS, IMAGE_FAULT_HTML, "a web page of");
    }
    expect_fault(text_sample("<p>not quite"), IMAGE_USE_SKETCH, IMAGE_FAULT_NOT_AN_IMAGE, "3c703e6e6f742071");
    expect_fault(text_sample(" \n "), IMAGE_USE_SKETCH, IMAGE_FAULT_NOT_AN_IMAGE, "200a20");
}

static void test_strangers_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *name;
    } strangers[] = {
        { "PK\3\4....", "zip" },
        { "\x7f"
          "ELF\1\1\1",
          "ELF" },
        { "UF2\nWQ]\x9e", "UF2" },
        { ":1000000000", "Intel hex" },
        { "\xaa\x50\1\2", "partition table" },
        { "404: Not Found", "3430343a204e6f74" },
    };
    for (size_t i = 0; i < COUNT_OF(strangers); i++) {
        expect_fault(text_sample(strangers[i].bytes), IMAGE_USE_SKETCH, IMAGE_FAULT_NOT_AN_IMAGE, strangers[i].name);
    }
}

static void test_erased_flash_is_no_image(void **state)
{
    (void)state;
    uint8_t blank[0x2001];
    memset(blank, 0xff, sizeof blank);
    expect_fault(sample_of(blank, 4096), IMAGE_USE_SKETCH, IMAGE_FAULT_NOT_AN_IMAGE, "ffffffffffffffff");
    expect_fault(sample_of(blank, sizeof blank), IMAGE_USE_FS, IMAGE_FAULT_NOT_AN_IMAGE, "ffffffffffffffff");
}

/* An image under a name of another use would be sent to the wrong part of a device's flash. */
static void test_name_and_kind_must_agree(void **state)
{
    (void)state;
    static const struct {
        enum image_make_kind kind;
        enum image_use use;
    } kinds[] = {
        { IMAGE_MAKE_ESP8266, IMAGE_USE_SKETCH }, { IMAGE_MAKE_TASMOTA, IMAGE_USE_SKETCH },
        { IMAGE_MAKE_ESP32, IMAGE_USE_SKETCH },   { IMAGE_MAKE_USER1, IMAGE_USE_SLOT },
        { IMAGE_MAKE_USER2, IMAGE_USE_SLOT },     { IMAGE_MAKE_SPIFFS, IMAGE_USE_FS },
        { IMAGE_MAKE_LITTLEFS, IMAGE_USE_FS },
    };
    static const enum image_use uses[] = { IMAGE_USE_SKETCH, IMAGE_USE_FS, IMAGE_USE_SLOT };
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        for (size_t k = 0; k < COUNT_OF(uses); k++) {
            struct sample sample = sample_make((struct image_make){ .kind = kinds[i].kind });
            if (uses[k] == kinds[i].use) {
                expect_ok(&sample, uses[k]);
                free(sample.at);
            } else {
                expect_fault(sample, uses[k], IMAGE_FAULT_WRONG_USE, "its name says");
            }
        }
    }
}

static void test_wrong_use_says_how_to_name_it(void **state)
{
    (void)state;
    struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_LITTLEFS });
    struct image_verdict verdict;
    struct image_facts facts;
    assert_false(image_check(sample.at, sample.n, IMAGE_USE_SKETCH, &facts, &verdict));
    assert_string_equal(verdict.detail, "it is a LittleFS image, its name says a sketch");
    assert_non_null(strstr(verdict.remedy, ".fs.bin"));
    free(sample.at);
}

/* The catalog compares facts of two scans byte for byte. */
static void test_same_bytes_same_facts(void **state)
{
    (void)state;
    struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP32 });
    struct image_facts first;
    struct image_facts second;
    struct image_verdict verdict;
    memset(&first, 0x11, sizeof first);
    memset(&second, 0xee, sizeof second);
    assert_true(image_check(sample.at, sample.n, IMAGE_USE_SKETCH, &first, &verdict));
    assert_true(image_check(sample.at, sample.n, IMAGE_USE_SKETCH, &second, &verdict));
    assert_int_equal(first.image_bytes, second.image_bytes);
    assert_memory_equal(first.run_md5, second.run_md5, sizeof first.run_md5);
    assert_memory_equal(first.md5, second.md5, sizeof first.md5);
    assert_memory_equal(first.app_version, second.app_version, sizeof first.app_version);
    free(sample.at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chips_of_the_list_are_known),
        cmocka_unit_test(test_every_value_has_a_text),
        cmocka_unit_test(test_empty_file),
        cmocka_unit_test(test_file_over_the_bound_is_not_looked_at),
        cmocka_unit_test(test_web_pages_in_any_dress),
        cmocka_unit_test(test_strangers_are_named),
        cmocka_unit_test(test_erased_flash_is_no_image),
        cmocka_unit_test(test_name_and_kind_must_agree),
        cmocka_unit_test(test_wrong_use_says_how_to_name_it),
        cmocka_unit_test(test_same_bytes_same_facts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
