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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_are_as_wide_as_their_widest_cell),
        cmocka_unit_test(test_an_empty_cell_is_seen),
        cmocka_unit_test(test_cells_are_escaped_and_measured_so),
        cmocka_unit_test(test_a_note_stands_below_its_row),
        cmocka_unit_test(test_many_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
