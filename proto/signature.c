/* What makes it hard: a raw signature names no key. Of RSA one can tell whether a key made it (its padding unfolds), so
 * that a foreign key and changed bytes are two refusals; of Ed25519 one cannot. */
#include "proto/signature.h"

#include "proto/image_checks.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX (8 * SIGNATURE_BYTES_MAX)
#define LENGTH_BYTES 4 /* of the trailer's last word */

struct public_key {
    EVP_PKEY *key;
    uint8_t print[SIGNATURE_PRINT_BYTES]; /* of its DER form */
};

struct signature_keys {
    unsigned refs;
    size_t count;
    struct public_key keys[SIGNATURE_KEYS_MAX];
    uint8_t print[SIGNATURE_PRINT_BYTES]; /* of all of them */
};

struct signature_private {
    EVP_PKEY *key;
};

/* --- the keys ----------------------------------------------------------------------------------------------------- */

struct signature_keys *signature_keys_new(void)
{
    struct signature_keys *keys = calloc(1, sizeof *keys);
    if (keys != NULL) {
        keys->refs = 1;
    }
    return keys;
}

struct signature_keys *signature_keys_ref(struct signature_keys *keys)
{
    if (keys != NULL) {
        keys->refs++;
    }
    return keys;
}

void signature_keys_unref(struct signature_keys *keys)
{
    if (keys == NULL || --keys->refs > 0) {
        return;
    }
    for (size_t i = 0; i < keys->count; i++) {
        EVP_PKEY_free(keys->keys[i].key);
    }
    free(keys);
}

static bool is_rsa(const EVP_PKEY *key)
{
    return EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
}

/* Whether we sign and verify with it; `message` says why not. */
static bool is_usable(const EVP_PKEY *key, char *message, size_t size)
{
    int bits = EVP_PKEY_get_bits(key);
    const char *name = EVP_PKEY_get0_type_name(key);
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ||
        (is_rsa(key) && bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX)) {
        return true;
    }
    if (is_rsa(key)) {
        snprintf(message, size, "an RSA key of %d bits: use one of %d to %d", bits, RSA_BITS_MIN, RSA_BITS_MAX);
    } else {
        snprintf(message, size, "a key of kind %s: use an RSA or an Ed25519 key", name != NULL ? name : "unknown");
    }
    return false;
}

/* Takes the key. */
static bool add_key(struct signature_keys *keys, EVP_PKEY *key, char *message, size_t size)
{
    unsigned char *der = NULL;
    bool good = is_usable(key, message, size);
    if (good && keys->count == SIGNATURE_KEYS_MAX) {
        snprintf(message, size, "more than %d keys in all: take out those that are retired", SIGNATURE_KEYS_MAX);
        good = false;
    }
    int n = good ? i2d_PUBKEY(key, &der) : 0;
    struct public_key *added = &keys->keys[keys->count];
    if (good && (n <= 0 || EVP_Digest(der, (size_t)n, added->print, NULL, EVP_sha256(), NULL) != 1)) {
        snprintf(message, size, "the key cannot be encoded: make it anew with `updraft sign --new-key`");
        good = false;
    }
    OPENSSL_free(der);
    if (good) {
        added->key = key;
        keys->count++;
    } else {
        EVP_PKEY_free(key);
    }
    return good;
}

static bool refuse_block(const char *name, char *message, size_t size)
{
    if (strstr(name, "PRIVATE KEY") != NULL) {
        snprintf(message, size,
                 "a private key: keep it off the server, and name its public half, which "
                 "`openssl pkey -in KEY.pem -pubout` writes");
    } else {
        char shown[41]; /* of any bytes */
        snprintf(shown, sizeof shown, "%s", name);
        for (char *at = shown; *at != '\0'; at++) {
            *at = (char)(*at >= ' ' && *at <= '~' ? *at : '?');
        }
        snprintf(message, size, "a PEM block of kind \"%s\": name public keys, as `openssl pkey -pubout` writes them",
                 shown);
    }
    return false;
}

static bool add_block(struct signature_keys *keys, const char *name, const unsigned char *der, long n, char *message,
                      size_t size)
{
    const unsigned char *at = der;
    EVP_PKEY *key = NULL;
    if (strcmp(name, "PUBLIC KEY") == 0) {
        key = d2i_PUBKEY(NULL, &at, n);
    } else if (strcmp(name, "RSA PUBLIC KEY") == 0) {
        key = d2i_PublicKey(EVP_PKEY_RSA, NULL, &at, n);
    } else {
        return refuse_block(name, message, size);
    }
    if (key == NULL) {
        snprintf(message, size, "a public key that is damaged, or of an unknown kind: copy it again");
        return false;
    }
    return add_key(keys, key, message, size);
}

