/* What the tests of proto/image share: an image made to a wish, and what a check of it must say. */
#ifndef TESTS_UNIT_PROTO_IMAGE_FIXTURE_H
#define TESTS_UNIT_PROTO_IMAGE_FIXTURE_H

#include "tests/support/image_make.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* Allocated to the byte, so that a read beyond the end is one beyond the allocation. */
struct sample {
    uint8_t *at;
    size_t n;
};

static inline struct sample sample_of(const void *bytes, size_t n)
{
    assert(n <= 2 * (size_t)IMAGE_BYTES_MAX);
    struct sample sample = { malloc(n > 0 ? n : 1), n };
    assert_non_null(sample.at);
    if (n > 0) {
        memcpy(sample.at, bytes, n);
    }
    return sample;
}

static inline struct sample sample_make(struct image_make wish)
{
    size_t n;
    uint8_t *bytes = image_make(&wish, &n);
    struct sample sample = sample_of(bytes, n);
    free(bytes);
    return sample;
}

/* Replaces the sample by itself with n bytes behind it. */
static inline void sample_append(struct sample *sample, const void *bytes, size_t n)
{
    assert(n > 0);
    sample->at = realloc(sample->at, sample->n + n);
    assert_non_null(sample->at);
    memcpy(sample->at + sample->n, bytes, n);
    sample->n += n;
}

static inline void sample_set_u32(struct sample *sample, size_t at, uint32_t value)
{
    for (size_t i = 0; i < 4; i++) {
        sample->at[at + i] = (uint8_t)(value >> 8 * i);
    }
}

static inline void expect_text(const char *text)
{
    assert_true(strlen(text) > 0);
    for (; *text != '\0'; text++) {
        assert_in_range(*text, 0x20, 0x7e);
    }
}

static inline enum image_fault fault_of(const struct sample *sample, size_t n, enum image_use use)
{
    struct sample cut = sample_of(sample->at, n);
    struct image_facts facts;
    struct image_facts before;
    struct image_verdict verdict = { .fault = IMAGE_FAULT_NONE };
    memset(&facts, 0x5a, sizeof facts);
    memcpy(&before, &facts, sizeof facts);
    bool ok = image_check(cut.at, cut.n, use, &facts, &verdict);
    assert_int_equal(ok, verdict.fault == IMAGE_FAULT_NONE);
    if (!ok) {
        expect_text(verdict.detail);
        expect_text(verdict.remedy);
        assert_memory_equal(&facts, &before, sizeof facts); /* left untouched */
    }
    free(cut.at);
    return verdict.fault;
}

/* Refused for this reason, with these words in the detail; frees the sample. */
static inline void expect_fault(struct sample sample, enum image_use use, enum image_fault fault, const char *words)
{
    struct image_facts facts;
    struct image_verdict verdict = { .fault = IMAGE_FAULT_NONE };
    image_check(sample.at, sample.n, use, &facts, &verdict);
    if (verdict.fault != fault || strstr(verdict.detail, words) == NULL) {
        fail_msg("%s: %s; expected %s: %s", image_fault_word(verdict.fault), verdict.detail, image_fault_word(fault),
                 words);
    }
    assert_int_equal(fault_of(&sample, sample.n, use), fault);
    free(sample.at);
}

static inline struct image_facts expect_ok(const struct sample *sample, enum image_use use)
{
    struct image_facts facts;
    struct image_verdict verdict = { .detail = "" };
    if (!image_check(sample->at, sample->n, use, &facts, &verdict)) {
        fail_msg("%s: %s", image_fault_word(verdict.fault), verdict.detail);
    }
    assert_int_equal(facts.file_bytes, sample->n);
    return facts;
}

static inline void expect_digest(const char *name, const uint8_t *bytes, size_t n, const uint8_t *expected)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned length;
    assert_int_equal(EVP_Digest(bytes, n, digest, &length, EVP_get_digestbyname(name), NULL), 1);
    assert_memory_equal(digest, expected, length);
}

/* No beginning of a good image passes. */
static inline void expect_no_cut_passes(struct sample sample, enum image_use use)
{
    expect_ok(&sample, use);
    for (size_t n = 0; n < sample.n; n++) {
        if (fault_of(&sample, n, use) == IMAGE_FAULT_NONE) {
            fail_msg("the first %zu of %zu bytes pass", n, sample.n);
        }
    }
    free(sample.at);
}

/* No image with a bit of its first n bytes turned passes. */
static inline void expect_no_flip_passes(struct sample sample, size_t n, enum image_use use)
{
    expect_ok(&sample, use);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        sample.at[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (fault_of(&sample, sample.n, use) == IMAGE_FAULT_NONE) {
            fail_msg("bit %zu of byte %zu turned, and it passes", bit % 8, bit / 8);
        }
        sample.at[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(sample.at);
}

#endif
