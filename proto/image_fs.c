/* File system images: LittleFS, which names itself, and SPIFFS, which does not.
 *
 * SPIFFS has no header. Each erase block's lookup page ends with a 16-bit magic and an erase count, so an
 * image is known by the same word standing in every block; the ESP32's form also counts the blocks left, the
 * ESP8266's does not and can be cut at any block unseen. Neither has a checksum of the files. Sources:
 * littlefs SPEC.md (superblock, commits); spiffs_nucleus.h (SPIFFS_MAGIC); images of mkspiffs and mklittlefs
 * as the Arduino cores call them.
 *
 * An ESP8266 that has a key asks the trailer of file systems as well (esp8266/Arduino cores/esp8266/Updater.cpp, end),
 * and has no room behind its partition, which an image fills. LittleFS wants its number of blocks to be the
 * partition's (lfs.c, lfs_mount), so a smaller one would be formatted. What can go is the last block, where it is
 * empty: LittleFS erases blocks before it takes them, SPIFFS erases one without its magic (spiffs_obj_lu_scan).
 */
#include "proto/image_checks.h"

#include <string.h>
#include <zlib.h>

enum {
    LFS_MAGIC_AT = 8,
    LFS_VERSION_AT = 20,
    LFS_BLOCK_BYTES_AT = 24,
    LFS_BLOCK_COUNT_AT = 28,
    LFS_SUPERBLOCK_END = 44,
    LFS_BLOCK_MIN = 128,
    LFS_BLOCK_MAX = 1 << 16,
    LFS_VERSION_MAJOR = 2,

    SPIFFS_MAGIC_AT = 252, /* two words before the end of a 256-byte lookup page */
    SPIFFS_MAGIC = 0x0429, /* 0x20140529 ^ page size, low half */
    SPIFFS_SMALL = 4096,
    SPIFFS_LARGE = 8192,
    SPIFFS_BLOCKS_MIN = 2,
    SPIFFS_PROBES = 8, /* blocks looked at before a file without a header is called SPIFFS */
};

#define REMEDY_WHOLE "copy the file again, or build it again with the size of the device's file system partition"

static bool has_lfs_magic(struct image_view view, size_t block_at)
{
    return image_has(view, block_at, LFS_SUPERBLOCK_END) &&
           memcmp(view.at + block_at + LFS_MAGIC_AT, "littlefs", 8) == 0;
}

/* The superblock lies in blocks 0 and 1; where block 0 is damaged, block 1 is found by trying every size. */
static bool find_lfs(struct image_view view, size_t *block_at)
{
    if (has_lfs_magic(view, 0)) {
        *block_at = 0;
        return true;
    }
    for (size_t bytes = LFS_BLOCK_MIN; bytes <= LFS_BLOCK_MAX; bytes *= 2) {
        if (has_lfs_magic(view, bytes) && image_u32(view, bytes + LFS_BLOCK_BYTES_AT) == bytes) {
            *block_at = bytes;
            return true;
        }
    }
    return false;
}

bool image_is_littlefs(struct image_view view)
{
    size_t block_at;
    return find_lfs(view, &block_at);
}

