#include "base/text.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

bool slice_ends_with(struct slice slice, const char *suffix)
{
    size_t n = strlen(suffix);
    return slice.at != NULL && slice.len >= n && memcmp(slice.at + slice.len - n, suffix, n) == 0;
}

struct slice slice_next_word(struct slice *rest)
{
    *rest = slice_trim(*rest);
    struct slice word = { rest->at, 0 };
    while (word.len < rest->len && !char_is_blank(rest->at[word.len])) {
        word.len++;
    }
    if (word.len > 0) {
        rest->at += word.len;
        rest->len -= word.len;
    }
    *rest = slice_trim(*rest);
    return word;
}

bool slice_copy(struct slice slice, char *to, size_t size)
{
    if (slice.len >= size) {
        to[0] = '\0';
        return false;
    }
    if (slice.len > 0) {
        memcpy(to, slice.at, slice.len);
    }
    to[slice.len] = '\0';
    return true;
}

bool char_is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
}

bool slice_is_name(struct slice slice, size_t max)
{
    if (slice.len == 0 || slice.len > max) {
        return false;
    }
    for (size_t i = 0; i < slice.len; i++) {
        if (!char_is_name(slice.at[i])) {
            return false;
        }
    }
    return true;
}

void text_copy(const char *text, char *to, size_t size)
{
    size_t n = strnlen(text, size - 1);
    memcpy(to, text, n);
    to[n] = '\0';
}

static const char hex_digits[] = "0123456789abcdef";

void hex_encode(const uint8_t *bytes, size_t n, char *to)
{
    for (size_t i = 0; i < n; i++) {
        to[2 * i] = hex_digits[bytes[i] >> 4];
        to[2 * i + 1] = hex_digits[bytes[i] & 15];
    }
    to[2 * n] = '\0';
}

/* What a digit is worth, and a bit that says that it is one. */
#define IS_HEX 0x10
static const uint8_t hex_worth[UCHAR_MAX + 1] = {
    ['0'] = IS_HEX | 0,  ['1'] = IS_HEX | 1,  ['2'] = IS_HEX | 2,  ['3'] = IS_HEX | 3,  ['4'] = IS_HEX | 4,
    ['5'] = IS_HEX | 5,  ['6'] = IS_HEX | 6,  ['7'] = IS_HEX | 7,  ['8'] = IS_HEX | 8,  ['9'] = IS_HEX | 9,
    ['a'] = IS_HEX | 10, ['b'] = IS_HEX | 11, ['c'] = IS_HEX | 12, ['d'] = IS_HEX | 13, ['e'] = IS_HEX | 14,
    ['f'] = IS_HEX | 15, ['A'] = IS_HEX | 10, ['B'] = IS_HEX | 11, ['C'] = IS_HEX | 12, ['D'] = IS_HEX | 13,
    ['E'] = IS_HEX | 14, ['F'] = IS_HEX | 15,
};

bool hex_decode(struct slice hex, uint8_t *bytes, size_t n)
{
    uint8_t decoded[HEX_BYTES_MAX];
    unsigned all = IS_HEX;
    assert(n <= sizeof decoded);
    if (hex.at == NULL || hex.len != 2 * n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        unsigned high = hex_worth[(unsigned char)hex.at[2 * i]], low = hex_worth[(unsigned char)hex.at[2 * i + 1]];
        all &= high & low;
        decoded[i] = (uint8_t)(high << 4 | (low ^ IS_HEX));
    }
    if (all != 0) {
        memcpy(bytes, decoded, n);
    }
    return all != 0;
}

bool number_parse(struct slice digits, uint64_t max, uint64_t *number)
{
    uint64_t value = 0;
    for (size_t i = 0; i < digits.len; i++) {
        unsigned digit = (unsigned char)digits.at[i] - (unsigned)'0'; /* large, where it is less */
        bool is_near_end = i >= NUMBER_TEXT_SIZE - 2;                 /* so many nines fit */
        if (digit > 9 || (is_near_end && value > (UINT64_MAX - digit) / 10)) {
            return false;
        }
        value = 10 * value + digit;
    }
    if (digits.len == 0 || value > max) {
        return false;
    }
    *number = value;
    return true;
}

size_t number_print(uint64_t number, char to[NUMBER_TEXT_SIZE])
{
    char digits[NUMBER_TEXT_SIZE];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    memcpy(to, digits + at, sizeof digits - at);
    return sizeof digits - 1 - at;
}

struct unit {
    const char *suffix; /* longer ones first: "ms" before "s" and "m" */
    uint64_t factor;
};

static const struct unit duration_units[] = {
    { "ms", 1 },
    { "s", 1000 },
    { "m", 60000 },
    { "h", 3600000 },
};
static const struct unit size_units[] = {
    { "G", 1u << 30 },
    { "M", 1u << 20 },
    { "K", 1u << 10 },
    { "", 1 },
};

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static bool quantity_parse(struct slice text, const struct unit *units, size_t n, uint64_t max, uint64_t *value)
{
    text = slice_trim(text);
    for (size_t i = 0; i < n; i++) {
        if (slice_ends_with(text, units[i].suffix)) {
            struct slice digits = { text.at, text.len - strlen(units[i].suffix) };
            uint64_t number;
            if (!number_parse(digits, max / units[i].factor, &number)) {
                return false;
            }
            *value = number * units[i].factor;
            return true;
        }
    }
    return false;
}

