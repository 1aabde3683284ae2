/* ESP8266 images: the Arduino core's (boot part at 0, sketch part at 0x1000) and the native SDK's
 * user1/user2.
 *
 * The hard thing is which check to believe. elf2bin.py writes the length and a CRC of the whole file into the
 * sketch part after the part's XOR was made, so there the XOR is wrong and the CRC decides; other build
 * systems leave those words alone, and the XOR decides. Sources: esp8266/Arduino tools/elf2bin.py,
 * tools/signing.py; esptool; the NONOS SDK's own images.
 */
#include "proto/image_checks.h"

#include <string.h>
#include <zlib.h>

enum {
    HEADER_BYTES = 8,
    SEGMENT_HEADER_BYTES = 8,
    SEGMENTS_MAX = 16,
    MODE_AT = 2,
    SIZE_AT = 3,
    FIRST_ADDRESS_AT = 8,

    SKETCH_AT = 0x1000,
    LENGTH_AT = 0x1010,
    CRC_AT = 0x1014,
    CRC_END = 0x1018,

    SLOT_SECOND = 0x04, /* byte 1 of a slot */
    SLOT_IROM_AT = 8,
    SLOT_CRC_BYTES = 4,
    SIGNATURE_MIN = 64,
    SIGNATURE_MAX = 1024,
};
#define SEGMENT_BYTES_MAX IMAGE_BYTES_MAX
#define MAPPED_PAGE       0x2000u /* the smallest page of the ESP32 family's flash mapping */

#define REMEDY_COPY_WHOLE "copy the file again; it arrived incomplete"
#define REMEDY_COPY       "copy the file again, or build it again: its bytes have changed since"
#define REMEDY_SINGLE     "export the sketch from the Arduino core; native SDK images are <type>/<version>.user1.bin"

static bool walk_segment(struct image_view view, size_t *at, struct image_part *part, uint32_t index,
                         struct image_verdict *verdict)
{
    if (!image_has(view, *at, SEGMENT_HEADER_BYTES)) {
        return image_refuse(verdict, IMAGE_FAULT_TRUNCATED, REMEDY_COPY_WHOLE,
                            "segment %u of %u begins at %zu, the file ends at %zu", index + 1, part->segments, *at,
                            view.len);
    }
    uint32_t address = image_u32(view, *at);
    uint32_t bytes = image_u32(view, *at + 4);
    if (bytes > SEGMENT_BYTES_MAX || bytes % part->step != 0) {
        return image_refuse(verdict, IMAGE_FAULT_SEGMENTS, REMEDY_COPY,
                            "segment %u of %u claims %u bytes; at most %u are possible, in steps of %u", index + 1,
                            part->segments, bytes, SEGMENT_BYTES_MAX, part->step);
    }
    size_t data = *at + SEGMENT_HEADER_BYTES;
    if (!image_has(view, data, bytes)) {
        return image_refuse(verdict, IMAGE_FAULT_TRUNCATED, REMEDY_COPY_WHOLE,
                            "segment %u of %u ends at %zu, the file at %zu", index + 1, part->segments, data + bytes,
                            view.len);
    }
    for (size_t i = data; i < data + bytes; i++) {
        part->sum ^= view.at[i];
    }
    part->mapped += bytes > 0 && address % MAPPED_PAGE == data % MAPPED_PAGE;
    *at = data + bytes;
    return true;
}

