#include "base/password.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/random.h>

#define SCHEME "pbkdf2-sha256"

static bool draw(uint8_t *bytes, size_t n)
{
    return getrandom(bytes, n, 0) == (ssize_t)n;
}

static bool derive(struct slice password, const uint8_t *salt, uint32_t rounds, uint8_t *digest)
{
    return PKCS5_PBKDF2_HMAC(password.at, (int)password.len, salt, PASSWORD_SALT_BYTES, (int)rounds, EVP_sha256(),
                             PASSWORD_DIGEST_BYTES, digest) == 1;
}

/* Takes the text up to the next `$` off the front. */
static struct slice cut(struct slice *rest)
{
    const char *end = rest->len > 0 ? memchr(rest->at, '$', rest->len) : NULL;
    size_t n = end != NULL ? (size_t)(end - rest->at) : rest->len;
    struct slice piece = { rest->at, n };
    n += end != NULL;
    *rest = (struct slice){ rest->at + n, rest->len - n };
    return piece;
}

bool password_hash_read(struct slice text, struct password_hash *hash)
{
    struct password_hash read;
    uint64_t rounds;
    if (text.at == NULL || !slice_is(cut(&text), SCHEME) || !number_parse(cut(&text), PASSWORD_ROUNDS_MAX, &rounds) ||
        rounds < PASSWORD_ROUNDS_MIN || !hex_decode(cut(&text), read.salt, PASSWORD_SALT_BYTES) ||
        !hex_decode(text, read.digest, PASSWORD_DIGEST_BYTES)) {
        return false;
    }
    read.rounds = (uint32_t)rounds;
    *hash = read;
    return true;
}

void password_hash_print(const struct password_hash *hash, char to[PASSWORD_HASH_TEXT_SIZE])
{
    char salt[2 * PASSWORD_SALT_BYTES + 1], digest[2 * PASSWORD_DIGEST_BYTES + 1];
    hex_encode(hash->salt, PASSWORD_SALT_BYTES, salt);
    hex_encode(hash->digest, PASSWORD_DIGEST_BYTES, digest);
    int n = snprintf(to, PASSWORD_HASH_TEXT_SIZE, SCHEME "$%u$%s$%s", (unsigned)hash->rounds, salt, digest);
    assert(n < PASSWORD_HASH_TEXT_SIZE);
    (void)n;
}

bool password_hash_make(struct slice password, uint32_t rounds, struct password_hash *hash)
{
    hash->rounds = rounds;
    return draw(hash->salt, sizeof hash->salt) && derive(password, hash->salt, rounds, hash->digest);
}

bool password_hash_fits(const struct password_hash *hash, struct slice password)
{
    uint8_t digest[PASSWORD_DIGEST_BYTES];
    bool fits =
        derive(password, hash->salt, hash->rounds, digest) && CRYPTO_memcmp(digest, hash->digest, sizeof digest) == 0;
    OPENSSL_cleanse(digest, sizeof digest);
    return fits;
}

void password_hash_spend(uint32_t rounds, struct slice password)
{
    static const uint8_t salt[PASSWORD_SALT_BYTES];
    uint8_t digest[PASSWORD_DIGEST_BYTES];
    if (rounds > 0) {
        (void)derive(password, salt, rounds, digest);
    }
}

bool password_draw(char text[PASSWORD_DRAWN_SIZE])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t bytes[PASSWORD_DRAWN_SIZE - 1]; /* six bits of each: 132 */
    if (!draw(bytes, sizeof bytes)) {
        return false;
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        text[i] = letters[bytes[i] % 64];
    }
    text[sizeof bytes] = '\0';
    OPENSSL_cleanse(bytes, sizeof bytes);
    return true;
}