bool duration_parse(struct slice text, uint64_t max_ms, uint64_t *ms)
{
    return quantity_parse(text, duration_units, COUNT_OF(duration_units), max_ms, ms);
}

bool size_parse(struct slice text, uint64_t max_bytes, uint64_t *bytes)
{
    return quantity_parse(text, size_units, COUNT_OF(size_units), max_bytes, bytes);
}

static void quantity_print(uint64_t value, const struct unit *best, char *to, size_t size)
{
    snprintf(to, size, "%" PRIu64 "%s", value / best->factor, best->suffix);
}

void duration_print(uint64_t ms, char *to, size_t size)
{
    size_t i = COUNT_OF(duration_units) - 1;
    while (i > 0 && (ms == 0 ? i != 1 : ms % duration_units[i].factor != 0)) {
        i--;
    }
    quantity_print(ms, &duration_units[i], to, size);
}

void size_print(uint64_t bytes, char *to, size_t size)
{
    size_t i = 0;
    while (i + 1 < COUNT_OF(size_units) && (bytes == 0 || bytes % size_units[i].factor != 0)) {
        i++;
    }
    quantity_print(bytes, &size_units[i], to, size);
}

static size_t put_hex(unsigned char c, char *to)
{
    to[0] = '\\';
    to[1] = 'x';
    to[2] = hex_digits[c >> 4];
    to[3] = hex_digits[c & 15];
    return 4;
}

size_t text_escape(struct slice bytes, char *to, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.at[i];
        bool plain = c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
        size_t need = plain ? 1 : (c == '"' || c == '\\') ? 2 : 4;
        if (used + need >= size) {
            break;
        }
        if (need == 4) {
            used += put_hex(c, to + used);
        } else {
            if (need == 2) {
                to[used++] = '\\';
            }
            to[used++] = (char)c;
        }
    }
    if (size > 0) {
        to[used] = '\0';
    }
    return used;
}

/* Bytes of the UTF-8 sequence at `at`, 0 where it is not one (overlong forms and surrogates included). */
static size_t utf8_sequence(const unsigned char *at, size_t len)
{
    static const struct {
        unsigned char lead_min, lead_max, second_min, second_max;
        size_t bytes;
    } forms[] = {
        { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
        { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
        { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        if (at[0] < forms[i].lead_min || at[0] > forms[i].lead_max) {
            continue;
        }
        if (len < forms[i].bytes || at[1] < forms[i].second_min || at[1] > forms[i].second_max) {
            return 0;
        }
        for (size_t k = 2; k < forms[i].bytes; k++) {
            if ((at[k] & 0xc0) != 0x80) {
                return 0;
            }
        }
        return forms[i].bytes;
    }
    return 0;
}

/* What shows nothing of its own, and changes how others are shown: U+0080 to U+009F control terminals; U+2028 to U+202E
 * and U+2066 to U+2069 end lines, or turn the direction beyond the name that holds them; the marks U+061C, U+200E and
 * U+200F turn digits and signs beside them. */
static bool acts_unseen(const unsigned char *at)
{
    static const struct {
        unsigned char lead[2], lead_bytes, last_min, last_max;
    } ranges[] = {
        { { 0xc2 }, 1, 0x80, 0x9f },       { { 0xd8 }, 1, 0x9c, 0x9c },       { { 0xe2, 0x80 }, 2, 0x8e, 0x8f },
        { { 0xe2, 0x80 }, 2, 0xa8, 0xae }, { { 0xe2, 0x81 }, 2, 0xa6, 0xa9 },
    };
    for (size_t i = 0; i < COUNT_OF(ranges); i++) {
        size_t n = ranges[i].lead_bytes;
        if (memcmp(at, ranges[i].lead, n) == 0 && at[n] >= ranges[i].last_min && at[n] <= ranges[i].last_max) {
            return true;
        }
    }
    return false;
}

/* Bytes of the clean character at `at`, 0 where there is none. */
static size_t clean_sequence(const char *at, size_t len)
{
    unsigned char c = (unsigned char)at[0];
    if (c < 0x80) {
        return c >= 0x20 && c != 0x7f;
    }
    size_t n = utf8_sequence((const unsigned char *)at, len);
    return n > 0 && acts_unseen((const unsigned char *)at) ? 0 : n;
}

bool text_is_clean_utf8(struct slice bytes)
{
    size_t n;
    for (size_t i = 0; i < bytes.len; i += n) {
        n = clean_sequence(bytes.at + i, bytes.len - i);
        if (n == 0) {
            return false;
        }
    }
    return true;
}

size_t text_show(struct slice sentence, char *to, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < sentence.len;) {
        size_t n = clean_sequence(sentence.at + i, sentence.len - i);
        if (used + (n > 0 ? n : 4) >= size) {
            break;
        }
        if (n > 0) {
            memcpy(to + used, sentence.at + i, n);
            used += n;
            i += n;
        } else {
            used += put_hex((unsigned char)sentence.at[i++], to + used);
        }
    }
    if (size > 0) {
        to[used] = '\0';
    }
    return used;
}

bool json_is_deeper(struct slice text, size_t max)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c == '"') {
            in_string = !in_string;
        } else if (in_string) {
            i += c == '\\'; /* whatever it escapes */
        } else if ((c == '{' || c == '[') && ++depth > max) {
            return true;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}