static void print_all(struct signature_keys *keys)
{
    uint8_t prints[SIGNATURE_KEYS_MAX * SIGNATURE_PRINT_BYTES];
    for (size_t i = 0; i < keys->count; i++) {
        memcpy(prints + i * SIGNATURE_PRINT_BYTES, keys->keys[i].print, SIGNATURE_PRINT_BYTES);
    }
    image_sha256((struct image_view){ prints, keys->count * SIGNATURE_PRINT_BYTES }, keys->print);
}

/* How often the words stand in the text. */
static size_t count_of(struct slice text, const char *words)
{
    size_t count = 0, n = strlen(words);
    const char *end = text.at + text.len;
    for (const char *at = text.at; (at = memmem(at, (size_t)(end - at), words, n)) != NULL; at += n) {
        count++;
    }
    return count;
}

/* Whether `blocks` are all that there are. PEM_read_bio ends at a broken one as it does at the end, and passes over
 * one whose first line is broken. */
static bool were_all_read(struct slice pem, size_t blocks)
{
    return count_of(pem, "-BEGIN ") == blocks && count_of(pem, "-END ") == blocks;
}

bool signature_keys_add(struct signature_keys *keys, struct slice pem, char *message, size_t size)
{
    size_t before = keys->count, blocks = 0;
    bool good = true;
    ERR_set_mark();
    BIO *bio = BIO_new_mem_buf(pem.at, (int)pem.len);
    assert(bio != NULL);
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long n = 0;
    while (good && PEM_read_bio(bio, &name, &header, &der, &n) == 1) {
        good = add_block(keys, name, der, n, message, size);
        blocks++;
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_clear_free(der, (size_t)n);
    }
    BIO_free(bio);
    ERR_pop_to_mark();
    if (good && !were_all_read(pem, blocks)) {
        snprintf(message, size, "a PEM block in it is damaged, %zu can be read: copy that key again", blocks);
        good = false;
    } else if (good && keys->count == before) {
        snprintf(message, size, "no public key in it: name a PEM file, as `openssl pkey -pubout` writes it");
        good = false;
    }
    print_all(keys);
    return good;
}

size_t signature_keys_count(const struct signature_keys *keys)
{
    return keys != NULL ? keys->count : 0;
}

void signature_keys_print(const struct signature_keys *keys, uint8_t print[SIGNATURE_PRINT_BYTES])
{
    memset(print, 0, SIGNATURE_PRINT_BYTES);
    if (keys != NULL) {
        memcpy(print, keys->print, SIGNATURE_PRINT_BYTES);
    }
}

bool signature_keys_same(const struct signature_keys *a, const struct signature_keys *b)
{
    uint8_t print[2][SIGNATURE_PRINT_BYTES];
    signature_keys_print(a, print[0]);
    signature_keys_print(b, print[1]);
    return memcmp(print[0], print[1], sizeof print[0]) == 0;
}

bool signature_keys_have(const struct signature_keys *keys, const uint8_t print[SIGNATURE_PRINT_BYTES])
{
    for (size_t i = 0; i < signature_keys_count(keys); i++) {
        if (memcmp(keys->keys[i].print, print, SIGNATURE_PRINT_BYTES) == 0) {
            return true;
        }
    }
    return false;
}

void signature_key_text(const struct signature_keys *keys, size_t i, char text[SIGNATURE_KEY_TEXT])
{
    const struct public_key *key = &keys->keys[i];
    char hex[2 * 8 + 1], bits[16] = "";
    hex_encode(key->print, 8, hex);
    if (is_rsa(key->key)) {
        snprintf(bits, sizeof bits, "-%d", EVP_PKEY_get_bits(key->key));
    }
    snprintf(text, SIGNATURE_KEY_TEXT, "%s%s %s", is_rsa(key->key) ? "rsa" : "ed25519", bits, hex);
}

/* --- one signature ------------------------------------------------------------------------------------------------ */

enum finding {
    FOUND_VALID,
    FOUND_FOREIGN,    /* not made with this key */
    FOUND_CHANGED,    /* made with this key, of other bytes */
    FOUND_IMPOSSIBLE, /* of this kind of key; which of the two cannot be told */
};

