/* Signatures that openssl(1) made, and what must not pass for one. */
#include "proto/signature.h"

#include "tests/unit/proto/image_fixture.h"
#include "tests/unit/proto/signature_vectors.h"

#include <openssl/err.h>

/* --- fixture ------------------------------------------------------------------------------------------------------ */

static struct signature_keys *keys_of(const char *const *pems)
{
    char message[300] = "";
    struct signature_keys *keys = signature_keys_new();
    assert_non_null(keys);
    for (; *pems != NULL; pems++) {
        if (!signature_keys_add(keys, slice_of(*pems), message, sizeof message)) {
            fail_msg("%s", message);
        }
    }
    return keys;
}

static struct signature_keys *both(void)
{
    return keys_of((const char *const[]){ ED25519_KEY, RSA_KEY, NULL });
}

static struct sample bytes_of(const char *hex)
{
    size_t n = strlen(hex) / 2;
    struct sample sample = sample_of("", 0);
    sample.at = realloc(sample.at, n);
    for (size_t i = 0; i < n; i++) {
        assert_true(hex_decode((struct slice){ hex + 2 * i, 2 }, sample.at + i, 1));
    }
    sample.n = n;
    return sample;
}

/* The words, and behind them the trailer of that signature where there is one. */
static struct sample file_of(const char *trailer_hex)
{
    struct sample file = sample_of(SIGNED_WORDS, strlen(SIGNED_WORDS));
    if (trailer_hex != NULL) {
        struct sample trailer = bytes_of(trailer_hex);
        uint8_t length[4] = { (uint8_t)trailer.n, (uint8_t)(trailer.n >> 8) };
        sample_append(&file, trailer.at, trailer.n);
        sample_append(&file, length, sizeof length);
        free(trailer.at);
    }
    return file;
}

static enum image_fault fault_with(const struct signature_keys *keys, const struct sample *file, size_t signature_bytes,
                                   const struct sample *detached)
{
    struct image_verdict verdict = { .fault = IMAGE_FAULT_NONE };
    struct image_facts facts = { .kind = IMAGE_ESP8266,
                                 .file_bytes = file->n,
                                 .signature_bytes = (uint32_t)signature_bytes };
    struct slice sig = { NULL, 0 };
    if (detached != NULL) {
        sig = (struct slice){ (const char *)detached->at, detached->n };
    }
    struct signature_vouchers by;
    if (signature_check(keys, file->at, &facts, sig, &by, &verdict)) {
        return IMAGE_FAULT_NONE;
    }
    expect_text(verdict.detail);
    expect_text(verdict.remedy);
    return verdict.fault;
}

static void expect_trailer(const char *hex, enum image_fault fault)
{
    struct signature_keys *keys = both();
    struct sample file = file_of(hex);
    assert_int_equal(fault_with(keys, &file, strlen(hex) / 2 + 4, NULL), fault);
    free(file.at);
    signature_keys_unref(keys);
}

