/* Bytes that may not be text: what is taken for a number, a digest or a name, and what may reach a terminal.
 *
 * The hard thing is the border: absent is not empty, the largest number is still one, a cut form is never half there.
 */
#include "base/text.h"

#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
/* With the NULs in it. */
/* clang-format off */
#define BYTES(literal) { literal, sizeof(literal) - 1 }
/* clang-format on */

static const struct slice absent = { NULL, 0 };

/* --- slices ------------------------------------------------------------------------------------------------------ */

/* Else a header that was not sent would equal one that was sent empty. */
static void test_absent_is_not_empty(void **state)
{
    (void)state;
    assert_true(slice_is(slice_of(""), ""));
    assert_false(slice_is(absent, ""));
    assert_false(slice_is_nocase(absent, ""));
    assert_false(slice_starts_with(absent, ""));
    assert_false(slice_ends_with(absent, ""));
    assert_null(slice_of(NULL).at);
}

/* Else `spiffsX`, or a name cut at a NUL, would pass for `spiffs`. */
static void test_whole_bytes_are_compared(void **state)
{
    (void)state;
    assert_true(slice_is(slice_of("spiffs"), "spiffs"));
    assert_false(slice_is(slice_of("spiffsX"), "spiffs"));
    assert_false(slice_is(slice_of("spiff"), "spiffs"));
    assert_false(slice_is(slice_of("Spiffs"), "spiffs"));
    assert_false(slice_is((struct slice)BYTES("spiffs\0"), "spiffs"));
    assert_true(slice_is_nocase(slice_of("SpIfFs"), "spiffs"));
    assert_false(slice_is_nocase(slice_of("spiff"), "spiffs"));
    assert_true(slice_starts_with(slice_of("/update/x"), "/update/"));
    assert_false(slice_starts_with(slice_of("/updat"), "/update/"));
    assert_true(slice_ends_with(slice_of("a.bin.gz"), ".bin.gz"));
    assert_false(slice_ends_with(slice_of("n.gz"), ".bin.gz"));
}

static void test_trim_takes_blanks_and_tabs_alone(void **state)
{
    (void)state;
    assert_true(slice_is(slice_trim(slice_of(" \t a b\t ")), "a b"));
    assert_true(slice_is(slice_trim(slice_of("\ra\n")), "\ra\n"));
    assert_int_equal(slice_trim(slice_of(" \t ")).len, 0);
    assert_int_equal(slice_trim(absent).len, 0);
}

/* Else `door  0.5.0` would have three words, and a line of one word a second one. */
static void test_words(void **state)
{
    (void)state;
    struct slice rest = slice_of(" door \t 0.5.0 ");
    assert_true(slice_is(slice_next_word(&rest), "door"));
    assert_true(slice_is(slice_next_word(&rest), "0.5.0"));
    assert_int_equal(rest.len, 0);
    assert_int_equal(slice_next_word(&rest).len, 0);
    rest = absent;
    assert_int_equal(slice_next_word(&rest).len, 0);
}

static void test_copy_fits_or_leaves_nothing(void **state)
{
    (void)state;
    char to[5] = "????";
    assert_true(slice_copy(slice_of("1234"), to, sizeof to));
    assert_string_equal(to, "1234");
    assert_false(slice_copy(slice_of("12345"), to, sizeof to));
    assert_string_equal(to, ""); /* a cut name is another name */
    assert_true(slice_copy(absent, to, sizeof to));
    assert_string_equal(to, "");
}

/* --- digests and numbers ----------------------------------------------------------------------------------------- */

static void test_hex_there_and_back(void **state)
{
    (void)state;
    const uint8_t bytes[4] = { 0x00, 0x9f, 0xA0, 0xff };
    uint8_t back[4] = { 1, 2, 3, 4 };
    char text[9];
    hex_encode(bytes, sizeof bytes, text);
    assert_string_equal(text, "009fa0ff");
    assert_true(hex_decode(slice_of("009FA0fF"), back, sizeof back)); /* ESP32 writes its SHA-256 in capitals */
    assert_memory_equal(back, bytes, sizeof bytes);
}

static void test_hex_refused_writes_nothing(void **state)
{
    (void)state;
    static const char *const refused[] = { "", "009fa0f", "009fa0fff", "009fa0fg", "0x9fa0ff", " 09fa0ff" };
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        uint8_t back[4] = { 1, 2, 3, 4 };
        assert_false(hex_decode(slice_of(refused[i]), back, sizeof back));
        assert_memory_equal(back, ((uint8_t[]){ 1, 2, 3, 4 }), 4);
    }
    uint8_t none;
    assert_false(hex_decode(absent, &none, 0));
}

