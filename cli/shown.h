/* What reaches a person's terminal: foreign text without its control bytes, sizes and times in words, and messages that
 * name the thing, the reason and the remedy. */
#ifndef CLI_SHOWN_H
#define CLI_SHOWN_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Printable ASCII stays as it is; every other byte becomes \xHH, so that a file's name can neither move the cursor nor
 * pass for another. Cuts at `size`, always terminates. Returns the characters written. */
size_t shown_text(const char *text, char *to, size_t size);

/* The same, of any length, to a stream. */
void shown_print(FILE *to, const char *text);

/* The same, broken between words so that no line reaches `width` (0: never broken). The text begins at `column`, its
 * further lines at `indent`. Nothing is cut: a word that is longer stays whole, so that it can be copied. */
void shown_wrapped(FILE *to, const char *text, size_t column, size_t indent, size_t width);

/* The columns of a stream's terminal; 0 where it is none. */
size_t shown_width(FILE *to);

#define SHOWN_SIZE 32 /* room for each of these */

/* "812 B", "321.0 KiB", "4.2 MiB". */
const char *shown_bytes(uint64_t bytes, char to[SHOWN_SIZE]);

/* "0:07", "12:34", "1:02:03": time to wait for. */
const char *shown_clock(uint64_t seconds, char to[SHOWN_SIZE]);

/* "4 s", "3 min 5 s", "5 min", "2 h 10 min", "5 d 3 h": time gone by. */
const char *shown_age(uint64_t seconds, char to[SHOWN_SIZE]);

/* "3 min 5 s ago": a moment such as "2026-11-21T07:00:00Z", by this machine's clock; "" of what is none. */
const char *shown_ago(const char *moment, char to[SHOWN_SIZE]);

/* "1 device", "3 devices" (the plural adds an s). */
const char *shown_count(uint64_t n, const char *noun, char to[SHOWN_SIZE]);

/* `PROGRAM: message`, and the remedy, where there is one, on a line of its own; both escaped, on stderr, and wrapped
 * where that is a terminal. */
void shown_problem(const char *program, const char *message, const char *remedy);

/* `LABEL: text` on stderr, in the same way. */
void shown_note(const char *label, const char *text);

/* Ends the program with a message where `memory` is NULL: a program that runs for a moment has nothing to save. */
void *must(void *memory);

#endif