static void expect_detached(const char *hex, enum image_fault fault)
{
    struct signature_keys *keys = both();
    struct sample file = file_of(NULL), detached = bytes_of(hex);
    assert_int_equal(fault_with(keys, &file, 0, &detached), fault);
    free(file.at);
    free(detached.at);
    signature_keys_unref(keys);
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

static void test_what_openssl_made(void **state)
{
    (void)state;
    expect_trailer(RSA_SIGNATURE, IMAGE_FAULT_NONE);
    expect_detached(RSA_SIGNATURE, IMAGE_FAULT_NONE);
    expect_detached(ED25519_SIGNATURE, IMAGE_FAULT_NONE);
}

/* Other forms of RSA say the same with the same key, but no device would take them. */
static void test_other_forms(void **state)
{
    (void)state;
    expect_trailer(FOREIGN_SIGNATURE, IMAGE_FAULT_UNKNOWN_KEY);
    expect_trailer(LEGACY_SIGNATURE, IMAGE_FAULT_UNKNOWN_KEY);
    expect_trailer(PSS_SIGNATURE, IMAGE_FAULT_UNKNOWN_KEY);
    expect_trailer(SHA512_SIGNATURE, IMAGE_FAULT_UNKNOWN_KEY);
    expect_detached(FOREIGN_SIGNATURE, IMAGE_FAULT_UNKNOWN_KEY);
    expect_detached(PSS_SIGNATURE, IMAGE_FAULT_UNKNOWN_KEY);
}

static void test_every_bit_counts(void **state)
{
    (void)state;
    static const char *const rows[] = { RSA_SIGNATURE, ED25519_SIGNATURE };
    struct signature_keys *keys = both();
    for (size_t row = 0; row < COUNT_OF(rows); row++) {
        struct sample file = file_of(NULL), sig = bytes_of(rows[row]);
        for (size_t bit = 0; bit < 8 * file.n; bit++) {
            file.at[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(fault_with(keys, &file, 0, &sig), IMAGE_FAULT_WRONG_SIGNATURE);
            file.at[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t bit = 0; bit < 8 * sig.n; bit += 5) {
            sig.at[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_not_equal(fault_with(keys, &file, 0, &sig), IMAGE_FAULT_NONE);
            sig.at[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t n = 0; n < sig.n; n++) {
            struct sample cut = { sig.at, n };
            assert_int_not_equal(fault_with(keys, &file, 0, &cut), IMAGE_FAULT_NONE);
        }
        assert_int_equal(fault_with(keys, &file, 0, &sig), IMAGE_FAULT_NONE);
        free(file.at);
        free(sig.at);
    }
    signature_keys_unref(keys);
}

/* What is said of a .sig that cannot be one, of any key. */
static void test_sizes_are_said(void **state)
{
    (void)state;
    static const struct {
        size_t n;
        const char *words;
    } rows[] = { { 0, "the .sig is empty" },
                 { 63, "the .sig, of 63 bytes, was made with none" },
                 { SIGNATURE_BYTES_MAX + 1, "the .sig, of more than 1024 bytes, was made with none" } };
    static uint8_t zeros[SIGNATURE_BYTES_MAX + 1];
    struct signature_keys *keys = both();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct sample file = file_of(NULL);
        struct image_facts facts = { .kind = IMAGE_ESP32, .file_bytes = file.n };
        struct image_verdict verdict;
        struct signature_vouchers by;
        struct slice sig = { (const char *)zeros, rows[i].n };
        assert_false(signature_check(keys, file.at, &facts, sig, &by, &verdict));
        assert_int_equal(verdict.fault, IMAGE_FAULT_UNKNOWN_KEY);
        if (strstr(verdict.detail, rows[i].words) == NULL) {
            fail_msg("%s: expected %s", verdict.detail, rows[i].words);
        }
        free(file.at);
    }
    signature_keys_unref(keys);
}

/* One that counts is enough: the device may have another key than the server. */
static void test_trailer_and_detached(void **state)
{
    (void)state;
    struct signature_keys *keys = both();
    struct sample good = file_of(RSA_SIGNATURE), bad = file_of(FOREIGN_SIGNATURE), junk = bytes_of("00");
    size_t n = strlen(RSA_SIGNATURE) / 2 + 4;
    assert_int_equal(fault_with(keys, &good, n, &junk), IMAGE_FAULT_NONE);
    assert_int_equal(fault_with(keys, &bad, n, &junk), IMAGE_FAULT_UNKNOWN_KEY);
    assert_int_equal(fault_with(keys, &good, 0, NULL), IMAGE_FAULT_UNSIGNED); /* the facts know of no trailer */
    free(good.at);
    free(bad.at);
    free(junk.at);
    signature_keys_unref(keys);
}

/* Where both are good, either key is enough for the other to be retired. */
static void test_who_vouches(void **state)
{
    (void)state;
    static const struct signature_vouchers nobody;
    struct signature_vouchers by;
    struct image_verdict verdict;
    uint8_t made[SIGNATURE_BYTES_MAX];
    struct signature_private *private = signature_private_make(true);
    char *pem = signature_public_pem(private);
    struct signature_keys *keys = keys_of((const char *const[]){ ED25519_KEY, pem, RSA_KEY, NULL });
    struct signature_keys *rsa = keys_of((const char *const[]){ RSA_KEY, NULL });
    struct signature_keys *ed25519 = keys_of((const char *const[]){ pem, NULL });
    struct sample file = file_of(RSA_SIGNATURE);
    struct image_facts facts = { .kind = IMAGE_ESP8266,
                                 .file_bytes = file.n,
                                 .signature_bytes = (uint32_t)strlen(RSA_SIGNATURE) / 2 + 4 };
    struct slice sig = { (const char *)made, signature_make(private, file.at, file.n, made) };
    assert_true(signature_check(keys, file.at, &facts, sig, &by, &verdict));
    assert_true(signature_keys_have(rsa, by.trailer) && signature_keys_have(ed25519, by.detached));
    assert_false(signature_keys_have(rsa, by.detached) || signature_keys_have(ed25519, by.trailer));
    made[0] ^= 1;
    assert_true(signature_check(keys, file.at, &facts, sig, &by, &verdict));
    assert_memory_equal(by.detached, nobody.detached, sizeof by.detached);
    assert_false(signature_check(ed25519, file.at, &facts, sig, &by, &verdict));
    assert_memory_equal(&by, &nobody, sizeof by);
    assert_false(signature_keys_have(keys, by.trailer) || signature_keys_have(NULL, by.trailer));
    signature_keys_unref(keys);
    signature_keys_unref(rsa);
    signature_keys_unref(ed25519);
    signature_private_free(private);
    signature_pem_free(pem);
    free(file.at);
}

static void test_no_key_vouches_for_nothing(void **state)
{
    (void)state;
    struct signature_keys *keys = signature_keys_new();
    struct sample file = file_of(NULL), sig = bytes_of(ED25519_SIGNATURE);
    assert_int_equal(fault_with(keys, &file, 0, &sig), IMAGE_FAULT_UNKNOWN_KEY);
    assert_int_equal(fault_with(keys, &file, 0, NULL), IMAGE_FAULT_UNSIGNED);
    free(file.at);
    free(sig.at);
    signature_keys_unref(keys);
}

static void test_keys_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *pem, *words;
    } rows[] = {
        { "", "no public key in it" },
        { "hello\n", "no public key in it" },
        { EC_KEY, "a key of kind EC: use an RSA or an Ed25519 key" },
        { SMALL_KEY, "an RSA key of 1024 bits: use one of 2048 to 8192" },
        { "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "damaged" },
        { "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "keep it off the server" },
        { "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "kind \"CERTIFICATE\"" },
        { "-----BEGIN \xb5\033[2J-----\nAAAA\n-----END \xb5\033[2J-----\n", "kind \"??[2J\"" },
        { RSA_KEY EC_KEY, "a key of kind EC" },
        /* One good key does not excuse another that is broken: its signer's images would be refused, and nobody told.
         */
        { RSA_KEY "-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----\n", "a PEM block in it is damaged" },
        { RSA_KEY "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n", "a PEM block in it is damaged" },
        { RSA_KEY "-----BEGIN PUBLIC KEY----\nAAAA\n-----END PUBLIC KEY-----\n", "a PEM block in it is damaged" },
        { "--BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n" RSA_KEY, "a PEM block in it is damaged" },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char message[300] = "";
        struct signature_keys *keys = signature_keys_new();
        assert_false(signature_keys_add(keys, slice_of(rows[i].pem), message, sizeof message));
        if (strstr(message, rows[i].words) == NULL) {
            fail_msg("%s: expected %s", message, rows[i].words);
        }
        assert_int_equal(ERR_peek_error(), 0); /* TLS on this thread would take it for its own */
        signature_keys_unref(keys);
    }
}

static void test_words_around_keys(void **state)
{
    (void)state;
    struct signature_keys *keys =
        keys_of((const char *const[]){ "fleet, of 2026:\n" RSA_KEY "and the one before\n\n" ED25519_KEY "\n", NULL });
    assert_int_equal(signature_keys_count(keys), 2);
    assert_int_equal(ERR_peek_error(), 0);
    signature_keys_unref(keys);
}

static void test_print_and_text(void **state)
{
    (void)state;
    static const uint8_t nothing[SIGNATURE_PRINT_BYTES];
    uint8_t print[SIGNATURE_PRINT_BYTES], other[SIGNATURE_PRINT_BYTES];
    char text[SIGNATURE_KEY_TEXT];
    signature_keys_print(NULL, print);
    assert_memory_equal(print, nothing, sizeof print);
    assert_int_equal(signature_keys_count(NULL), 0);
    struct signature_keys *one = keys_of((const char *const[]){ RSA_KEY, NULL });
    struct signature_keys *same = keys_of((const char *const[]){ RSA_KEY_PKCS1, NULL });
    struct signature_keys *two = keys_of((const char *const[]){ ED25519_KEY RSA_KEY, NULL });
    signature_keys_print(one, print);
    assert_memory_not_equal(print, nothing, sizeof print);
    signature_keys_print(same, other);
    assert_memory_equal(print, other, sizeof print);
    signature_keys_print(two, other);
    assert_memory_not_equal(print, other, sizeof print);
    assert_int_equal(signature_keys_count(two), 2);
    signature_key_text(two, 0, text);
    assert_string_equal(text, ED25519_KEY_TEXT);
    signature_key_text(two, 1, text);
    assert_string_equal(text, RSA_KEY_TEXT);
    signature_keys_unref(one);
    signature_keys_unref(same);
    signature_keys_unref(two);
}

static int no_terminal(char *to, int size, int is_new, void *owner)
{
    (void)to, (void)size, (void)is_new, (void)owner;
    return -1;
}

static void test_made_here(void **state)
{
    (void)state;
    for (int ed25519 = 0; ed25519 < 2; ed25519++) {
        char message[300];
        uint8_t signature[SIGNATURE_BYTES_MAX];
        struct signature_private *made = signature_private_make(ed25519 != 0);
        char *secret = signature_private_pem(made), *shown = signature_public_pem(made);
        struct signature_private *key =
            signature_private_read(slice_of(secret), no_terminal, NULL, message, sizeof message);
        assert_non_null(key);
        assert_int_equal(signature_private_is_rsa(key), ed25519 == 0);
        struct sample file = file_of(NULL);
        size_t n = signature_make(key, file.at, file.n, signature);
        assert_int_equal(n, ed25519 != 0 ? 64 : 256);
        struct sample detached = { signature, n };
        struct signature_keys *keys = keys_of((const char *const[]){ shown, NULL });
        assert_int_equal(fault_with(keys, &file, 0, &detached), IMAGE_FAULT_NONE);
        signature_keys_unref(keys);
        free(file.at);
        signature_private_free(key);
        signature_private_free(made);
        signature_pem_free(secret);
        signature_pem_free(shown);
    }
}

static void test_private_keys_that_are_refused(void **state)
{
    (void)state;
    static const char *const pems[] = { "", RSA_KEY, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" };
    for (size_t i = 0; i < COUNT_OF(pems); i++) {
        char message[300] = "";
        assert_null(signature_private_read(slice_of(pems[i]), no_terminal, NULL, message, sizeof message));
        assert_non_null(strstr(message, "no private key in it"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_openssl_made),
        cmocka_unit_test(test_other_forms),
        cmocka_unit_test(test_every_bit_counts),
        cmocka_unit_test(test_sizes_are_said),
        cmocka_unit_test(test_trailer_and_detached),
        cmocka_unit_test(test_who_vouches),
        cmocka_unit_test(test_no_key_vouches_for_nothing),
        cmocka_unit_test(test_keys_that_are_refused),
        cmocka_unit_test(test_words_around_keys),
        cmocka_unit_test(test_print_and_text),
        cmocka_unit_test(test_made_here),
        cmocka_unit_test(test_private_keys_that_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