static uint32_t u32_big(struct image_view view, size_t at)
{
    const uint8_t *b = view.at + at;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Whether the first commit of a block has its CRC. A commit is a run of tags, each XORed with the one before,
 * up to a CRC tag; the CRC covers all from the block's start through that tag. */
static bool lfs_commit_holds(struct image_view view, size_t block_at, size_t block_bytes)
{
    uint32_t before = 0xffffffffu;
    size_t end = block_at + block_bytes;
    for (size_t at = block_at + 4; at + 8 <= end && image_has(view, at, 8);) {
        uint32_t tag = u32_big(view, at) ^ before;
        if ((tag & 0x80000000u) != 0) {
            return false;
        }
        if ((tag & 0x78000000u) == 0x50000000u) {
            uint32_t crc = ~(uint32_t)crc32_z(0, view.at + block_at, at + 4 - block_at); /* no final inversion */
            return crc == image_u32(view, at + 4);
        }
        uint32_t bytes = tag & 0x3ff;
        at += 4 + (bytes == 0x3ff ? 0 : bytes);
        before = tag;
    }
    return false;
}

static bool check_lfs_superblock(struct image_view view, size_t at, struct image_verdict *verdict)
{
    uint32_t version = image_u32(view, at + LFS_VERSION_AT);
    uint32_t bytes = image_u32(view, at + LFS_BLOCK_BYTES_AT);
    uint32_t count = image_u32(view, at + LFS_BLOCK_COUNT_AT);
    if (version >> 16 != LFS_VERSION_MAJOR) {
        return image_refuse(verdict, IMAGE_FAULT_FILE_SYSTEM, "build it with mklittlefs of the device's core",
                            "LittleFS version %u.%u where devices read %d.x", version >> 16, version & 0xffff,
                            LFS_VERSION_MAJOR);
    }
    bool power_of_two = (bytes & (bytes - 1)) == 0;
    if (bytes < LFS_BLOCK_MIN || bytes > LFS_BLOCK_MAX || !power_of_two || count < 2 ||
        count > IMAGE_BYTES_MAX / LFS_BLOCK_MIN) {
        return image_refuse(verdict, IMAGE_FAULT_FILE_SYSTEM, REMEDY_WHOLE,
                            "LittleFS superblock claims %u blocks of %u bytes", count, bytes);
    }
    return true;
}

/* Takes the signature off. A file system is whole sectors. */
static struct image_view take_trailer(struct image_view view, struct image_facts *facts)
{
    facts->signature_bytes = (uint32_t)image_signature_bytes(view, view.len - view.len % IMAGE_SECTOR);
    view.len -= facts->signature_bytes;
    return view;
}

bool image_check_littlefs(struct image_view file, struct image_facts *facts, struct image_verdict *verdict)
{
    struct image_view view = take_trailer(file, facts);
    size_t at = 0;
    if (!find_lfs(view, &at)) { /* what looked like a signature has the superblock in it */
        facts->signature_bytes = 0;
        view = file;
        bool found = find_lfs(view, &at);
        assert(found); /* image_is_littlefs said so */
        (void)found;
    }
    if (!check_lfs_superblock(view, at, verdict)) {
        return false;
    }
    uint32_t bytes = image_u32(view, at + LFS_BLOCK_BYTES_AT);
    uint64_t whole = (uint64_t)bytes * image_u32(view, at + LFS_BLOCK_COUNT_AT);
    bool is_cut = facts->signature_bytes > 0 && view.len + bytes == whole; /* for the trailer's sake */
    if (view.len < whole && !is_cut) {
        return image_refuse(verdict, IMAGE_FAULT_TRUNCATED, REMEDY_WHOLE,
                            "LittleFS of %llu bytes, the file ends at %zu", (unsigned long long)whole, view.len);
    }
    if (!is_cut && view.len - whole >= bytes) { /* a partition's rest that is no whole block is tolerable */
        return image_refuse(verdict, IMAGE_FAULT_FILE_SYSTEM, REMEDY_WHOLE, "LittleFS of %llu bytes in a file of %zu",
                            (unsigned long long)whole, view.len);
    }
    if (!lfs_commit_holds(view, at, bytes)) {
        return image_refuse(verdict, IMAGE_FAULT_FILE_SYSTEM, REMEDY_WHOLE,
                            "the LittleFS superblock at %zu, of blocks of %u bytes, has not the CRC of its bytes", at,
                            bytes);
    }
    facts->kind = IMAGE_LITTLEFS;
    facts->chip = CHIP_UNKNOWN;
    facts->flash_mode = 0xff;
    facts->block_bytes = bytes;
    facts->image_bytes = view.len;
    return true;
}

static uint16_t spiffs_word(struct image_view view, size_t block_bytes, size_t index)
{
    return image_u16(view, index * block_bytes + SPIFFS_MAGIC_AT);
}

struct spiffs_form {
    size_t block_bytes;
    size_t total; /* blocks, which the ESP32's form mixes into the magic; 0: not counted */
};

static uint16_t spiffs_magic(const struct spiffs_form *form, size_t index)
{
    return (uint16_t)(SPIFFS_MAGIC ^ (form->total > index ? form->total - index : 0));
}

/* One block of the probed may be damaged: the check then says which. */
static bool spiffs_form_fits(struct image_view view, const struct spiffs_form *form)
{
    size_t blocks = view.len / form->block_bytes;
    size_t probes = blocks < SPIFFS_PROBES ? blocks : SPIFFS_PROBES;
    size_t good = 0;
    for (size_t i = 0; i < probes; i++) {
        good += spiffs_word(view, form->block_bytes, i) == spiffs_magic(form, i);
    }
    return good >= SPIFFS_BLOCKS_MIN && good + 1 >= probes;
}

static bool spiffs_form_of(struct image_view view, struct spiffs_form *form)
{
    if (view.len < SPIFFS_SMALL) {
        return false;
    }
    size_t total = SPIFFS_MAGIC ^ spiffs_word(view, SPIFFS_SMALL, 0);
    bool counted = total >= SPIFFS_BLOCKS_MIN && total <= IMAGE_BYTES_MAX / SPIFFS_SMALL;
    const struct spiffs_form forms[] = { { SPIFFS_SMALL, counted ? total : 0 }, { SPIFFS_LARGE, 0 } };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (spiffs_form_fits(view, &forms[i])) {
            *form = forms[i];
            return true;
        }
    }
    return false;
}

bool image_is_spiffs(struct image_view view)
{
    struct spiffs_form form;
    return spiffs_form_of(view, &form);
}

