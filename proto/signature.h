/* Signatures of images: whether one vouches for a file, and making one.
 *
 * Two forms. The trailer of the ESP8266 core (tools/signing.py, Updater.cpp): image, signature, u32 little-endian
 * length of the signature; RSASSA-PKCS1-v1_5 with SHA-256 over the image, which a .gz is compressed before. And a
 * detached one, the bytes of FILE.sig over all bytes of FILE: Ed25519 (64 bytes), or RSA as in the trailer; as `openssl
 * pkeyutl -sign -rawin` and `openssl dgst -sha256 -sign` write them.
 *
 * Pure functions on bytes, but for the randomness of a new key. Public keys may be used by several threads at once.
 */
#ifndef PROTO_SIGNATURE_H
#define PROTO_SIGNATURE_H

#include "proto/image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIGNATURE_KEYS_MAX  16   /* public keys, of all files */
#define SIGNATURE_BYTES_MAX 1024 /* of RSA with 8192 bits */

/* --- whose signatures count --------------------------------------------------------------------------------------- */

/* Public keys. Counted by one thread; whoever has counted may lend them to another. */
struct signature_keys;

/* None yet. NULL without memory. */
struct signature_keys *signature_keys_new(void);
struct signature_keys *signature_keys_ref(struct signature_keys *keys); /* NULL is fine, and returned */
void signature_keys_unref(struct signature_keys *keys);                 /* NULL is fine */

/* Adds those of a PEM text, before the keys are first lent. Returns false, with what is wrong and the remedy in
 * `message`: no public key in it, one that is neither Ed25519 nor RSA of 2048 bits or more, too many of all. */
bool signature_keys_add(struct signature_keys *keys, struct slice pem, char *message, size_t size);

size_t signature_keys_count(const struct signature_keys *keys); /* of NULL: 0 */

/* Changes with every change of the set. Of NULL: all zero. */
#define SIGNATURE_PRINT_BYTES 32
void signature_keys_print(const struct signature_keys *keys, uint8_t print[SIGNATURE_PRINT_BYTES]);

bool signature_keys_same(const struct signature_keys *a, const struct signature_keys *b);

/* Whether one of them has this print of its own: the SHA-256 of its DER form. */
bool signature_keys_have(const struct signature_keys *keys, const uint8_t print[SIGNATURE_PRINT_BYTES]);

/* "rsa-2048 1f0a…", the first bytes of the SHA-256 of the key's DER form, as `openssl pkey -pubin -outform DER |
 * sha256sum` has it. `i` is below the count. */
#define SIGNATURE_KEY_TEXT 64
void signature_key_text(const struct signature_keys *keys, size_t i, char text[SIGNATURE_KEY_TEXT]);

/* --- does one vouch for a file? ----------------------------------------------------------------------------------- */

/* The keys that vouch for a file, by their prints; zero = none does in this form. */
struct signature_vouchers {
    uint8_t trailer[SIGNATURE_PRINT_BYTES], detached[SIGNATURE_PRINT_BYTES];
};

/* The file's bytes with the facts that image_check found, and its .sig (detached.at NULL = there is none). Returns true
 * where the trailer or the .sig is a valid signature by one of the keys, those in *by; else false and *verdict:
 * UNSIGNED, WRONG_SIGNATURE, UNKNOWN_KEY. Fails closed: no keys, no memory, an error of the library refuse too. */
bool signature_check(const struct signature_keys *keys, const uint8_t *bytes, const struct image_facts *facts,
                     struct slice detached, struct signature_vouchers *by, struct image_verdict *verdict);

/* --- making one --------------------------------------------------------------------------------------------------- */

struct signature_private; /* a private key */

/* Writes a passphrase of at most `size` bytes, returns its length, or -1 where nobody can be asked. */
typedef int (*signature_passphrase_fn)(char *to, int size, int is_new, void *owner);

/* NULL, with what is wrong and the remedy in `message`. */
struct signature_private *signature_private_read(struct slice pem, signature_passphrase_fn ask, void *owner,
                                                 char *message, size_t size);
struct signature_private *signature_private_make(bool ed25519); /* else RSA-2048; NULL: the library fails */
void signature_private_free(struct signature_private *key);     /* NULL is fine; wipes it */

bool signature_private_is_rsa(const struct signature_private *key);
unsigned signature_private_bits(const struct signature_private *key);

/* Over `bytes`. Returns how many bytes it has, 0 where the library fails. */
size_t signature_make(const struct signature_private *key, const uint8_t *bytes, size_t n,
                      uint8_t signature[SIGNATURE_BYTES_MAX]);

/* The key as PEM, to be freed with signature_pem_free; NULL: no memory. */
char *signature_private_pem(const struct signature_private *key);
char *signature_public_pem(const struct signature_private *key);
void signature_pem_free(char *pem); /* wipes it; NULL is fine */

#endif
