/* What the checks of one image format share with image.c, and nobody else.
 *
 * An image_is_… looks at a few bytes and says which check shall judge; it may be wrong about a broken file,
 * so the check believes nothing it has not looked at again. An image_check_… fills the facts that its format
 * knows (kind, chip, header fields, image_bytes, run_sha256) and returns true, or refuses with a verdict and
 * returns false.
 */
#ifndef PROTO_IMAGE_CHECKS_H
#define PROTO_IMAGE_CHECKS_H

#include "proto/image.h"

#include <assert.h>

struct image_view {
    const uint8_t *at;
    size_t len;
};

#define IMAGE_SECTOR 4096u

/* Writes the verdict and returns false, so that a check ends with it. Texts are plain ASCII; `remedy` is
 * whole. */
bool image_refuse(struct image_verdict *verdict, enum image_fault fault, const char *remedy, const char *detail, ...)
    __attribute__((format(printf, 4, 5)));

static inline bool image_has(struct image_view view, size_t at, size_t n)
{
    return at <= view.len && n <= view.len - at;
}

static inline uint16_t image_u16(struct image_view view, size_t at)
{
    assert(image_has(view, at, 2));
    return (uint16_t)(view.at[at] | view.at[at + 1] << 8);
}

static inline uint32_t image_u32(struct image_view view, size_t at)
{
    assert(image_has(view, at, 4));
    return image_u16(view, at) | (uint32_t)image_u16(view, at + 2) << 16;
}

/* The part of an image that begins with E9 and lists its segments: the same on both families but for the
 * header. */
struct image_part {
    uint32_t segments;
    uint32_t step;      /* lengths are multiples of it */
    uint32_t mapped;    /* segments that lie in flash as they are addressed: an application has some */
    size_t end;         /* just behind the checksum byte */
    uint8_t sum, found; /* XOR of the segments' bytes from EF on, and the byte at end - 1 */
};

/* Walks the part whose header of `header_bytes` begins at `at`. Refuses with TRUNCATED or SEGMENTS; the
 * checksum is left to the caller. */
bool image_part_walk(struct image_view view, size_t at, size_t header_bytes, struct image_part *part,
                     struct image_verdict *verdict);
bool image_part_checksum(const struct image_part *part, const char *whose, struct image_verdict *verdict);

bool image_is_esp8266(struct image_view view);
bool image_check_esp8266(struct image_view view, struct image_facts *facts, struct image_verdict *verdict);
bool image_is_slot(struct image_view view);
bool image_check_slot(struct image_view view, struct image_facts *facts, struct image_verdict *verdict);

/* Bytes of the signature (tools/signing.py) behind the first `end` bytes: 0 where there are none, or other
 * bytes. */
size_t image_signature_bytes(struct image_view view, size_t end);

bool image_is_esp32(struct image_view view);
bool image_check_esp32(struct image_view view, struct image_facts *facts, struct image_verdict *verdict);
bool image_is_flash_start(struct image_view view); /* erased flash, then a boot loader */
bool image_refuse_flash_start(struct image_view view, struct image_facts *facts, struct image_verdict *verdict);

bool image_is_littlefs(struct image_view view);
bool image_check_littlefs(struct image_view view, struct image_facts *facts, struct image_verdict *verdict);
bool image_is_spiffs(struct image_view view);
bool image_check_spiffs(struct image_view view, struct image_facts *facts, struct image_verdict *verdict);

/* Fills file_bytes, md5, sha256 and run_md5. `image` has facts->image_bytes bytes and may lie within `file`.
 */
void image_digest(struct image_view file, struct image_view image, struct image_facts *facts);
void image_sha256(struct image_view view, uint8_t digest[32]);

#endif
