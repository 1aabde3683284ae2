/* Small operations on bytes that may not be text: slices, hexadecimal, bounded numbers, escaping.
 *
 * Nothing here allocates, and nothing depends on the locale.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

/* Borrowed bytes, not terminated. { NULL, 0 } means "absent"; a present slice may be empty. */
struct slice {
    const char *at;
    size_t len;
};

static inline struct slice slice_of(const char *text)
{
    return (struct slice){ text, text != NULL ? strlen(text) : 0 };
}

/* Exactly, byte for byte; and with ASCII letters in either case. These are in the header so that the lengths of
 * literals are known. */
static inline bool slice_is(struct slice slice, const char *text)
{
    return slice.at != NULL && strlen(text) == slice.len && memcmp(slice.at, text, slice.len) == 0;
}

/* n > 0 letters in either case. Most texts differ in the first, or are spelled alike: only for the rest it takes a
 * walk.
 */
static inline bool letters_match(const char *one, const char *other, size_t n)
{
    const int case_bit = 'a' ^ 'A';
    return ((one[0] ^ other[0]) & ~case_bit) == 0 && (memcmp(one, other, n) == 0 || strncasecmp(one, other, n) == 0);
}

static inline bool slice_is_nocase(struct slice slice, const char *text)
{
    size_t n = strlen(text);
    return slice.at != NULL && n == slice.len && (n == 0 || letters_match(slice.at, text, n));
}

static inline bool slice_starts_with(struct slice slice, const char *prefix)
{
    size_t n = strlen(prefix);
    return slice.at != NULL && slice.len >= n && memcmp(slice.at, prefix, n) == 0;
}

bool slice_ends_with(struct slice slice, const char *suffix);

/* Without blanks and tabs at both ends. */
static inline bool char_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static inline struct slice slice_trim(struct slice slice)
{
    while (slice.len > 0 && char_is_blank(slice.at[0])) {
        slice.at++;
        slice.len--;
    }
    while (slice.len > 0 && char_is_blank(slice.at[slice.len - 1])) {
        slice.len--;
    }
    return slice;
}

/* Takes the bytes up to the next blank or tab off the front of *rest; an empty slice when none are left. */
struct slice slice_next_word(struct slice *rest);

/* Copies a slice and terminates it. Returns false, and leaves `to` empty, where it does not fit in `size`. */
bool slice_copy(struct slice slice, char *to, size_t size);

/* The same of a text, of which it keeps what fits. */
void text_copy(const char *text, char *to, size_t size);

/* Lower-case hexadecimal of n bytes into 2n characters and a NUL. */
void hex_encode(const uint8_t *bytes, size_t n, char *to);

/* Exactly 2n hexadecimal digits, either case, into n <= HEX_BYTES_MAX bytes. Returns false, writing nothing, on
 * anything else. */
#define HEX_BYTES_MAX 32
bool hex_decode(struct slice hex, uint8_t *bytes, size_t n);

/* A decimal number of digits alone, at most `max`. Returns false, writing nothing, on anything else. */
bool number_parse(struct slice digits, uint64_t max, uint64_t *number);

/* The way back: up to 20 digits and a NUL. Returns the digits written. */
#define NUMBER_TEXT_SIZE 21
size_t number_print(uint64_t number, char to[NUMBER_TEXT_SIZE]);

/* A duration such as "500ms", "10s", "5m", "2h" in milliseconds; a size such as "512", "64K", "256M" in bytes.
 * Return false, writing nothing, on anything else or above `max`. */
bool duration_parse(struct slice text, uint64_t max_ms, uint64_t *ms);
bool size_parse(struct slice text, uint64_t max_bytes, uint64_t *bytes);

/* Prints the shortest exact form that duration_parse or size_parse reads back. `to` holds at least 24 bytes. */
void duration_print(uint64_t ms, char *to, size_t size);
void size_print(uint64_t bytes, char *to, size_t size);

/* Writes foreign bytes so that they can break no log line, terminal or header: printable ASCII stays, `"` and `\` get
 * a backslash, all else becomes \xHH. Cuts at `size`, always terminates. Returns the characters written. */
size_t text_escape(struct slice bytes, char *to, size_t size);

/* The same for people, and for a sentence of our own with foreign parts in it: what is clean UTF-8 stays, quotes too,
 * and every other byte becomes \xHH. */
size_t text_show(struct slice sentence, char *to, size_t size);

/* Whether brackets in a JSON text nest deeper than `max`: asked before a parser that recurses sees foreign bytes. */
bool json_is_deeper(struct slice text, size_t max);

/* What types, labels, groups and tokens are called: 1 to `max` letters, digits, `.`, `_` and `-`. */
bool char_is_name(char c);
bool slice_is_name(struct slice slice, size_t max);

/* Whether all bytes form valid UTF-8 without control characters, those of lines and directions among them. */
bool text_is_clean_utf8(struct slice bytes);

#endif
