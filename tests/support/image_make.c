/* What makes it hard: each sum must be made over bytes that later ones change or cover, in the build tools'
 * order. */
#include "tests/support/image_make.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define ZLIB_CONST
#include <zlib.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define SKETCH_AT       0x1000u
#define APP_AT          0x10000u

/* The image under construction: `len` bytes are there, `size` is room. */
struct draft {
    uint8_t *at;
    size_t len;
    size_t size;
    uint32_t seed;
};

static void put(struct draft *draft, const void *bytes, size_t n)
{
    if (draft->len + n > draft->size) {
        draft->size = 2 * (draft->len + n);
        draft->at = realloc(draft->at, draft->size);
        assert(draft->at != NULL);
    }
    if (n > 0) {
        memcpy(draft->at + draft->len, bytes, n);
    }
    draft->len += n;
}

static void put_u8(struct draft *draft, unsigned value)
{
    uint8_t byte = (uint8_t)value;
    put(draft, &byte, 1);
}

static void put_u32(struct draft *draft, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        put_u8(draft, value >> 8 * i & 0xff);
    }
}

static void set_u32(struct draft *draft, size_t at, uint32_t value)
{
    for (size_t i = 0; i < 4; i++) {
        draft->at[at + i] = (uint8_t)(value >> 8 * i);
    }
}

static void put_run(struct draft *draft, unsigned value, size_t n)
{
    while (n-- > 0) {
        put_u8(draft, value);
    }
}

static void put_filler(struct draft *draft, size_t n)
{
    uint32_t x = draft->seed * 2654435761u + 0x9e3779b9u;
    while (n-- > 0) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        put_u8(draft, x >> 24 & 0x7f);
    }
    draft->seed = x;
}

static void put_segment(struct draft *draft, uint32_t address, size_t n)
{
    put_u32(draft, address);
    put_u32(draft, (uint32_t)n);
    put_filler(draft, n);
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Pads to the end of a row of 16 and sets the XOR of the segments' bytes from `part_at` on as its last byte.
 */
static void put_checksum(struct draft *draft, size_t part_at, size_t header_bytes, const struct image_make *wish)
{
    uint8_t sum = 0xef;
    size_t at = part_at + header_bytes;
    for (unsigned i = 0; i < draft->at[part_at + 1]; i++) {
        size_t n = draft->at[at + 4] | (size_t)draft->at[at + 5] << 8 | (size_t)draft->at[at + 6] << 16;
        for (size_t k = at + 8; k < at + 8 + n; k++) {
            sum ^= draft->at[k];
        }
        at += 8 + n;
    }
    assert(at == draft->len);
    put_run(draft, 0, 15 - draft->len % 16);
    put_u8(draft, wish->broken == IMAGE_MAKE_BREAK_CHECKSUM ? sum ^ 1u : sum);
}

static unsigned size_nibble(uint64_t flash_bytes, bool esp32)
{
    static const uint16_t esp8266_kib[] = { 512, 256, 1024, 2048, 4096, 0, 0, 0, 8192, 16384 };
    flash_bytes = flash_bytes == 0 ? 4 << 20 : flash_bytes;
    for (unsigned i = 0; i < COUNT_OF(esp8266_kib); i++) {
        uint64_t size = esp32 ? UINT64_C(1) << (20 + i) : (uint64_t)esp8266_kib[i] * 1024;
        if (size == flash_bytes) {
            return i;
        }
    }
    assert(!"a flash size that the table has");
    return 0;
}

static void put_header8(struct draft *draft, unsigned magic, unsigned segments, const struct image_make *wish)
{
    unsigned header[] = { magic, segments, wish->flash_mode, size_nibble(wish->flash_bytes, false) << 4 };
    for (size_t i = 0; i < COUNT_OF(header); i++) {
        put_u8(draft, header[i]);
    }
    put_u32(draft, 0x4010f49c);
}

static size_t at_least(size_t wanted, size_t least, size_t step)
{
    return round_up(wanted > least ? wanted : least, step);
}

static uint32_t crc_elf2bin(const struct draft *draft)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < draft->len; i++) {
        crc ^= (uint32_t)draft->at[i] << 24;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc & 0x80000000u) != 0 ? crc << 1 ^ 0x04c11db7u : crc << 1;
        }
    }
    return crc;
}

