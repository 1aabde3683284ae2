/* Tables as people read them, and the text that goes into them.
 *
 * The hard thing: what a file is called was decided by whoever named it, and a terminal obeys what it is shown.
 */
#include "cli/shown.h"
#include "cli/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct table_column columns[] = { { "FILE", TABLE_LEFT }, { "SIZE", TABLE_RIGHT }, { "", TABLE_LEFT } };

static void assert_prints(struct table *table, const char *expected)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    table_print(table, to);
    fclose(to);
    assert_string_equal(text, expected);
    free(text);
    table_free(table);
}

static void test_columns_are_as_wide_as_their_widest_cell(void **state)
{
    (void)state;
    struct table *table = table_new(columns, 3);
    table_row(table, (const char *const[]){ "a.bin", "1 B", "newest" });
    table_row(table, (const char *const[]){ "longer.bin", "321.0 KiB", "" });
    assert_prints(table, "FILE             SIZE\n"
                         "a.bin             1 B  newest\n"
                         "longer.bin  321.0 KiB\n");
}

/* Else a row would seem to have slipped; and no line ends in blanks, which diffs and editors show. */
static void test_an_empty_cell_is_seen(void **state)
{
    (void)state;
    struct table *table = table_new(columns, 2);
    table_row(table, (const char *const[]){ "", "" });
    table_row(table, (const char *const[]){ "", "7" });
    assert_prints(table, "FILE  SIZE\n"
                         "-\n"
                         "-        7\n");
}

/* Else a file could hide its row, or the one above. */
static void test_cells_are_escaped_and_measured_so(void **state)
{
    (void)state;
    struct table *table = table_new(columns, 2);
    table_row(table, (const char *const[]){ "a\x1b[A\r\n\x7f\xc3\xbc", "1" });
    assert_prints(table, "FILE                         SIZE\n"
                         "a\\x1b[A\\x0d\\x0a\\x7f\\xc3\\xbc     1\n");
}

static void test_a_note_stands_below_its_row(void **state)
{
    (void)state;
    struct table *table = table_new(columns, 2);
    table_row(table, (const char *const[]){ "a", "1" });
    table_note(table, "rename it\nfirst");
    table_row(table, (const char *const[]){ "b", "2" });
    table_note(table, "");
    assert_prints(table, "FILE  SIZE\n"
                         "a        1\n"
                         "    rename it\\x0afirst\n"
                         "b        2\n");
}

static void test_many_rows(void **state)
{
    (void)state;
    char *text = NULL, cell[16];
    size_t size = 0, lines = 0;
    struct table *table = table_new(columns, 2);
    for (int i = 0; i < 1000; i++) {
        snprintf(cell, sizeof cell, "%d", i);
        table_row(table, (const char *const[]){ cell, cell });
    }
    FILE *to = open_memstream(&text, &size);
    table_print(table, to);
    fclose(to);
    for (size_t i = 0; i < size; i++) {
        lines += text[i] == '\n';
    }
    assert_int_equal(lines, 1001);
    assert_non_null(strstr(text, "\n999    999\n"));
    free(text);
    table_free(table);
}

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
    assert_string_equal(shown_age(60, room), "1 min 0 s");
    assert_string_equal(shown_age(3600 * 25, room), "1 d 1 h");
    assert_string_equal(shown_count(0, "device", room), "0 devices");
    assert_string_equal(shown_count(1, "device", room), "1 device");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_are_as_wide_as_their_widest_cell),
        cmocka_unit_test(test_an_empty_cell_is_seen),
        cmocka_unit_test(test_cells_are_escaped_and_measured_so),
        cmocka_unit_test(test_a_note_stands_below_its_row),
        cmocka_unit_test(test_many_rows),
        cmocka_unit_test(test_text_is_cut_between_escapes),
        cmocka_unit_test(test_sizes_and_times_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