bool image_part_walk(struct image_view view, size_t at, size_t header_bytes, struct image_part *part,
                     struct image_verdict *verdict)
{
    if (!image_has(view, at, header_bytes)) {
        return image_refuse(verdict, IMAGE_FAULT_TRUNCATED, REMEDY_COPY_WHOLE,
                            "the header at %zu has %zu bytes, the file ends at %zu", at, header_bytes, view.len);
    }
    *part = (struct image_part){ .segments = view.at[at + 1], .sum = 0xef };
    part->step =
        header_bytes == HEADER_BYTES ? 1 : 4; /* elf2bin.py writes odd lengths, esp_image_format.c wants words */
    if (part->segments == 0 || part->segments > SEGMENTS_MAX) {
        return image_refuse(verdict, IMAGE_FAULT_SEGMENTS, REMEDY_COPY, "%u segments at byte %zu, 1 to %d are possible",
                            part->segments, at + 1, SEGMENTS_MAX);
    }
    at += header_bytes;
    for (uint32_t i = 0; i < part->segments; i++) {
        if (!walk_segment(view, &at, part, i, verdict)) {
            return false;
        }
    }
    part->end = at / 16 * 16 + 16; /* zeros up to the checksum, which is the last byte of its row */
    if (!image_has(view, 0, part->end)) {
        return image_refuse(verdict, IMAGE_FAULT_TRUNCATED, REMEDY_COPY_WHOLE,
                            "the checksum's row ends at %zu, the file at %zu", part->end, view.len);
    }
    part->found = view.at[part->end - 1];
    return true;
}

bool image_part_checksum(const struct image_part *part, const char *whose, struct image_verdict *verdict)
{
    if (part->sum != part->found) {
        return image_refuse(verdict, IMAGE_FAULT_CHECKSUM, REMEDY_COPY,
                            "the %s's bytes have checksum 0x%02x, the one at %zu is 0x%02x", whose, part->sum,
                            part->end - 1, part->found);
    }
    return true;
}

size_t image_signature_bytes(struct image_view view, size_t end)
{
    if (view.len < end + SIGNATURE_MIN + 4) {
        return 0;
    }
    uint32_t bytes = image_u32(view, view.len - 4);
    bool plausible = bytes >= SIGNATURE_MIN && bytes <= SIGNATURE_MAX && view.len - end == (size_t)bytes + 4;
    return plausible ? (size_t)bytes + 4 : 0;
}

/* CRC-32 with polynomial 0x04C11DB7, most significant bit first, no final XOR, the length and CRC words taken
 * as 0 (elf2bin.py). zlib's is the mirrored one. */
static uint32_t elf2bin_crc(struct image_view view, size_t end)
{
    uint32_t table[256];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i << 24;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc << 1) ^ ((crc & 0x80000000u) != 0 ? 0x04c11db7u : 0);
        }
        table[i] = crc;
    }
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < end; i++) {
        uint8_t byte = i >= LENGTH_AT && i < CRC_END ? 0 : view.at[i];
        crc = (crc << 8) ^ table[(crc >> 24) ^ byte];
    }
    return crc;
}

/* Flash sizes of the high nibble of byte 3; the ESP32 family's table is another. */
static uint64_t flash_bytes_of(uint8_t size_and_speed)
{
    static const uint16_t kib[16] = { 512, 256, 1024, 2048, 4096, 2048, 4096, 0, 8192, 16384 };
    return (uint64_t)kib[size_and_speed >> 4] * 1024;
}

/* Where an ESP32 has its pin settings, an ESP8266 image has its first segment's address: RAM (0x3ffe8000 on),
 * fast RAM (0x40100000 on) or mapped flash (0x40200000 on). */
bool image_is_esp8266(struct image_view view)
{
    if (view.at[0] != 0xe9 || !image_has(view, FIRST_ADDRESS_AT, 4)) {
        return false;
    }
    bool esp32_app = image_has(view, 32, 4) && image_u32(view, 32) == 0xabcd5432u;
    uint32_t megabyte = image_u32(view, FIRST_ADDRESS_AT) >> 20;
    return !esp32_app && (megabyte == 0x3ff || megabyte == 0x401 || megabyte == 0x402);
}

static bool check_mode(struct image_view view, struct image_facts *facts, struct image_verdict *verdict)
{
    if (view.at[MODE_AT] > IMAGE_FLASH_DOUT) {
        return image_refuse(verdict, IMAGE_FAULT_HEADER, "build it again with flash mode DOUT, DIO, QIO or QOUT",
                            "flash mode %u at byte %d, the largest is %d", view.at[MODE_AT], MODE_AT, IMAGE_FLASH_DOUT);
    }
    facts->flash_mode = view.at[MODE_AT];
    facts->flash_bytes = flash_bytes_of(view.at[SIZE_AT]);
    return true;
}