static void put_boot_part(struct draft *draft, const struct image_make *wish)
{
    struct image_make boot = *wish;
    boot.broken = IMAGE_MAKE_WHOLE;
    bool tasmota = wish->kind == IMAGE_MAKE_TASMOTA;
    put_header8(draft, 0xe9, tasmota ? 1 : 2, wish);
    put_segment(draft, 0x4010f000, 64);
    if (!tasmota) {
        put_segment(draft, 0x4010f040, 32);
    }
    put_checksum(draft, 0, 8, &boot);
    put_run(draft, 0xaa, SKETCH_AT - draft->len);
}

static void put_sketch_segments(struct draft *draft, size_t total)
{
    static const struct {
        uint32_t address;
        size_t bytes;
    } ram[] = { { 0x40100000, 16 }, { 0x4010013c, 13 }, { 0x3ffe8000, 16 }, { 0x3ffe88e0, 19 } };
    size_t headers = 8 + 8 * (size_t)(1 + COUNT_OF(ram));
    put_segment(draft, 0x40201010, total - SKETCH_AT - headers - 64 - 16);
    for (size_t i = 0; i < COUNT_OF(ram); i++) {
        put_segment(draft, ram[i].address, ram[i].bytes); /* odd lengths are usual since core 3.0 */
    }
}

/* elf2bin.py has other words there when it makes the XOR, and makes the CRC with zeros there. */
static void put_elf2bin_sums(struct draft *draft, const struct image_make *wish)
{
    set_u32(draft, 0x1010, 0xffffffffu);
    set_u32(draft, 0x1014, 0xfffffffeu);
    put_checksum(draft, SKETCH_AT, 8, wish);
    set_u32(draft, 0x1010, 0);
    set_u32(draft, 0x1014, 0);
    uint32_t crc = crc_elf2bin(draft);
    bool wrong = wish->broken == IMAGE_MAKE_BREAK_DIGEST || wish->broken == IMAGE_MAKE_BREAK_CHECKSUM;
    set_u32(draft, 0x1010, (uint32_t)draft->len);
    set_u32(draft, 0x1014, wrong ? crc ^ 1 : crc);
}

static void make_esp8266(struct draft *draft, const struct image_make *wish)
{
    bool segments = wish->broken == IMAGE_MAKE_BREAK_SEGMENTS;
    put_boot_part(draft, wish);
    put_header8(draft, 0xe9, segments ? 17 : 5, wish);
    put_sketch_segments(draft, at_least(wish->bytes, SKETCH_AT + 256, 16));
    if (segments) {
        put_run(draft, 0, 16);
    } else if (wish->kind == IMAGE_MAKE_ESP8266) {
        put_elf2bin_sums(draft, wish);
    } else {
        put_checksum(draft, SKETCH_AT, 8, wish);
        draft->at[draft->len - 1] ^= wish->broken == IMAGE_MAKE_BREAK_DIGEST;
    }
}

static void make_slot(struct draft *draft, const struct image_make *wish)
{
    size_t total = at_least(wish->bytes > 4 ? wish->bytes - 4 : 0, 256, 16);
    put_header8(draft, 0xea, 4, wish);
    draft->at[2] = 0; /* the SDK writes the slot where others have mode and size */
    draft->at[3] = wish->kind == IMAGE_MAKE_USER1 ? 1 : 2;
    put_segment(draft, 0, total - (16 + 8 + 48 + 8));
    size_t part_at = draft->len;
    put_header8(draft, 0xe9, wish->broken == IMAGE_MAKE_BREAK_SEGMENTS ? 17 : 2, wish);
    put_segment(draft, 0x40100000, 16);
    put_segment(draft, 0x3ffe8000, 16);
    if (wish->broken == IMAGE_MAKE_BREAK_SEGMENTS) {
        put_run(draft, 0, 16);
    } else {
        put_checksum(draft, part_at, 8, wish);
    }
    uint32_t crc = (uint32_t)crc32_z(0, draft->at, draft->len);
    crc = (crc & 0x80000000u) != 0 ? ~crc : crc + 1;
    put_u32(draft, wish->broken == IMAGE_MAKE_BREAK_DIGEST ? crc ^ 1 : crc);
}

static void put_text32(struct draft *draft, const char *text)
{
    char field[32] = "";
    size_t n = strlen(text);
    memcpy(field, text, n < sizeof field ? n : sizeof field);
    put(draft, field, sizeof field);
}