/* Each byte in each place, for what one place lets pass another may not. */
static void test_hex_refused_anywhere(void **state)
{
    (void)state;
    for (size_t place = 0; place < 8; place++) {
        for (int c = 0; c <= UCHAR_MAX; c++) {
            char digits[] = "009fa0ff";
            uint8_t back[4];
            digits[place] = (char)c;
            bool is_digit = c != 0 && strchr("0123456789abcdefABCDEF", c) != NULL;
            assert_int_equal(hex_decode((struct slice){ digits, 8 }, back, sizeof back), is_digit);
        }
    }
}

static const struct {
    const char *text;
    uint64_t max;
    bool good;
    uint64_t number;
} numbers[] = {
    { "0", 10, true, 0 },
    { "007", 10, true, 7 },
    { "10", 10, true, 10 },
    { "11", 10, false, 0 },
    { "18446744073709551615", UINT64_MAX, true, UINT64_MAX },
    { "18446744073709551616", UINT64_MAX, false, 0 }, /* one too many for 64 bits */
    { "99999999999999999999999999", UINT64_MAX, false, 0 },
    { "00000000000000000000000000001", 10, true, 1 }, /* length alone is no overflow */
    { "", 10, false, 0 },
    { "+1", 10, false, 0 },
    { "-1", UINT64_MAX, false, 0 }, /* strtoul would make it the largest */
    { " 1", 10, false, 0 },
    { "1 ", 10, false, 0 },
    { "0x1", 10, false, 0 },
    { "1e3", 10000, false, 0 },
    { "1.0", 10, false, 0 },
};

/* Else a length or a free space from the wire could become any other number. */
static void test_numbers(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        uint64_t number = 4711;
        bool good = number_parse(slice_of(numbers[i].text), numbers[i].max, &number);
        if (good != numbers[i].good || number != (good ? numbers[i].number : 4711)) {
            fail_msg("\"%s\" up to %" PRIu64 ": %s, %" PRIu64, numbers[i].text, numbers[i].max,
                     good ? "taken" : "refused", number);
        }
    }
    uint64_t number = 4711;
    assert_false(number_parse(absent, 10, &number));
}

typedef bool (*quantity_parse_fn)(struct slice text, uint64_t max, uint64_t *value);

static const struct {
    quantity_parse_fn parse;
    const char *text;
    uint64_t max;
    bool good;
    uint64_t value;
} quantities[] = {
    { duration_parse, "500ms", 1000, true, 500 },
    { duration_parse, "10s", 10000, true, 10000 },
    { duration_parse, "5m", 300000, true, 300000 },
    { duration_parse, "24h", 86400000, true, 86400000 },
    { duration_parse, "0s", 0, true, 0 },
    { duration_parse, " 1s ", 1000, true, 1000 },
    { duration_parse, "1001ms", 1000, false, 0 },
    { duration_parse, "11s", 10999, false, 0 }, /* the limit in the unit's own steps */
    { duration_parse, "5124095576030h", UINT64_MAX, true, 5124095576030u * 3600000u },
    { duration_parse, "5124095576031h", UINT64_MAX, false, 0 }, /* would wrap round to a short time */
    { duration_parse, "10", 99999, false, 0 },                  /* of what? */
    { duration_parse, "ms", 1000, false, 0 },
    { duration_parse, "1 s", 99999, false, 0 },
    { duration_parse, "1S", 99999, false, 0 },
    { duration_parse, "-1s", 99999, false, 0 },
    { duration_parse, "1.5s", 99999, false, 0 },
    { duration_parse, "", 99999, false, 0 },
    { size_parse, "512", 512, true, 512 },
    { size_parse, "64K", 65536, true, 65536 },
    { size_parse, "256M", 1u << 30, true, 256u << 20 },
    { size_parse, "1G", 1u << 30, true, 1u << 30 },
    { size_parse, "17179869184G", UINT64_MAX, false, 0 }, /* would wrap round to zero */
    { size_parse, "513", 512, false, 0 },
    { size_parse, "K", 65536, false, 0 },
    { size_parse, "64k", 65536, false, 0 },
    { size_parse, "64KB", 99999, false, 0 },
    { size_parse, "", 65536, false, 0 },
};

