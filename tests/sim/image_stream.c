/* Digests of an image that passes by. What makes it hard: a device reports the digest of the image, which may end
 * before the bytes do (a signature behind it), and where it ends is told by headers that lie between the segments. So
 * the walk over the segments runs ahead of the digest, byte for byte. */
#include "tests/sim/image_stream.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MAGIC            0xe9
#define ESP8266_SKETCH   0x1000u /* behind the boot part */
#define ESP8266_HEADER   8u
#define ESP32_HEADER     24u
#define SEGMENT_HEADER   8u
#define DIGEST_BYTES     32u
#define INFLATE_BYTES    16384u
#define END_UNKNOWN      UINT64_MAX
#define GZIP_WINDOW_BITS (15 + 16)

/* The chain of segments: the next header lies at `at`, and `have` of its `want` bytes have come. */
struct walk {
    uint64_t at, end;
    uint8_t bytes[ESP32_HEADER];
    unsigned have, want, segments;
    bool started, ended, appended_sha256;
};

struct image_stream {
    struct image_taker taker;
    EVP_MD_CTX *sent;
    uint64_t sent_bytes;
    uint8_t first[4];
    bool shallow; /* the outcome is known */
    struct image_result known;
    EVP_MD_CTX *running, *sha256; /* sha256: where none is appended */
    uint64_t image_bytes;         /* unpacked bytes that have come */
    uint8_t start[IMAGE_START_BYTES];
    uint8_t at_sketch; /* byte ESP8266_SKETCH */
    uint8_t tail[DIGEST_BYTES];
    struct walk walk;
    bool gzip, inflating, inflated, broken;
    z_stream z;
};

/* Looked up once: EVP_md5() in each EVP_DigestInit costs more than a small image's digest. */
static EVP_MD_CTX *digest_new(const char *name)
{
    static EVP_MD *md5, *sha256;
    EVP_MD **md = strcmp(name, "MD5") == 0 ? &md5 : &sha256;
    if (*md == NULL) {
        *md = EVP_MD_fetch(NULL, name, NULL);
    }
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    int ok = *md != NULL && digest != NULL && EVP_DigestInit_ex(digest, *md, NULL);
    assert(ok);
    return digest;
}

struct image_stream *image_stream_new(const struct image_taker *taker, const struct image_result *known)
{
    struct image_stream *stream = calloc(1, sizeof *stream);
    assert(stream != NULL);
    stream->taker = *taker;
    stream->sent = digest_new("MD5");
    stream->shallow = known != NULL;
    if (stream->shallow) {
        stream->known = *known;
        return stream;
    }
    stream->running = digest_new("MD5");
    stream->sha256 = digest_new("SHA256");
    stream->walk.at = taker->esp32 ? 0 : ESP8266_SKETCH;
    stream->walk.want = taker->esp32 ? ESP32_HEADER : ESP8266_HEADER;
    stream->walk.end = END_UNKNOWN;
    return stream;
}

void image_stream_free(struct image_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    EVP_MD_CTX_free(stream->sent);
    EVP_MD_CTX_free(stream->running);
    EVP_MD_CTX_free(stream->sha256);
    if (stream->inflating) {
        inflateEnd(&stream->z);
    }
    free(stream);
}

/* --- where the image ends ----------------------------------------------------------------------------------------- */

static uint32_t read_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* A header has come whole. Behind the last segment: zeros so that the checksum, one byte, ends a row of 16; then, on
 * the ESP32 and where byte 23 says so, the SHA-256. */
static void walk_step(struct walk *walk, bool esp32)
{
    if (!walk->started) {
        walk->started = true;
        walk->ended = walk->bytes[0] != MAGIC; /* no image that we know: it ends where the bytes end */
        walk->segments = walk->bytes[1];
        walk->appended_sha256 = esp32 && walk->bytes[23] == 1;
        walk->at += walk->want;
    } else {
        walk->at += SEGMENT_HEADER + (uint64_t)read_u32(walk->bytes + 4);
        walk->segments--;
    }
    walk->have = 0;
    walk->want = SEGMENT_HEADER;
    if (!walk->ended && walk->segments == 0) {
        walk->ended = true;
        walk->end = ((walk->at + 16) & ~(uint64_t)15) + (walk->appended_sha256 ? DIGEST_BYTES : 0);
    }
}

/* The bytes begin at `from` in the image. */
static void walk_over(struct walk *walk, bool esp32, uint64_t from, const uint8_t *bytes, size_t n)
{
    uint64_t end = from + n;
    while (!walk->ended && walk->at + walk->have < end) {
        walk->bytes[walk->have] = bytes[walk->at + walk->have - from];
        walk->have++;
        if (walk->have == walk->want) {
            walk_step(walk, esp32);
        }
    }
}

/* --- digests ------------------------------------------------------------------------------------------------------ */

/* The last 32 bytes of all that was digested. */
static void keep_tail(struct image_stream *stream, const uint8_t *bytes, size_t n)
{
    size_t part = n < DIGEST_BYTES ? n : DIGEST_BYTES;
    memmove(stream->tail, stream->tail + part, DIGEST_BYTES - part);
    memcpy(stream->tail + DIGEST_BYTES - part, bytes + n - part, part);
}

