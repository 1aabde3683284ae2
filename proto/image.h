/* What a firmware or file system image is, whether it is whole, and the digests a device that runs it may
 * report.
 *
 * Pure functions on bytes. Wire facts and their sources:
 *  - ESP8266: esp8266/Arduino tools/elf2bin.py, cores/esp8266/Updater.cpp; espressif/ESP8266_NONOS_SDK
 * (user1/user2)
 *  - ESP32 family: espressif/esp-idf bootloader_support/include/esp_app_format.h,
 * esp_app_format/include/esp_app_desc.h, bootloader_support/src/esp_image_format.c
 *  - LittleFS and SPIFFS: the superblock ("littlefs" at offset 8) and the object-lookup magic (block start +
 * 252)
 */
#ifndef PROTO_IMAGE_H
#define PROTO_IMAGE_H

#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The chip ids are those of offset 12 of an ESP32-family image; ESP8266 has none, so it gets a number
 * outside. */
/*    name          id      text for people */
#define CHIP_LIST(X)                                                                                                   \
    X(ESP32, 0x0000, "ESP32")                                                                                          \
    X(ESP32_S2, 0x0002, "ESP32-S2")                                                                                    \
    X(ESP32_C3, 0x0005, "ESP32-C3")                                                                                    \
    X(ESP32_S3, 0x0009, "ESP32-S3")                                                                                    \
    X(ESP32_C2, 0x000c, "ESP32-C2")                                                                                    \
    X(ESP32_C6, 0x000d, "ESP32-C6")                                                                                    \
    X(ESP32_H2, 0x0010, "ESP32-H2")                                                                                    \
    X(ESP32_P4, 0x0012, "ESP32-P4")                                                                                    \
    X(ESP32_C61, 0x0014, "ESP32-C61")                                                                                  \
    X(ESP32_C5, 0x0017, "ESP32-C5")                                                                                    \
    X(ESP32_H21, 0x0019, "ESP32-H21")                                                                                  \
    X(ESP32_H4, 0x001c, "ESP32-H4")                                                                                    \
    X(ESP32_S31, 0x0020, "ESP32-S31")                                                                                  \
    X(ESP8266, 0x8266, "ESP8266")                                                                                      \
    X(UNKNOWN, 0xffff, "unknown chip")

enum chip {
#define X(name, id, text) CHIP_##name = (id),
    CHIP_LIST(X)
#undef X
};

const char *chip_text(enum chip chip); /* never NULL */
bool chip_is_known(unsigned chip_id);  /* an id of the table other than CHIP_UNKNOWN */
bool chip_is_esp32_family(enum chip chip);

enum image_kind {
    IMAGE_ESP8266,      /* Arduino: boot part at 0, sketch at 0x1000 */
    IMAGE_ESP8266_SLOT, /* native SDK user1 or user2 */
    IMAGE_ESP32,        /* any chip of the ESP32 family */
    IMAGE_LITTLEFS,
    IMAGE_SPIFFS,
};

/* What the file's name promises; the check refuses an image that is something else. */
enum image_use {
    IMAGE_USE_SKETCH, /* IMAGE_ESP8266 or IMAGE_ESP32 */
    IMAGE_USE_FS,     /* IMAGE_LITTLEFS or IMAGE_SPIFFS */
    IMAGE_USE_SLOT,   /* IMAGE_ESP8266_SLOT */
};

/*    name           word for tables       */
#define IMAGE_FAULT_LIST(X)                                                                                            \
    X(NONE, "ok")                                                                                                      \
    X(EMPTY, "empty")                                                                                                  \
    X(TOO_LARGE, "too-large")                                                                                          \
    X(NOT_AN_IMAGE, "not-an-image") /* the first bytes fit nothing we know */                                          \
    X(HTML, "html-page")            /* an error page saved as firmware */                                              \
    X(FACTORY, "factory-image")     /* bootloader, partitions and app in one */                                        \
    X(WRONG_USE, "wrong-kind")      /* e.g. a file system image under a sketch's name */                               \
    X(TRUNCATED, "truncated")                                                                                          \
    X(SEGMENTS, "bad-segments")                                                                                        \
    X(CHECKSUM, "bad-checksum")                                                                                        \
    X(DIGEST, "bad-digest")                                                                                            \
    X(HEADER, "bad-header")                                                                                            \
    X(CHIP, "unknown-chip")                                                                                            \
    X(GZIP, "bad-gzip")                                                                                                \
    X(GZIP_BOMB, "gzip-bomb")                                                                                          \
    X(FILE_SYSTEM, "bad-file-system")                                                                                  \
    /* where signatures are asked for (proto/signature) */                                                             \
    X(UNSIGNED, "unsigned")                                                                                            \
    X(WRONG_SIGNATURE, "wrong-signature") /* not of these bytes */                                                     \
    X(UNKNOWN_KEY, "unknown-key")         /* a signature, made with none of the keys that count */                     \
    /* found before the bytes are looked at (repo/scan) */                                                             \
    X(NAME, "bad-name")                                                                                                \
    X(UNREADABLE, "unreadable")                                                                                        \
    X(DUPLICATE, "duplicate")