/* Else an operator's `10` would mean ten of something, or a huge time would wrap round to a short one. */
static void test_durations_and_sizes(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(quantities); i++) {
        uint64_t value = 4711;
        bool good = quantities[i].parse(slice_of(quantities[i].text), quantities[i].max, &value);
        if (good != quantities[i].good || value != (good ? quantities[i].value : 4711)) {
            fail_msg("\"%s\" up to %" PRIu64 ": %s, %" PRIu64, quantities[i].text, quantities[i].max,
                     good ? "taken" : "refused", value);
        }
    }
}

static const struct {
    uint64_t value;
    const char *as_duration;
    const char *as_size;
} printed[] = {
    { 0, "0s", "0" },
    { 1, "1ms", "1" },
    { 1024, "1024ms", "1K" },
    { 1500, "1500ms", "1500" },
    { 60000, "1m", "60000" },
    { 90000, "90s", "90000" },
    { 3600000, "1h", "3600000" },
    { 86400000, "24h", "84375K" },
    { 1ull << 40, "1099511627776ms", "1024G" },
    { UINT64_MAX, "18446744073709551615ms", "18446744073709551615" }, /* 22 characters: `to` of 24 is enough */
};

/* Else --check-config would print a file that means something else than what is in effect. */
static void test_printed_quantities_read_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(printed); i++) {
        char text[24];
        uint64_t back = 4711;
        duration_print(printed[i].value, text, sizeof text);
        assert_string_equal(text, printed[i].as_duration);
        assert_true(duration_parse(slice_of(text), UINT64_MAX, &back));
        assert_true(back == printed[i].value);
        size_print(printed[i].value, text, sizeof text);
        assert_string_equal(text, printed[i].as_size);
        assert_true(size_parse(slice_of(text), UINT64_MAX, &back));
        assert_true(back == printed[i].value);
    }
}

/* --- what people see --------------------------------------------------------------------------------------------- */

/* Else a device's version header could write control sequences to the operator's terminal, or forge a log line. */
static void test_escape_lets_only_printable_ascii_out(void **state)
{
    (void)state;
    char all[256], to[1200];
    for (unsigned i = 0; i < sizeof all; i++) {
        all[i] = (char)i;
    }
    size_t n = text_escape((struct slice){ all, sizeof all }, to, sizeof to);
    assert_int_equal(n, strlen(to));
    assert_int_equal(n, 93 + 2 * 2 + 161 * 4);
    for (size_t i = 0; i < n; i++) {
        assert_in_range((unsigned char)to[i], 0x20, 0x7e);
    }
    text_escape((struct slice)BYTES("a\"b\\c\n\x1b[0m\0\xc3\xa4~"), to, sizeof to);
    assert_string_equal(to, "a\\\"b\\\\c\\x0a\\x1b[0m\\x00\\xc3\\xa4~");
}

/* Else the end of a cut text could be half an escape, which swallows the quote behind it. */
static void test_escape_cuts_between_forms(void **state)
{
    (void)state;
    for (size_t size = 1; size <= 9; size++) {
        char to[10];
        memset(to, '?', sizeof to);
        size_t n = text_escape(slice_of("a\n\"b"), to, size);
        assert_true(n < size);
        assert_int_equal(n, strlen(to));
        assert_true(n == 0 || n == 1 || n == 5 || n == 7 || n == 8);
        assert_int_equal(to[size], '?');
    }
    char untouched = '?';
    assert_int_equal(text_escape(slice_of("a"), &untouched, 0), 0);
    assert_int_equal(untouched, '?');
}