static bool check_spiffs_size(struct image_view view, const struct spiffs_form *form, struct image_verdict *verdict)
{
    if (form->total != 0 && view.len != form->total * form->block_bytes) {
        bool cut = view.len < form->total * form->block_bytes;
        return image_refuse(verdict, cut ? IMAGE_FAULT_TRUNCATED : IMAGE_FAULT_FILE_SYSTEM, REMEDY_WHOLE,
                            "SPIFFS of %zu blocks, %zu bytes, in a file of %zu", form->total,
                            form->total * form->block_bytes, view.len);
    }
    if (view.len % IMAGE_SECTOR != 0) { /* 0xfb000 bytes in blocks of 8192, as the cores' 4M1M, leave half a block */
        return image_refuse(verdict, IMAGE_FAULT_TRUNCATED, REMEDY_WHOLE,
                            "SPIFFS ends at %zu, which is within a flash sector of %u bytes", view.len, IMAGE_SECTOR);
    }
    return true;
}

bool image_check_spiffs(struct image_view file, struct image_facts *facts, struct image_verdict *verdict)
{
    struct image_view view = take_trailer(file, facts);
    struct spiffs_form form;
    bool is_spiffs = spiffs_form_of(view, &form);
    assert(is_spiffs); /* image_is_spiffs said so */
    if (!check_spiffs_size(view, &form, verdict)) {
        return false;
    }
    size_t blocks = view.len / form.block_bytes;
    for (size_t i = 0; i < blocks; i++) {
        unsigned found = spiffs_word(view, form.block_bytes, i);
        if (found != spiffs_magic(&form, i)) {
            return image_refuse(verdict, IMAGE_FAULT_FILE_SYSTEM, REMEDY_WHOLE,
                                "SPIFFS block %zu of %zu has magic 0x%04x where 0x%04x belongs", i, blocks, found,
                                spiffs_magic(&form, i));
        }
    }
    facts->kind = IMAGE_SPIFFS;
    facts->chip = CHIP_UNKNOWN;
    facts->flash_mode = 0xff;
    facts->block_bytes = (uint32_t)form.block_bytes;
    facts->image_bytes = view.len;
    return true;
}

/* --- room for a trailer ------------------------------------------------------------------------------------------- */

static bool is_filled_with(struct image_view view, size_t at, size_t n, uint8_t value)
{
    for (size_t i = at; i < at + n; i++) {
        if (view.at[i] != value) {
            return false;
        }
    }
    return true;
}

/* Nothing in a block of LittleFS says that it is free, and a file may begin with a whole block of FF. But where a file
 * goes on, its next block begins with a pointer (SPEC.md, CTZ skip-lists); so of two blocks that look erased neither is
 * in use, short of two such files that lie side by side at the very end. */
static bool lfs_ends_empty(struct image_view view, size_t whole, size_t block_bytes)
{
    return whole >= 4 * block_bytes && (is_filled_with(view, whole - 2 * block_bytes, 2 * block_bytes, 0xff) ||
                                        is_filled_with(view, whole - 2 * block_bytes, 2 * block_bytes, 0));
}

static bool spiffs_ends_empty(struct image_view view, size_t whole, size_t block_bytes)
{
    size_t at = whole - block_bytes, rest = SPIFFS_MAGIC_AT + 4; /* magic and erase count */
    return whole >= 3 * block_bytes && is_filled_with(view, at, SPIFFS_MAGIC_AT, 0xff) &&
           is_filled_with(view, at + rest, block_bytes - rest, 0xff);
}

enum image_room image_fs_room(const uint8_t *bytes, const struct image_facts *facts, size_t *n)
{
    struct image_view view = { bytes, (size_t)facts->file_bytes };
    struct spiffs_form form;
    size_t block_bytes = facts->block_bytes, at;
    bool is_counted = facts->kind == IMAGE_SPIFFS && (!spiffs_form_of(view, &form) || form.total != 0);
    if (is_counted || block_bytes % IMAGE_SECTOR != 0) {
        return IMAGE_ROOM_UNWANTED;
    }
    size_t whole = view.len - view.len % block_bytes;
    if (facts->kind == IMAGE_LITTLEFS && find_lfs(view, &at)) {
        whole = block_bytes * (size_t)image_u32(view, at + LFS_BLOCK_COUNT_AT);
    }
    assert(facts->signature_bytes == 0 && whole <= view.len);
    if (view.len - whole >= IMAGE_SECTOR) { /* the partition's rest, which is no block */
        *n = whole;
        return IMAGE_ROOM;
    }
    bool empty = facts->kind == IMAGE_SPIFFS ? spiffs_ends_empty(view, whole, block_bytes)
                                             : lfs_ends_empty(view, whole, block_bytes);
    *n = empty ? whole - block_bytes : *n;
    return empty ? IMAGE_ROOM : IMAGE_ROOM_NONE;
}