static void put_app(struct draft *draft, const struct image_make *wish)
{
    size_t at = draft->len;
    put_u32(draft, 0xabcd5432);
    put_run(draft, 0, 12);
    put_text32(draft, wish->version != NULL ? wish->version : "1.0.0");
    put_text32(draft, wish->project != NULL ? wish->project : "updraft-test");
    put(draft, "12:00:00\0\0\0\0\0\0\0\0Jan  1 2026\0\0\0\0", 32);
    put_text32(draft, "v5.3.1");
    put_filler(draft, 32); /* SHA-256 of an ELF file */
    put_run(draft, 0, at + 256 - draft->len);
}

static void put_header24(struct draft *draft, unsigned segments, const struct image_make *wish)
{
    put_u8(draft, 0xe9);
    put_u8(draft, segments);
    put_u8(draft, wish->flash_mode);
    put_u8(draft, size_nibble(wish->flash_bytes, true) << 4 | 0xf);
    put_u32(draft, 0x40081234);
    put_u8(draft, 0xee);
    put_run(draft, 0, 3);
    put_u8(draft, (unsigned)wish->chip & 0xff);
    put_u8(draft, (unsigned)wish->chip >> 8);
    put_run(draft, 0, 3);
    put_run(draft, 0xff, 2); /* any revision */
    put_run(draft, 0, 4);
    put_u8(draft, wish->no_hash ? 0 : 1);
}

static void put_sha256(struct draft *draft, size_t from, const struct image_make *wish)
{
    uint8_t digest[32];
    int ok = EVP_Digest(draft->at + from, draft->len - from, digest, NULL, EVP_sha256(), NULL);
    assert(ok == 1);
    digest[0] ^= wish->broken == IMAGE_MAKE_BREAK_DIGEST;
    put(draft, digest, sizeof digest);
}

/* An application, or a boot loader, whose segments all lie in RAM. It begins on a row of 16. */
static void put_esp32(struct draft *draft, const struct image_make *wish, bool application)
{
    size_t from = draft->len;
    size_t hash = wish->no_hash ? 0 : 32;
    size_t first = at_least(wish->bytes, 32 + 256 + 32 + hash, 16) - hash - 32 - 32;
    unsigned segments = wish->broken == IMAGE_MAKE_BREAK_SEGMENTS ? 17 : 2;
    put_header24(draft, segments, wish);
    put_u32(draft, application ? 0x3c000020 : 0x3fcd5c80);
    put_u32(draft, (uint32_t)first);
    if (application && !wish->no_app) {
        put_app(draft, wish);
        put_filler(draft, first - 256);
    } else {
        put_u8(draft, application ? 0 : 0x50);
        put_filler(draft, first - 1);
    }
    put_segment(draft, 0x40375c04, 16);
    if (segments == 17) {
        put_run(draft, 0, 8);
    } else {
        put_checksum(draft, from, 24, wish);
    }
    if (!wish->no_hash) {
        put_sha256(draft, from, wish);
    }
}

static void make_factory(struct draft *draft, const struct image_make *wish)
{
    bool late = wish->chip == CHIP_ESP32 || wish->chip == CHIP_ESP32_S2;
    struct image_make boot = *wish;
    boot.bytes = 0;
    boot.broken = IMAGE_MAKE_WHOLE;
    put_run(draft, 0xff, late ? 0x1000 : 0);
    put_esp32(draft, &boot, false);
    put_run(draft, 0xff, 0x8000 - draft->len);
    put(draft, "\xaa\x50\x01\x02\x00\x90\x00\x00\x00\x50\x00\x00nvs", 15);
    put_run(draft, 0xff, APP_AT - draft->len);
    boot.bytes = wish->bytes > APP_AT ? wish->bytes - APP_AT : 0;
    boot.broken = wish->broken;
    put_esp32(draft, &boot, true);
}

static void make_spiffs(struct draft *draft, const struct image_make *wish)
{
    size_t block = wish->block_bytes != 0 ? wish->block_bytes : 4096;
    size_t blocks = at_least(wish->bytes, 3 * block, block) / block;
    for (size_t i = 0; i < blocks; i++) {
        size_t left = wish->chip == CHIP_ESP8266 ? 0 : blocks - i;
        size_t magic = 0x0429 ^ left;
        put_run(draft, 0xff, 252);
        put_u8(draft, magic & 0xff);
        put_u8(draft, magic >> 8);
        put_run(draft, 0, 2); /* erase count */
        if (wish->empty && i == blocks - 1) {
            put_run(draft, 0xff, block - 256);
        } else {
            put_filler(draft, block - 256);
        }
    }
    assert(draft->at != NULL);
    if (wish->broken == IMAGE_MAKE_BREAK_CHECKSUM || wish->broken == IMAGE_MAKE_BREAK_DIGEST) {
        draft->at[(blocks - 1) * block + 252] ^= 1;
    }
}