/* PKCS#1 v1.5 gives the digest back that was signed. Returns false where the key did not make the signature. */
static bool unfolds(EVP_PKEY *key, struct slice signature)
{
    unsigned char digest[SIGNATURE_BYTES_MAX];
    size_t n = sizeof digest;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
    bool good = context != NULL && EVP_PKEY_verify_recover_init(context) == 1 &&
                EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1 &&
                EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) == 1 &&
                EVP_PKEY_verify_recover(context, digest, &n, (const unsigned char *)signature.at, signature.len) == 1;
    EVP_PKEY_CTX_free(context);
    return good;
}

static bool verifies(EVP_PKEY *key, struct image_view file, struct slice signature)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *padding = NULL;
    bool good = context != NULL &&
                EVP_DigestVerifyInit(context, &padding, is_rsa(key) ? EVP_sha256() : NULL, NULL, key) == 1 &&
                (!is_rsa(key) || EVP_PKEY_CTX_set_rsa_padding(padding, RSA_PKCS1_PADDING) == 1) &&
                EVP_DigestVerify(context, (const unsigned char *)signature.at, signature.len, file.at, file.len) == 1;
    EVP_MD_CTX_free(context);
    return good;
}

static enum finding try_key(EVP_PKEY *key, struct image_view file, struct slice signature)
{
    if (signature.len != (size_t)EVP_PKEY_get_size(key)) {
        return FOUND_FOREIGN;
    }
    if (verifies(key, file, signature)) {
        return FOUND_VALID;
    }
    if (!is_rsa(key)) {
        return FOUND_IMPOSSIBLE;
    }
    return unfolds(key, signature) ? FOUND_CHANGED : FOUND_FOREIGN;
}

#define REMEDY_KEY "sign it with `updraft sign`, or name the signer's public key with --signing-key and send SIGHUP"

/* One that is longer than any is cut (repo/seal). */
static bool refuse_foreign(const struct signature_keys *keys, size_t n, const char *where,
                           struct image_verdict *verdict)
{
    bool cut = n > SIGNATURE_BYTES_MAX;
    if (n == 0) {
        return image_refuse(verdict, IMAGE_FAULT_UNKNOWN_KEY, "copy it again; `updraft sign` makes it", "%s is empty",
                            where);
    }
    return image_refuse(verdict, IMAGE_FAULT_UNKNOWN_KEY, REMEDY_KEY,
                        "%s, of %s%zu bytes, was made with none of the %zu known keys", where, cut ? "more than " : "",
                        cut ? (size_t)SIGNATURE_BYTES_MAX : n, keys->count);
}

/* `where` is "the trailer" or "the .sig". */
static bool check_one(const struct signature_keys *keys, struct image_view file, struct slice signature,
                      const char *where, uint8_t by[SIGNATURE_PRINT_BYTES], struct image_verdict *verdict)
{
    enum finding finding = FOUND_FOREIGN;
    for (size_t i = 0; i < keys->count; i++) {
        enum finding found = try_key(keys->keys[i].key, file, signature);
        if (found == FOUND_VALID) {
            memcpy(by, keys->keys[i].print, SIGNATURE_PRINT_BYTES);
            return true;
        }
        finding = found == FOUND_FOREIGN ? finding : found;
    }
    switch (finding) {
    case FOUND_CHANGED:
        return image_refuse(verdict, IMAGE_FAULT_WRONG_SIGNATURE, "sign the file as it is, with `updraft sign`",
                            "%s was made with a known key, but of other bytes", where);
    case FOUND_IMPOSSIBLE:
        return image_refuse(verdict, IMAGE_FAULT_WRONG_SIGNATURE, REMEDY_KEY,
                            "%s was made of other bytes, or with another Ed25519 key than those known", where);
    default:
        return refuse_foreign(keys, signature.len, where, verdict);
    }
}

bool signature_check(const struct signature_keys *keys, const uint8_t *bytes, const struct image_facts *facts,
                     struct slice detached, struct signature_vouchers *by, struct image_verdict *verdict)
{
    struct image_view file = { bytes, (size_t)facts->file_bytes };
    bool good = false;
    memset(by, 0, sizeof *by);
    ERR_set_mark();
    (void)image_refuse(verdict, IMAGE_FAULT_UNSIGNED,
                       facts->kind == IMAGE_ESP8266
                           ? "sign it with `updraft sign`, and put the .signed file in its place, under this name"
                           : "sign it with `updraft sign`, and put the .sig beside it",
                       "no signature in it, and no .sig beside it; --signing-key asks for one");
    if (facts->signature_bytes > 0) {
        assert(facts->signature_bytes > LENGTH_BYTES && facts->signature_bytes < file.len);
        struct image_view image = { bytes, file.len - facts->signature_bytes };
        struct slice trailer = { (const char *)bytes + image.len, facts->signature_bytes - LENGTH_BYTES };
        good = check_one(keys, image, trailer, "the trailer", by->trailer, verdict);
    }
    if (detached.at != NULL) {
        good = check_one(keys, file, detached, "the .sig", by->detached, verdict) || good;
    }
    ERR_pop_to_mark();
    return good;
}

