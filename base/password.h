/* Passwords at rest: a salt and a slow digest, so that who steals the file still has to guess each one dearly.
 *
 * As text: `pbkdf2-sha256$<rounds>$<salt, 32 hex digits>$<digest, 64>`, PBKDF2-HMAC-SHA256 of RFC 8018.
 */
#ifndef BASE_PASSWORD_H
#define BASE_PASSWORD_H

#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PASSWORD_SALT_BYTES   16
#define PASSWORD_DIGEST_BYTES 32
#define PASSWORD_ROUNDS_MIN   1000
#define PASSWORD_ROUNDS_MAX   2000000 /* seconds: a line of a file must not hold everyone for longer */

/* What people type can be guessed; what password_draw drew cannot, however quick a guess is. */
#define PASSWORD_ROUNDS_TYPED 600000
#define PASSWORD_ROUNDS_DRAWN 1000

#define PASSWORD_BYTES_MAX      128
#define PASSWORD_HASH_TEXT_SIZE 128
#define PASSWORD_DRAWN_SIZE     23 /* 132 random bits as base64url, and a NUL */

struct password_hash {
    uint32_t rounds;
    uint8_t salt[PASSWORD_SALT_BYTES];
    uint8_t digest[PASSWORD_DIGEST_BYTES];
};

/* Returns false, writing nothing, where the text is no such hash. */
bool password_hash_read(struct slice text, struct password_hash *hash);
void password_hash_print(const struct password_hash *hash, char to[PASSWORD_HASH_TEXT_SIZE]);

/* These take a long time on purpose: for worker threads and programs that wait. */
bool password_hash_make(struct slice password, uint32_t rounds, struct password_hash *hash);
bool password_hash_fits(const struct password_hash *hash, struct slice password);
void password_hash_spend(uint32_t rounds, struct slice password); /* the time of so many rounds, and nothing else */

/* A password for a device: nobody has to type it twice. */
bool password_draw(char text[PASSWORD_DRAWN_SIZE]);

#endif
