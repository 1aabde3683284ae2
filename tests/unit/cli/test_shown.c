/* What reaches a terminal: nothing that it would obey, and nothing cut.
 *
 * The hard thing is the width: one column too many and the terminal breaks the line itself, in the middle of a word.
 */
#include "cli/shown.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Half an escape would be read as something else; a cut never overruns. */
static void test_text_is_cut_between_escapes(void **state)
{
    (void)state;
    char to[8];
    memset(to, 'x', sizeof to);
    assert_int_equal(shown_text("ab\n\n", to, 7), 6);
    assert_string_equal(to, "ab\\x0a");
    assert_int_equal(to[7], 'x');
    assert_int_equal(shown_text("\n", to, 4), 0);
    assert_string_equal(to, "");
}

static void test_sizes_and_times_in_words(void **state)
{
    (void)state;
    char room[SHOWN_SIZE];
    assert_string_equal(shown_bytes(0, room), "0 B");
    assert_string_equal(shown_bytes(1023, room), "1023 B");
    assert_string_equal(shown_bytes(1024, room), "1.0 KiB");
    assert_string_equal(shown_bytes((1u << 20) - 1, room), "1.0 MiB"); /* not 1024.0 KiB */
    assert_string_equal(shown_bytes(328704, room), "321.0 KiB");
    assert_string_equal(shown_bytes(UINT64_MAX, room), "16777216.0 TiB");
    assert_string_equal(shown_clock(0, room), "0:00");
    assert_string_equal(shown_clock(754, room), "12:34");
    assert_string_equal(shown_clock(3723, room), "1:02:03");
    assert_string_equal(shown_age(59, room), "59 s");
    assert_string_equal(shown_age(60, room), "1 min");
    assert_string_equal(shown_age(61, room), "1 min 1 s");
    assert_string_equal(shown_age(3600 * 25, room), "1 d 1 h");
    assert_string_equal(shown_count(0, "device", room), "0 devices");
    assert_string_equal(shown_count(1, "device", room), "1 device");
}

/* What shown_wrapped writes. */
static const char *wrapped(const char *text, size_t column, size_t indent, size_t width)
{
    static char to[4096];
    to[0] = '\0';
    FILE *file = fmemopen(to, sizeof to, "w");
    shown_wrapped(file, text, column, indent, width);
    fclose(file);
    return to;
}

static void test_lines_break_between_words(void **state)
{
    (void)state;
    assert_string_equal(wrapped("one two three", 0, 0, 0), "one two three");
    assert_string_equal(wrapped("one two three", 0, 0, 14), "one two three");
    assert_string_equal(wrapped("one two three", 0, 0, 13), "one two\nthree"); /* the last column stays free */
    assert_string_equal(wrapped("one two three", 9, 2, 12), "\n  one two\n  three");
    assert_string_equal(wrapped("one two three", 9, 2, 15), "one\n  two three");
    assert_string_equal(wrapped("", 9, 2, 10), "");
    assert_string_equal(wrapped("a  \xff b", 0, 1, 8), "a  \\xff\n b"); /* an escape is as wide as it is shown */
}

/* A topic or an address that was broken could not be copied. */
static void test_a_long_word_stays_whole(void **state)
{
    (void)state;
    assert_string_equal(wrapped("to updraft/d1_mini/update: grant", 4, 4, 10),
                        "to\n    updraft/d1_mini/update:\n    grant");
    assert_string_equal(wrapped("updraft/d1_mini/update", 4, 4, 10), "updraft/d1_mini/update");
}

static void test_nothing_is_lost_at_any_width(void **state)
{
    (void)state;
    const char *text = "the broker's ACL denies publishing to updraft/d1_mini/update: \"grant\" the user X write on it";
    for (size_t width = 1; width < 120; width++) {
        char flat[4096];
        snprintf(flat, sizeof flat, "%s", wrapped(text, 3, 0, width));
        for (char *at = flat; (at = strchr(at, '\n')) != NULL;) {
            *at = ' ';
        }
        assert_string_equal(flat + (flat[0] == ' '), text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_cut_between_escapes),  cmocka_unit_test(test_sizes_and_times_in_words),
        cmocka_unit_test(test_lines_break_between_words),    cmocka_unit_test(test_a_long_word_stays_whole),
        cmocka_unit_test(test_nothing_is_lost_at_any_width),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
