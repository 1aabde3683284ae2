/* Any bytes as a signed image: the first two say how long the .sig is (0 = there is none), then it, then the file.
 *
 * Whatever vouches for a file is refused with texts that can go into a log line, or is one of the two that openssl(1)
 * made; and any bytes as public keys.
 */
#include "proto/signature.h"
#include "tests/unit/proto/signature_vectors.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t size)
{
    assert(text[0] != '\0' && memchr(text, '\0', size) != NULL);
    for (; *text != '\0'; text++) {
        assert(*text >= 0x20 && *text <= 0x7e);
    }
}

static const struct signature_keys *known_keys(void)
{
    static struct signature_keys *keys; /* reachable to the end */
    char message[300];
    if (keys == NULL) {
        keys = signature_keys_new();
        bool good = signature_keys_add(keys, slice_of(RSA_KEY ED25519_KEY), message, sizeof message);
        assert(good);
        (void)good;
    }
    return keys;
}

static void try_keys(const uint8_t *data, size_t size)
{
    char message[300] = "";
    struct signature_keys *keys = signature_keys_new();
    assert(keys != NULL);
    bool good = signature_keys_add(keys, (struct slice){ (const char *)data, size }, message, sizeof message);
    assert(good == (signature_keys_count(keys) > 0) || !good);
    if (!good) {
        check_text(message, sizeof message);
    }
    signature_keys_unref(keys);
}

static void try_file(const uint8_t *file, size_t n, struct slice detached)
{
    struct image_facts facts;
    struct image_verdict verdict;
    struct signature_vouchers by;
    for (unsigned use = IMAGE_USE_SKETCH; use <= IMAGE_USE_SLOT; use++) {
        if (!image_check(file, n, (enum image_use)use, &facts, &verdict)) {
            continue;
        }
        assert(facts.signature_bytes == 0 || (facts.signature_bytes > 64 && facts.signature_bytes < n));
        bool good = signature_check(known_keys(), file, &facts, detached, &by, &verdict);
        assert(good ==
               (signature_keys_have(known_keys(), by.trailer) || signature_keys_have(known_keys(), by.detached)));
        if (!good) {
            assert(verdict.fault == IMAGE_FAULT_UNSIGNED || verdict.fault == IMAGE_FAULT_WRONG_SIGNATURE ||
                   verdict.fault == IMAGE_FAULT_UNKNOWN_KEY);
            assert(verdict.fault != IMAGE_FAULT_UNSIGNED || (facts.signature_bytes == 0 && detached.at == NULL));
            check_text(verdict.detail, sizeof verdict.detail);
            check_text(verdict.remedy, sizeof verdict.remedy);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    size_t wanted = (size_t)(data[0] | data[1] << 8), n = size - 2;
    size_t sig = wanted < n ? wanted : n;
    uint8_t *bytes = malloc(n > 0 ? n : 1), *file = malloc(n - sig > 0 ? n - sig : 1); /* to the byte */
    assert(bytes != NULL && file != NULL);
    memcpy(bytes, data + 2, n);
    memcpy(file, data + 2 + sig, n - sig);
    try_keys(bytes, n);
    try_file(file, n - sig, (struct slice){ wanted > 0 ? (const char *)bytes : NULL, sig });
    free(bytes);
    free(file);
    return 0;
}