/* Tags of littlefs SPEC.md, each XORed with the one before, most significant byte first. */
static void put_tag(struct draft *draft, uint32_t *before, uint32_t tag)
{
    uint32_t mixed = tag ^ *before;
    for (int i = 3; i >= 0; i--) {
        put_u8(draft, mixed >> 8 * i & 0xff);
    }
    *before = tag;
}

static void put_superblock(struct draft *draft, uint32_t revision, uint32_t block, uint32_t blocks)
{
    size_t at = draft->len;
    uint32_t before = 0xffffffffu;
    put_u32(draft, revision);
    put_tag(draft, &before, 0x0ff00008); /* superblock, id 0, 8 bytes */
    put(draft, "littlefs", 8);
    put_tag(draft, &before, 0x20100018); /* inline struct, id 0, 24 bytes */
    const uint32_t fields[] = { 0x00020001, block, blocks, 255, 0x7fffffff, 1022 };
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        put_u32(draft, fields[i]);
    }
    put_tag(draft, &before, 0x500ffc04); /* CRC, no id, 4 bytes */
    put_u32(draft, ~(uint32_t)crc32_z(0, draft->at + at, draft->len - at));
    put_run(draft, 0xff, at + block - draft->len);
}

static void make_littlefs(struct draft *draft, const struct image_make *wish)
{
    uint32_t block = wish->block_bytes != 0 ? wish->block_bytes : 4096;
    size_t empty = wish->empty ? 2 * (size_t)block : 0; /* one alone might belong to a file */
    size_t total = at_least(wish->bytes, 2 * (size_t)block + empty, block);
    put_superblock(draft, 1, block, (uint32_t)(total / block));
    put_superblock(draft, 2, block, (uint32_t)(total / block));
    put_filler(draft, total - empty - draft->len);
    put_run(draft, 0xff, empty);
    if (wish->broken == IMAGE_MAKE_BREAK_CHECKSUM || wish->broken == IMAGE_MAKE_BREAK_DIGEST) {
        draft->at[32] ^= 1; /* longest file name */
    }
}

static void make_html(struct draft *draft)
{
    static const char page[] = "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>\n"
                               "<body><h1>Not Found</h1></body></html>\n";
    put(draft, page, sizeof page - 1);
}

static void put_trailer(struct draft *draft, const struct image_make *wish)
{
    if (wish->trailer == 0) {
        return;
    }
    put_filler(draft, wish->trailer);
    if (wish->kind == IMAGE_MAKE_ESP8266 || wish->kind == IMAGE_MAKE_TASMOTA) {
        put_u32(draft, wish->trailer);
    }
}

static void compress_draft(struct draft *draft)
{
    struct draft packed = { 0 };
    z_stream stream = { .next_in = draft->at, .avail_in = (uInt)draft->len };
    int result = deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
    assert(result == Z_OK);
    put_run(&packed, 0, deflateBound(&stream, draft->len));
    stream.next_out = packed.at;
    stream.avail_out = (uInt)packed.len;
    result = deflate(&stream, Z_FINISH);
    assert(result == Z_STREAM_END);
    packed.len = stream.total_out;
    deflateEnd(&stream);
    free(draft->at);
    *draft = packed;
}

uint8_t *image_make(const struct image_make *wish, size_t *n)
{
    struct draft draft = { .seed = wish->seed };
    switch (wish->kind) {
    case IMAGE_MAKE_ESP8266:
    case IMAGE_MAKE_TASMOTA:
        make_esp8266(&draft, wish);
        break;
    case IMAGE_MAKE_USER1:
    case IMAGE_MAKE_USER2:
        make_slot(&draft, wish);
        break;
    case IMAGE_MAKE_ESP32:
        put_esp32(&draft, wish, true);
        break;
    case IMAGE_MAKE_FACTORY:
        make_factory(&draft, wish);
        break;
    case IMAGE_MAKE_SPIFFS:
        make_spiffs(&draft, wish);
        break;
    case IMAGE_MAKE_LITTLEFS:
        make_littlefs(&draft, wish);
        break;
    case IMAGE_MAKE_HTML:
        make_html(&draft);
        break;
    }
    put_trailer(&draft, wish);
    if (wish->gzip) {
        compress_draft(&draft);
    }
    if (wish->broken == IMAGE_MAKE_BREAK_TRUNCATE) {
        draft.len -= draft.len / 4 + 1;
    }
    *n = draft.len;
    return draft.at;
}