/* The boot part fits below the sketch part, and there is one. */
static bool check_boot_part(struct image_view view, struct image_verdict *verdict)
{
    struct image_part boot;
    if (!image_part_walk(view, 0, HEADER_BYTES, &boot, verdict) || !image_part_checksum(&boot, "boot part", verdict)) {
        return false;
    }
    if (boot.end > SKETCH_AT) {
        return image_refuse(verdict, IMAGE_FAULT_HEADER, REMEDY_SINGLE,
                            "a single-part image: its first part ends at %zu, beyond %d where a sketch begins",
                            boot.end, SKETCH_AT);
    }
    if (view.len <= SKETCH_AT) {
        return image_refuse(verdict, IMAGE_FAULT_TRUNCATED,
                            "copy the whole file again; a boot loader alone is no update",
                            "the sketch begins at %d, the file ends at %zu", SKETCH_AT, view.len);
    }
    if (view.at[SKETCH_AT] != 0xe9) {
        return image_refuse(verdict, IMAGE_FAULT_HEADER, REMEDY_SINGLE,
                            "a single-part image: byte %d is 0x%02x, where a sketch begins with 0xe9", SKETCH_AT,
                            view.at[SKETCH_AT]);
    }
    return true;
}

/* A CRC that holds beside a length that does not, or the other way round, is elf2bin's file with a word
 * damaged. */
static bool check_sketch_sum(struct image_view view, const struct image_part *sketch, struct image_verdict *verdict)
{
    assert(sketch->end >= CRC_END); /* a header and one segment's fill the first row */
    uint32_t length = image_u32(view, LENGTH_AT);
    uint32_t crc = image_u32(view, CRC_AT);
    uint32_t computed = elf2bin_crc(view, sketch->end);
    if (length != sketch->end && crc != computed) {
        return image_part_checksum(sketch, "sketch part", verdict);
    }
    if (crc != computed) {
        return image_refuse(verdict, IMAGE_FAULT_CHECKSUM, REMEDY_COPY,
                            "the bytes have CRC 0x%08x, the one at %d is 0x%08x", computed, CRC_AT, crc);
    }
    if (length != sketch->end) {
        return image_refuse(verdict, IMAGE_FAULT_CHECKSUM, REMEDY_COPY,
                            "the segments end at %zu, the length at %d says %u", sketch->end, LENGTH_AT, length);
    }
    return true;
}

bool image_check_esp8266(struct image_view view, struct image_facts *facts, struct image_verdict *verdict)
{
    struct image_part sketch;
    facts->kind = IMAGE_ESP8266;
    facts->chip = CHIP_ESP8266;
    if (!check_mode(view, facts, verdict) || !check_boot_part(view, verdict) ||
        !image_part_walk(view, SKETCH_AT, HEADER_BYTES, &sketch, verdict) ||
        !check_sketch_sum(view, &sketch, verdict)) {
        return false;
    }
    if (sketch.end != view.len && image_signature_bytes(view, sketch.end) == 0) {
        return image_refuse(
            verdict, IMAGE_FAULT_SEGMENTS, "use the .bin that the build wrote: no dump of a flash, nothing appended",
            "the image ends at %zu, the file at %zu, and no signature lies between", sketch.end, view.len);
    }
    facts->segments = sketch.segments;
    facts->image_bytes = sketch.end;
    facts->signature_bytes = (uint32_t)(view.len - sketch.end);
    return true;
}

bool image_is_slot(struct image_view view)
{
    return view.at[0] == 0xea;
}

/* zlib's CRC, inverted where its highest bit is set, else one more (esptool's esp8266_crc32). system_upgrade
 * refuses an image without it, so it is asked of every one. */