/* --- making one --------------------------------------------------------------------------------------------------- */

struct asking {
    signature_passphrase_fn ask;
    void *owner;
    bool asked, refused;
};

static int on_passphrase(char *to, int size, int is_new, void *owner)
{
    struct asking *asking = owner;
    asking->asked = true;
    int n = asking->ask(to, size, is_new, asking->owner);
    asking->refused = n < 0;
    return n;
}

static struct signature_private *private_of(EVP_PKEY *key)
{
    struct signature_private *private = key != NULL ? calloc(1, sizeof *private) : NULL;
    if (private == NULL) {
        EVP_PKEY_free(key);
        return NULL;
    }
    private->key = key;
    return private;
}

struct signature_private *signature_private_read(struct slice pem, signature_passphrase_fn ask, void *owner,
                                                 char *message, size_t size)
{
    struct asking asking = { .ask = ask, .owner = owner };
    BIO *bio = BIO_new_mem_buf(pem.at, (int)pem.len);
    assert(bio != NULL);
    ERR_set_mark();
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, on_passphrase, &asking);
    ERR_pop_to_mark();
    BIO_free(bio);
    if (key == NULL && asking.refused) {
        snprintf(message, size, "it has a passphrase, and there is no terminal to ask for it: sign at one");
    } else if (key == NULL && asking.asked) {
        snprintf(message, size, "the passphrase is not the key's: try again");
    } else if (key == NULL) {
        snprintf(message, size,
                 "no private key in it: name a PEM file, such as one that `updraft sign --new-key` made");
    } else if (!is_usable(key, message, size)) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    return private_of(key);
}

struct signature_private *signature_private_make(bool ed25519)
{
    return private_of(ed25519 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
                              : EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)RSA_BITS_MIN));
}

void signature_private_free(struct signature_private *key)
{
    if (key != NULL) {
        EVP_PKEY_free(key->key);
        free(key);
    }
}

bool signature_private_is_rsa(const struct signature_private *key)
{
    return is_rsa(key->key);
}

unsigned signature_private_bits(const struct signature_private *key)
{
    return (unsigned)EVP_PKEY_get_bits(key->key);
}

size_t signature_make(const struct signature_private *key, const uint8_t *bytes, size_t n,
                      uint8_t signature[SIGNATURE_BYTES_MAX])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *padding = NULL;
    size_t size = SIGNATURE_BYTES_MAX;
    bool rsa = is_rsa(key->key);
    bool good = context != NULL &&
                EVP_DigestSignInit(context, &padding, rsa ? EVP_sha256() : NULL, NULL, key->key) == 1 &&
                (!rsa || EVP_PKEY_CTX_set_rsa_padding(padding, RSA_PKCS1_PADDING) == 1) &&
                EVP_DigestSign(context, signature, &size, bytes, n) == 1;
    EVP_MD_CTX_free(context);
    return good ? size : 0;
}

static char *pem_of(const struct signature_private *key, bool private)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    char *at, *pem = NULL;
    bool good = bio != NULL && (private ? PEM_write_bio_PrivateKey(bio, key->key, NULL, NULL, 0, NULL, NULL)
                                        : PEM_write_bio_PUBKEY(bio, key->key)) == 1;
    long n = good ? BIO_get_mem_data(bio, &at) : 0;
    if (n > 0 && (pem = malloc((size_t)n + 1)) != NULL) {
        memcpy(pem, at, (size_t)n);
        pem[n] = '\0';
    }
    BIO_free(bio);
    return pem;
}

char *signature_private_pem(const struct signature_private *key)
{
    return pem_of(key, true);
}

char *signature_public_pem(const struct signature_private *key)
{
    return pem_of(key, false);
}

void signature_pem_free(char *pem)
{
    if (pem != NULL) {
        OPENSSL_cleanse(pem, strlen(pem));
        free(pem);
    }
}
