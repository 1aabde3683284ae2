/* Any Authorization headers: what is read as a user and a password is what the base64 says, as OpenSSL reads it, and
 * within its bounds.
 *
 * An input is a header's value a line.
 */
#include "proto/basic_auth.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The way back, which padding and the unused bits of the last letter do not change. */
static void check_encoding(struct slice value, const struct basic_auth *auth)
{
    unsigned char base64[4 * ((BASIC_AUTH_BYTES_MAX + 2) / 3) + 1];
    size_t n = (auth->used * 8 + 5) / 6; /* letters */
    while (slice_ends_with(value, "=")) {
        value.len--;
    }
    (void)EVP_EncodeBlock(base64, (const unsigned char *)auth->bytes, (int)auth->used);
    assert(value.len >= n && memcmp(value.at + value.len - n, base64, n - 1) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct header headers[4] = { { .name = { NULL, 0 } } };
    size_t count = 0;
    char *copy = malloc(size + 1); /* so that a byte read behind it is found */
    assert(copy != NULL);
    memcpy(copy, data, size);
    for (struct slice rest = { copy, size }; rest.len > 0 && count < 4;) {
        const char *end = memchr(rest.at, '\n', rest.len);
        size_t n = end != NULL ? (size_t)(end - rest.at) : rest.len;
        headers[count++] = (struct header){ slice_of("Authorization"), slice_trim((struct slice){ rest.at, n }) };
        n += end != NULL;
        rest = (struct slice){ rest.at + n, rest.len - n };
    }
    struct basic_auth auth;
    enum basic_auth_result result = basic_auth_read(headers, count, &auth);
    assert((result == BASIC_AUTH_NONE) == (count == 0));
    assert(count < 2 || result == BASIC_AUTH_UNREADABLE);
    if (result == BASIC_AUTH_GIVEN) {
        struct slice user = basic_auth_user(&auth), password = basic_auth_password(&auth);
        assert(user.len <= BASIC_AUTH_USER_MAX && password.len <= BASIC_AUTH_PASSWORD_MAX);
        assert(auth.used == user.len + 1 + password.len && user.at[user.len] == ':');
        assert(user.len == 0 || memchr(user.at, ':', user.len) == NULL);
        check_encoding(headers[0].value, &auth);
    }
    free(copy);
    return 0;
}