static bool check_slot_crc(struct image_view view, size_t end, struct image_verdict *verdict)
{
    if (view.len < end + SLOT_CRC_BYTES) {
        return image_refuse(verdict, IMAGE_FAULT_TRUNCATED,
                            "copy the file again; if it was whole, build it with gen_appbin.py or esptool, "
                            "which append the CRC",
                            "the image with its CRC ends at %zu, the file at %zu", end + SLOT_CRC_BYTES, view.len);
    }
    if (view.len > end + SLOT_CRC_BYTES) {
        return image_refuse(verdict, IMAGE_FAULT_SEGMENTS,
                            "use the .bin that gen_appbin.py or esptool wrote, unchanged",
                            "the image with its CRC ends at %zu, the file at %zu", end + SLOT_CRC_BYTES, view.len);
    }
    uint32_t crc = (uint32_t)crc32_z(0, view.at, end);
    crc = (crc & 0x80000000u) != 0 ? ~crc : crc + 1;
    if (crc != image_u32(view, end)) {
        return image_refuse(verdict, IMAGE_FAULT_DIGEST, REMEDY_COPY,
                            "the bytes have CRC 0x%08x, the one at %zu is 0x%08x", crc, end, image_u32(view, end));
    }
    return true;
}

/* SDK 2 and 3 leave byte 2 zero and write 1 or 2, the slot, into byte 3; older ones write mode and size as
 * elsewhere. The part inside says the flash size either way. */
static bool check_slot_header(struct image_view view, size_t inner, struct image_facts *facts,
                              struct image_verdict *verdict)
{
    if (!check_mode(view, facts, verdict)) {
        return false;
    }
    if (view.at[MODE_AT] == 0 && view.at[SIZE_AT] <= 2) {
        facts->slot = view.at[SIZE_AT];
        facts->flash_mode = 0xff;
        facts->flash_bytes = flash_bytes_of(view.at[inner + SIZE_AT]);
    }
    return true;
}

bool image_check_slot(struct image_view view, struct image_facts *facts, struct image_verdict *verdict)
{
    facts->kind = IMAGE_ESP8266_SLOT;
    facts->chip = CHIP_ESP8266;
    if (!image_has(view, 0, SLOT_IROM_AT + SEGMENT_HEADER_BYTES)) {
        return image_refuse(verdict, IMAGE_FAULT_TRUNCATED, REMEDY_COPY_WHOLE, "%zu bytes, the headers alone have %d",
                            view.len, SLOT_IROM_AT + SEGMENT_HEADER_BYTES);
    }
    uint32_t address = image_u32(view, SLOT_IROM_AT);
    if (view.at[1] != SLOT_SECOND || address != 0) {
        return image_refuse(verdict, IMAGE_FAULT_HEADER, REMEDY_COPY,
                            "byte 1 is 0x%02x where 0x04 belongs, the code's address 0x%08x where 0 belongs",
                            view.at[1], address);
    }
    uint32_t irom = image_u32(view, SLOT_IROM_AT + 4);
    size_t inner = SLOT_IROM_AT + SEGMENT_HEADER_BYTES + (size_t)irom;
    if (!image_has(view, inner, HEADER_BYTES)) {
        return image_refuse(verdict, IMAGE_FAULT_TRUNCATED, REMEDY_COPY_WHOLE, "the code ends at %zu, the file at %zu",
                            inner, view.len);
    }
    if (view.at[inner] != 0xe9) {
        return image_refuse(verdict, IMAGE_FAULT_SEGMENTS, REMEDY_COPY,
                            "byte %zu, behind the code, is 0x%02x where 0xe9 belongs", inner, view.at[inner]);
    }
    struct image_part part;
    if (!check_slot_header(view, inner, facts, verdict) ||
        !image_part_walk(view, inner, HEADER_BYTES, &part, verdict) || !image_part_checksum(&part, "image", verdict) ||
        !check_slot_crc(view, part.end, verdict)) {
        return false;
    }
    facts->segments = part.segments + 1;
    facts->image_bytes = view.len;
    return true;
}
