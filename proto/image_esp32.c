/* Images of the ESP32 family: one E9 part with a 24-byte header, most with a SHA-256 appended.
 *
 * The hard thing is what looks like an application and is none. A boot loader has the same format, and the
 * merged or factory image of the newer chips begins with one; only the application description, and segments
 * that are mapped from flash, tell them apart. Sources: esp_app_format.h, esp_app_desc.h, esp_image_format.c
 * of esp-idf.
 */
#include "proto/image_checks.h"

#include <string.h>

enum {
    HEADER_BYTES = 24,
    MODE_AT = 2,
    SIZE_AT = 3,
    CHIP_AT = 12,
    REVISION_OLD_AT = 14,
    REVISION_MIN_AT = 15,
    REVISION_MAX_AT = 17,
    HASHED_AT = 23,
    SHA256_BYTES = 32,
    MODE_MAX = 5, /* FAST and SLOW follow the four */

    APP_AT = 32, /* behind the header and the first segment's */
    APP_BYTES = 256,
    APP_VERSION_AT = APP_AT + 16,
    APP_PROJECT_AT = APP_AT + 48,
    APP_IDF_AT = APP_AT + 112,
    APP_TEXT_BYTES = 32,

    BOOTLOADER_MAGIC = 0x50, /* esp_bootloader_desc.h, at APP_AT */
    PARTITIONS_AT = 0x8000,
    PARTITION_MAGIC = 0x50aa,
    TRAILER_MIN = 64, /* the smallest signature (secure boot 1); less is the rest of something cut */
};
#define APP_MAGIC 0xabcd5432u

#define REMEDY_FACTORY "use the app-only file: <name>.bin, not <name>.factory.bin, .merged.bin or .bootloader.bin"
#define REMEDY_COPY    "copy the file again, or build it again: its bytes have changed since"

static bool has_app(struct image_view view)
{
    return image_has(view, APP_AT, APP_BYTES) && image_u32(view, APP_AT) == APP_MAGIC;
}

bool image_is_esp32(struct image_view view)
{
    return view.at[0] == 0xe9 && !image_is_esp8266(view);
}

/* Flash of ESP32 and ESP32-S2 is read from 0 and their boot loader lies at 0x1000, that of P4 and C5 at
 * 0x2000. */
bool image_is_flash_start(struct image_view view)
{
    size_t blank = 0;
    while (blank < view.len && view.at[blank] == 0xff) {
        blank++;
    }
    return (blank == 0x1000 || blank == 0x2000) && image_has(view, blank, 1) && view.at[blank] == 0xe9;
}

bool image_refuse_flash_start(struct image_view view, struct image_facts *facts, struct image_verdict *verdict)
{
    (void)facts;
    size_t blank = 0;
    while (view.at[blank] == 0xff) {
        blank++;
    }
    return image_refuse(verdict, IMAGE_FAULT_FACTORY, REMEDY_FACTORY,
                        "a factory image: %zu bytes of empty flash, then a boot loader at %zu", blank, blank);
}

static bool check_header(struct image_view view, struct image_facts *facts, struct image_verdict *verdict)
{
    if (view.len < HEADER_BYTES) {
        return image_refuse(verdict, IMAGE_FAULT_TRUNCATED, "copy the file again; it arrived incomplete",
                            "%zu bytes, the header alone has %d", view.len, HEADER_BYTES);
    }
    unsigned chip = image_u16(view, CHIP_AT);
    if (!chip_is_known(chip) || !chip_is_esp32_family((enum chip)chip)) {
        return image_refuse(verdict, IMAGE_FAULT_CHIP,
                            "build it for a chip of the list in the documentation, or update this server",
                            "chip id %u (0x%04x) at byte %d is none that this server knows", chip, chip, CHIP_AT);
    }
    if (view.at[MODE_AT] > MODE_MAX || view.at[HASHED_AT] > 1) {
        return image_refuse(verdict, IMAGE_FAULT_HEADER, REMEDY_COPY,
                            "flash mode %u where at most %d is known, hash flag %u where it is 0 or 1",
                            view.at[MODE_AT], MODE_MAX, view.at[HASHED_AT]);
    }
    facts->kind = IMAGE_ESP32;
    facts->chip = (enum chip)chip;
    facts->flash_mode = view.at[MODE_AT];
    unsigned size = view.at[SIZE_AT] >> 4;
    facts->flash_bytes = size <= 7 ? UINT64_C(1) << (20 + size) : 0;
    uint16_t min = image_u16(view, REVISION_MIN_AT);
    facts->revision_min = min != 0 ? min : (uint16_t)(view.at[REVISION_OLD_AT] * 100);
    facts->revision_max = image_u16(view, REVISION_MAX_AT);
    return true;
}