static const struct {
    const char *what;
    struct slice bytes;
    bool clean;
} utf8[] = {
    { "nothing", { "", 0 }, true },
    { "ASCII", BYTES("a~ "), true },
    { "two, three and four bytes", BYTES("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), true },
    { "the last code point", BYTES("\xf4\x8f\xbf\xbf"), true },
    { "a NUL", BYTES("a\0b"), false },
    { "a control character", BYTES("a\x1b"), false },
    { "a line end", BYTES("a\n"), false },
    { "DEL", BYTES("\x7f"), false },
    { "a slash in two bytes", BYTES("\xc0\xaf"), false },
    { "a slash in three bytes", BYTES("\xe0\x80\xaf"), false },
    { "a euro in four bytes", BYTES("\xf0\x82\x82\xac"), false },
    { "a surrogate", BYTES("\xed\xa0\x80"), false },
    { "beyond the last code point", BYTES("\xf4\x90\x80\x80"), false },
    { "a cut sequence", BYTES("\xe2\x82"), false },
    { "a sequence cut by ASCII", BYTES("\xe2\x82z"), false },
    { "a continuation alone", BYTES("\x80"), false },
    { "a control character in two bytes", BYTES("\xc2\x9b"), false },
    { "the first that is none", BYTES("\xc2\xa0"), true },
    { "Latin-1", BYTES("\xe4pfel"), false },
    { "a line end of three bytes", BYTES("\xe2\x80\xa8"), false },
    { "right to left",
      BYTES("a\xe2\x80\xae"
            "gpj"),
      false },
    { "the end of such", BYTES("\xe2\x81\xa9"), false },
    { "a mark of right to left", BYTES("\xe2\x80\x8f"), false },
    { "the Arabic one", BYTES("\xd8\x9c"), false },
    { "before and behind that", BYTES("\xd8\x9b\xd8\x9d\xe2\x80\x8d\xe2\x80\x90"), true },
    { "before and behind those", BYTES("\xe2\x80\xa7\xe2\x80\xaf\xe2\x81\xa5\xe2\x81\xaa"), true },
};

/* Else a file's name could be shown in one way and mean another. */
static void test_clean_utf8(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(utf8); i++) {
        if (text_is_clean_utf8(utf8[i].bytes) != utf8[i].clean) {
            fail_msg("%s should be %s", utf8[i].what, utf8[i].clean ? "clean" : "refused");
        }
    }
}

static const struct {
    const char *text;
    size_t size;
    const char *shown;
} shows[] = {
    { "", 5, "" },
    { "gr\xc3\xbc\xc3\x9f dich \"\\", 50, "gr\xc3\xbc\xc3\x9f dich \"\\" },
    { "gr\xc3\xbc\xc3\x9f", 6, "gr\xc3\xbc" },
    { "gr\xc3\xbc\xc3\x9f", 4, "gr" },
    { "a\x1b[2J", 50, "a\\x1b[2J" },
    { "\xc2\x9b"
      "2J",
      50, "\\xc2\\x9b2J" },
    { "\xc3\xa4\x80", 50, "\xc3\xa4\\x80" },
};

/* Else what somebody wrote into a file could clear the terminal of whoever is told of it. */
static void test_shown_is_readable_and_harmless(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(shows); i++) {
        char to[60];
        text_show(slice_of(shows[i].text), to, shows[i].size);
        assert_string_equal(to, shows[i].shown);
    }
}

/* Else a message of ours about a foreign name would come with its own quotes escaped, or break the JSON it stands in.
 */
static void test_sentences_keep_their_quotes(void **state)
{
    (void)state;
    char to[200];
    static const struct slice sentence =
        BYTES("\"\xc3\xa4\x1b[0m\xff\xc3\" cannot be a \\\"type\\\", \0\x7f\xed\xa0\x80");
    size_t n = text_show(sentence, to, sizeof to);
    assert_string_equal(to, "\"\xc3\xa4\\x1b[0m\\xff\\xc3\" cannot be a \\\"type\\\", \\x00\\x7f\\xed\\xa0\\x80");
    assert_int_equal(n, strlen(to));
    for (size_t i = 0; i < COUNT_OF(utf8); i++) {
        n = text_show(utf8[i].bytes, to, sizeof to);
        assert_true(text_is_clean_utf8((struct slice){ to, n }));
        assert_true(!utf8[i].clean || (n == utf8[i].bytes.len && memcmp(to, utf8[i].bytes.at, n) == 0));
    }
    for (size_t size = 1; size <= 10; size++) {
        memset(to, '?', sizeof to);
        n = text_show((struct slice)BYTES("a\xe2\x82\xac\n\""), to, size);
        assert_true(n == 0 || n == 1 || n == 4 || n == 8 || n == 9);
        assert_true(n < size && n == strlen(to) && to[size] == '?');
    }
    assert_int_equal(text_show(slice_of("a"), to, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sentences_keep_their_quotes),
        cmocka_unit_test(test_absent_is_not_empty),
        cmocka_unit_test(test_whole_bytes_are_compared),
        cmocka_unit_test(test_trim_takes_blanks_and_tabs_alone),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_copy_fits_or_leaves_nothing),
        cmocka_unit_test(test_hex_there_and_back),
        cmocka_unit_test(test_hex_refused_writes_nothing),
        cmocka_unit_test(test_hex_refused_anywhere),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_durations_and_sizes),
        cmocka_unit_test(test_printed_quantities_read_back),
        cmocka_unit_test(test_escape_lets_only_printable_ascii_out),
        cmocka_unit_test(test_escape_cuts_between_forms),
        cmocka_unit_test(test_clean_utf8),
        cmocka_unit_test(test_shown_is_readable_and_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
