/* MAC addresses in the forms that devices and operators write.
 *
 * The hard thing is to refuse: `5C:CF-7F…` or eleven digits must not become some other device's address.
 */
#include "proto/mac.h"

#include <string.h>

static const struct {
    size_t text_len;
    size_t group_digits;    /* digits between two separators */
    const char *separators; /* one of these, the same throughout */
} forms[] = {
    { 12, 12, "" },   /* 5ccf7fb1e042 */
    { 17, 2, ":-." }, /* 5C:CF:7F:B1:E0:42, 5C-CF-7F-B1-E0-42 */
    { 14, 4, "." },   /* 5ccf.7fb1.e042 */
};

/* Copies the digits of a text of the given grouping; false where a separator is none of those, or not like
 * the first. */
static bool gather_digits(struct slice text, size_t group_digits, const char *separators, char digits[12])
{
    size_t at = 0;
    for (size_t used = 0; used < 12;) {
        for (size_t i = 0; i < group_digits; i++) {
            digits[used++] = text.at[at++];
        }
        if (at < text.len && text.at[at++] != text.at[group_digits]) {
            return false;
        }
    }
    size_t n = strlen(separators);
    return n == 0 || memchr(separators, text.at[group_digits], n) != NULL;
}

static bool names_a_device(const uint8_t bytes[6])
{
    static const uint8_t zeros[6];
    bool is_group = (bytes[0] & 1) != 0; /* broadcast too */
    return !is_group && memcmp(bytes, zeros, sizeof zeros) != 0;
}

bool mac_parse(struct slice text, struct mac *mac)
{
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        char digits[12];
        uint8_t bytes[6];
        if (text.len == forms[i].text_len && gather_digits(text, forms[i].group_digits, forms[i].separators, digits) &&
            hex_decode((struct slice){ digits, sizeof digits }, bytes, sizeof bytes) && names_a_device(bytes)) {
            memcpy(mac->bytes, bytes, sizeof bytes);
            return true;
        }
    }
    return false;
}

void mac_print(const struct mac *mac, char text[MAC_TEXT_SIZE])
{
    hex_encode(mac->bytes, sizeof mac->bytes, text);
}

bool mac_equal(const struct mac *a, const struct mac *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

int mac_compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct mac));
}