/* A merged image: before the digests, which some tools leave wrong when they patch the boot loader's header.
 */
static bool check_merged(struct image_view view, const struct image_part *part, struct image_verdict *verdict)
{
    if (!has_app(view) && part->end <= PARTITIONS_AT && image_has(view, PARTITIONS_AT, 2) &&
        image_u16(view, PARTITIONS_AT) == PARTITION_MAGIC) {
        return image_refuse(verdict, IMAGE_FAULT_FACTORY, REMEDY_FACTORY,
                            "a factory image: a boot loader of %zu bytes, then partitions at %d", part->end,
                            PARTITIONS_AT);
    }
    return true;
}

static bool check_bootloader(struct image_view view, const struct image_part *part, struct image_verdict *verdict)
{
    bool described = image_has(view, APP_AT, 1) && view.at[APP_AT] == BOOTLOADER_MAGIC;
    if (!has_app(view) && (described || part->mapped == 0)) {
        return image_refuse(verdict, IMAGE_FAULT_FACTORY, REMEDY_FACTORY,
                            "a boot loader: no application description at %d, %u of %u segments run from flash", APP_AT,
                            part->mapped, part->segments);
    }
    return true;
}

/* Shows the eight bytes from the first that differs on, or the last eight. */
static bool refuse_sha256(const uint8_t *computed, const uint8_t *found, struct image_verdict *verdict)
{
    size_t at = 0;
    while (at < SHA256_BYTES - 8 && computed[at] == found[at]) {
        at++;
    }
    char computed_hex[17];
    char found_hex[17];
    hex_encode(computed + at, 8, computed_hex);
    hex_encode(found + at, 8, found_hex);
    return image_refuse(verdict, IMAGE_FAULT_DIGEST, REMEDY_COPY,
                        "the SHA-256 of the bytes has %s at its byte %zu, the appended one %s", computed_hex, at,
                        found_hex);
}

static bool check_sha256(struct image_view view, size_t part_end, struct image_facts *facts,
                         struct image_verdict *verdict)
{
    struct image_view hashed = { view.at, part_end };
    facts->image_bytes = part_end;
    facts->has_run_sha256 = true;
    image_sha256(hashed, facts->run_sha256);
    if (view.at[HASHED_AT] == 0) {
        return true; /* a device computes the same: bootloader_common_get_sha256_of_partition */
    }
    if (!image_has(view, part_end, SHA256_BYTES)) {
        return image_refuse(verdict, IMAGE_FAULT_TRUNCATED, "copy the file again; it arrived incomplete",
                            "the appended SHA-256 ends at %zu, the file at %zu", part_end + SHA256_BYTES, view.len);
    }
    if (memcmp(facts->run_sha256, view.at + part_end, SHA256_BYTES) != 0) {
        return refuse_sha256(facts->run_sha256, view.at + part_end, verdict);
    }
    facts->image_bytes += SHA256_BYTES;
    return true;
}

static void read_text(struct image_view view, size_t at, char text[APP_TEXT_BYTES + 1])
{
    memcpy(text, view.at + at, APP_TEXT_BYTES);
    text[APP_TEXT_BYTES] = '\0';
}

bool image_check_esp32(struct image_view view, struct image_facts *facts, struct image_verdict *verdict)
{
    struct image_part part;
    if (!check_header(view, facts, verdict) || !image_part_walk(view, 0, HEADER_BYTES, &part, verdict) ||
        !check_merged(view, &part, verdict) || !image_part_checksum(&part, "image", verdict) ||
        !check_sha256(view, part.end, facts, verdict) || !check_bootloader(view, &part, verdict)) {
        return false;
    }
    size_t trailer = view.len - facts->image_bytes;
    if (trailer != 0 && trailer < TRAILER_MIN) {
        return image_refuse(verdict, IMAGE_FAULT_SEGMENTS, REMEDY_COPY,
                            "the image ends at %zu, the file at %zu: too few bytes behind it for a signature",
                            (size_t)facts->image_bytes, view.len);
    }
    facts->segments = part.segments;
    facts->has_app = has_app(view);
    if (facts->has_app) {
        read_text(view, APP_VERSION_AT, facts->app_version);
        read_text(view, APP_PROJECT_AT, facts->app_project);
        read_text(view, APP_IDF_AT, facts->app_idf);
    }
    return true;
}
