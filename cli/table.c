#include "cli/table.h"

#include "cli/shown.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define GAP 2 /* blanks between columns */

struct row {
    char *cells[TABLE_COLUMNS_MAX]; /* escaped */
    char *note;                     /* NULL = none */
};

struct table {
    const struct table_column *columns;
    size_t column_count;
    struct row *rows;
    size_t row_count, row_room;
};

struct table *table_new(const struct table_column *columns, size_t count)
{
    assert(count >= 1 && count <= TABLE_COLUMNS_MAX);
    struct table *table = must(calloc(1, sizeof *table));
    table->columns = columns;
    table->column_count = count;
    return table;
}

void table_free(struct table *table)
{
    for (size_t i = 0; i < table->row_count; i++) {
        for (size_t k = 0; k < table->column_count; k++) {
            free(table->rows[i].cells[k]);
        }
        free(table->rows[i].note);
    }
    free(table->rows);
    free(table);
}

static char *escaped(const char *text)
{
    size_t size = 4 * strlen(text) + 1;
    char *to = must(malloc(size));
    shown_text(text, to, size);
    return to;
}

void table_row(struct table *table, const char *const *cells)
{
    if (table->row_count == table->row_room) {
        table->row_room = table->row_room == 0 ? 16 : 2 * table->row_room;
        table->rows = must(realloc(table->rows, table->row_room * sizeof *table->rows));
    }
    struct row *row = &table->rows[table->row_count++];
    row->note = NULL;
    for (size_t k = 0; k < table->column_count; k++) {
        bool dash = cells[k][0] == '\0' && k + 1 < table->column_count;
        row->cells[k] = escaped(dash ? "-" : cells[k]);
    }
}

void table_note(struct table *table, const char *note)
{
    assert(table->row_count > 0);
    struct row *row = &table->rows[table->row_count - 1];
    free(row->note);
    row->note = note[0] != '\0' ? escaped(note) : NULL;
}

static size_t column_width(const struct table *table, size_t k)
{
    size_t width = strlen(table->columns[k].heading);
    for (size_t i = 0; i < table->row_count; i++) {
        size_t length = strlen(table->rows[i].cells[k]);
        width = length > width ? length : width;
    }
    return width;
}

/* Blanks are kept back until something follows them, so that no line ends in any. */
static void print_cells(const struct table *table, const char *const *cells, const size_t *widths, FILE *to)
{
    size_t blanks = 0;
    for (size_t k = 0; k < table->column_count; k++) {
        size_t length = strlen(cells[k]), padding = widths[k] - length;
        bool right = table->columns[k].side == TABLE_RIGHT;
        blanks += right ? padding : 0;
        if (length > 0) {
            fprintf(to, "%*s%s", (int)blanks, "", cells[k]);
            blanks = 0;
        }
        blanks += (right ? 0 : padding) + GAP;
    }
    fputc('\n', to);
}

void table_print(const struct table *table, FILE *to)
{
    size_t widths[TABLE_COLUMNS_MAX];
    const char *cells[TABLE_COLUMNS_MAX];
    for (size_t k = 0; k < table->column_count; k++) {
        widths[k] = column_width(table, k);
        cells[k] = table->columns[k].heading;
    }
    print_cells(table, cells, widths, to);
    for (size_t i = 0; i < table->row_count; i++) {
        for (size_t k = 0; k < table->column_count; k++) {
            cells[k] = table->rows[i].cells[k];
        }
        print_cells(table, cells, widths, to);
        if (table->rows[i].note != NULL) {
            fprintf(to, "    %s\n", table->rows[i].note);
        }
    }
}