enum image_fault {
#define X(name, word) IMAGE_FAULT_##name,
    IMAGE_FAULT_LIST(X)
#undef X
};

const char *image_fault_word(enum image_fault fault);

/* Why an image was refused, in words: what is wrong with both figures, and what to do about it. */
struct image_verdict {
    enum image_fault fault;
    char detail[160]; /* "segment 2 of 5 ends at 70000, the file at 65536" */
    char remedy[160]; /* "copy the file again; it arrived incomplete" */
};

#define FLASH_MODE_UNKNOWN 0xff
#define IMAGE_FLASH_MODES  4 /* QIO, QOUT, DIO, DOUT: header byte 2 */
#define IMAGE_FLASH_DOUT   3

const char *flash_mode_text(unsigned mode); /* "qio" … "dout"; "unknown" beyond */

struct image_facts {
    enum image_kind kind;
    enum chip chip;
    bool gzip; /* the file is compressed; all below but file_bytes, md5, sha256 is of the image inside */
    bool has_run_sha256;
    bool has_app;          /* ESP32: the application description is there */
    uint8_t flash_mode;    /* header byte 2; 0xff = none (file systems, SDK 3 slots) */
    uint8_t slot;          /* native SDK: 1 or 2 where the header says so, else 0: a hint, not a proof */
    uint16_t revision_min; /* ESP32: major * 100 + minor */
    uint16_t revision_max; /* ESP32: 0xffff or 0 = any */
    uint32_t segments;
    uint32_t block_bytes;     /* file systems */
    uint64_t flash_bytes;     /* flash size that the header asks for; 0 = not said */
    uint64_t file_bytes;      /* as on disk and as sent */
    uint64_t image_bytes;     /* unpacked, without a signature behind it: x-ESP…-sketch-size of a device that runs
                                 it */
    uint32_t signature_bytes; /* ESP8266's trailer, its last bytes with their length: 0 = none. Of file systems, too.
                                 What is signed lies before, in a .gz compressed */
    char app_version[33];     /* ESP32 application description, NUL-terminated, bytes as found */
    char app_project[33];
    char app_idf[33];

    uint8_t md5[16]; /* of the bytes sent: x-MD5 */
    uint8_t sha256[32];
    /* What a running device reports as its sketch's MD5. ESP8266's Updater writes the device's own flash mode
     * into byte 2, so an image has four; run_md5[m] is the one of mode m. Elsewhere all four are the same. */
    uint8_t run_md5[IMAGE_FLASH_MODES][16];
    /* x-ESP32-sketch-sha256: the appended digest, i.e. of the image without its last 32 bytes; of the whole
     * image where none is appended (bootloader_common_get_sha256_of_partition). ESP32 family alone. */
    uint8_t run_sha256[32];
};

/* To be raised whenever image_check judges or computes differently: what another edition learned is forgotten. */
#define IMAGE_CHECK_EDITION 3

enum image_room {
    IMAGE_ROOM,
    IMAGE_ROOM_NONE,     /* all of it is in use */
    IMAGE_ROOM_UNWANTED, /* an ESP32's, which asks no trailer */
};

/* Where a trailer goes in a plain file system image for ESP8266 that image_check has accepted without one, so that it
 * grows no larger: *n is how many of its bytes are to be signed, on IMAGE_ROOM alone. */
enum image_room image_fs_room(const uint8_t *bytes, const struct image_facts *facts, size_t *n);

#define IMAGE_BYTES_MAX (32u << 20) /* a larger file is no image; also the bound of inflation */

/* Checks `bytes` (the whole file) as an image for `use`, and computes every digest.
 * Returns true with *facts complete, or false with *verdict complete; the other is left untouched.
 * Never reads beyond n; takes memory only to inflate (at most IMAGE_BYTES_MAX). */
bool image_check(const uint8_t *bytes, size_t n, enum image_use use, struct image_facts *facts,
                 struct image_verdict *verdict);

#endif
