/* A table for people: columns as wide as their widest cell, numbers to the right, foreign bytes escaped. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stddef.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 10

struct table_column {
    const char *heading;
    enum { TABLE_LEFT, TABLE_RIGHT } side;
};

struct table; /* grows with its rows */

struct table *table_new(const struct table_column *columns, size_t count); /* `columns` is borrowed */
void table_free(struct table *table);

/* A row of as many cells as there are columns; they are copied. An empty one is shown as "-", but not in the last
 * column. */
void table_row(struct table *table, const char *const *cells);

/* A line below the last row, indented; nothing where it is empty. */
void table_note(struct table *table, const char *note);

void table_print(const struct table *table, FILE *to);

#endif