static void digest_image(struct image_stream *stream, const uint8_t *bytes, size_t n)
{
    bool ok = EVP_DigestUpdate(stream->running, bytes, n) == 1;
    if (stream->taker.esp32 && !stream->walk.appended_sha256) {
        ok = EVP_DigestUpdate(stream->sha256, bytes, n) == 1 && ok;
    }
    assert(ok);
    keep_tail(stream, bytes, n);
}

/* The Updater writes the device's own flash mode into an uncompressed sketch. */
static bool is_patched(const struct image_stream *stream, uint64_t at)
{
    return at == 2 && !stream->taker.esp32 && !stream->gzip && !stream->taker.fs && stream->start[0] == MAGIC;
}

/* Unpacked bytes, in order. The first ones come singly, so that a byte can be another in flash than on the way. */
static void take_image(struct image_stream *stream, const uint8_t *bytes, size_t n)
{
    uint64_t from = stream->image_bytes;
    for (size_t i = 0; i < n && from + i < sizeof stream->start; i++) {
        stream->start[from + i] = bytes[i];
    }
    if (from <= ESP8266_SKETCH && ESP8266_SKETCH < from + n) {
        stream->at_sketch = bytes[ESP8266_SKETCH - from];
    }
    walk_over(&stream->walk, stream->taker.esp32, from, bytes, n);
    stream->image_bytes += n;
    size_t done = 0;
    while (done < n && is_patched(stream, 2) && from + done <= 2) {
        uint8_t byte = is_patched(stream, from + done) ? stream->taker.flash_mode : bytes[done];
        digest_image(stream, &byte, 1);
        done++;
    }
    uint64_t left = stream->walk.end - (from + done < stream->walk.end ? from + done : stream->walk.end);
    size_t rest = n - done < left ? n - done : (size_t)left;
    if (rest > 0) {
        digest_image(stream, bytes + done, rest);
    }
}

static void inflate_image(struct image_stream *stream, const uint8_t *bytes, size_t n)
{
    uint8_t out[INFLATE_BYTES];
    if (!stream->inflating) {
        stream->inflating = inflateInit2(&stream->z, GZIP_WINDOW_BITS) == Z_OK;
        stream->broken = !stream->inflating;
    }
    stream->z.next_in = (z_const Bytef *)(uintptr_t)bytes; /* zlib's pointer is not const, its use is */
    stream->z.avail_in = (uInt)n;
    while (!stream->broken && !stream->inflated) {
        stream->z.next_out = out;
        stream->z.avail_out = sizeof out;
        int result = inflate(&stream->z, Z_NO_FLUSH);
        take_image(stream, out, sizeof out - stream->z.avail_out);
        stream->inflated = result == Z_STREAM_END;
        stream->broken = result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR;
        if (stream->z.avail_out != 0) {
            break; /* it wants more of the file */
        }
    }
}

void image_stream_add(struct image_stream *stream, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n && stream->sent_bytes + i < sizeof stream->first; i++) {
        stream->first[stream->sent_bytes + i] = bytes[i];
    }
    int ok = EVP_DigestUpdate(stream->sent, bytes, n);
    assert(ok);
    if (stream->sent_bytes == 0 && n > 0) {
        stream->gzip = bytes[0] == 0x1f && !stream->taker.fs;
    }
    stream->sent_bytes += n;
    if (stream->shallow || stream->taker.fs) {
        return;
    }
    if (stream->gzip) {
        inflate_image(stream, bytes, n);
    } else {
        take_image(stream, bytes, n);
    }
}

const uint8_t *image_stream_first(const struct image_stream *stream, size_t *n)
{
    *n = stream->sent_bytes < sizeof stream->first ? (size_t)stream->sent_bytes : sizeof stream->first;
    return stream->first;
}

/* --- the outcome -------------------------------------------------------------------------------------------------- */

static const uint8_t app_magic[4] = { 0x32, 0x54, 0xcd, 0xab };

static enum image_family family_of(const struct image_stream *stream)
{
    if (stream->image_bytes > 36 && memcmp(stream->start + 32, app_magic, sizeof app_magic) == 0) {
        return IMAGE_FAMILY_ESP32;
    }
    if (stream->image_bytes > ESP8266_SKETCH && stream->start[0] == MAGIC && stream->at_sketch == MAGIC) {
        return IMAGE_FAMILY_ESP8266;
    }
    return IMAGE_FAMILY_UNKNOWN;
}

static void digest_end(EVP_MD_CTX *digest, uint8_t *to)
{
    int ok = EVP_DigestFinal_ex(digest, to, NULL);
    assert(ok);
}

void image_stream_result(struct image_stream *stream, struct image_result *result)
{
    uint8_t sent[16];
    digest_end(stream->sent, sent);
    *result = stream->known;
    memcpy(result->sent_md5, sent, sizeof sent);
    if (stream->shallow) {
        return;
    }
    digest_end(stream->running, result->md5);
    digest_end(stream->sha256, result->sha256);
    if (stream->walk.appended_sha256) {
        memcpy(result->sha256, stream->tail, DIGEST_BYTES);
    }
    uint64_t bytes = stream->walk.end < stream->image_bytes ? stream->walk.end : stream->image_bytes;
    result->bytes = (uint32_t)bytes;
    result->whole = !stream->gzip || (stream->inflated && !stream->broken);
    result->family = family_of(stream);
    if (result->family == IMAGE_FAMILY_ESP32) {
        memcpy(result->app_version, stream->start + 48, 32);
    }
}
