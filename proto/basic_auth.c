#include "proto/basic_auth.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* The six bits of a letter; -1 = it is none. */
static int six_bits(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Without its padding, which says nothing. The caller has looked that it fits. */
static bool decode(struct slice text, struct basic_auth *auth)
{
    uint32_t bits = 0;
    unsigned count = 0;
    auth->used = 0;
    for (size_t i = 0; i < text.len; i++) {
        int six = six_bits(text.at[i]);
        if (six < 0) {
            return false;
        }
        bits = bits << 6 | (uint32_t)six;
        count += 6;
        if (count >= 8) {
            count -= 8;
            auth->bytes[auth->used++] = (char)(bits >> count & 0xff);
        }
    }
    return count < 6; /* a lonely letter says no byte */
}

static enum basic_auth_result read_value(struct slice value, struct basic_auth *auth)
{
    struct slice scheme = slice_next_word(&value), text = slice_trim(value);
    if (!slice_is_nocase(scheme, "Basic") || text.len == 0) {
        return BASIC_AUTH_UNREADABLE;
    }
    for (unsigned i = 0; i < 2 && slice_ends_with(text, "="); i++) {
        text.len--;
    }
    if (text.len / 4 * 3 > BASIC_AUTH_BYTES_MAX) {
        return BASIC_AUTH_TOO_LONG;
    }
    const char *colon = decode(text, auth) ? memchr(auth->bytes, ':', auth->used) : NULL;
    if (colon == NULL) {
        return BASIC_AUTH_UNREADABLE;
    }
    auth->user_bytes = (size_t)(colon - auth->bytes);
    bool fits = auth->user_bytes <= BASIC_AUTH_USER_MAX && auth->used - auth->user_bytes - 1 <= BASIC_AUTH_PASSWORD_MAX;
    return fits ? BASIC_AUTH_GIVEN : BASIC_AUTH_TOO_LONG;
}

enum basic_auth_result basic_auth_read(const struct header *headers, size_t n, struct basic_auth *auth)
{
    const struct header *found = NULL;
    for (size_t i = 0; i < n; i++) {
        if (!slice_is_nocase(headers[i].name, "Authorization")) {
            continue;
        }
        if (found != NULL) { /* whoever stands between us may have looked at the other one */
            return BASIC_AUTH_UNREADABLE;
        }
        found = &headers[i];
    }
    return found != NULL ? read_value(found->value, auth) : BASIC_AUTH_NONE;
}
