/* Makes valid images of every kind for tests, and, on demand, ones broken in a single way.
 *
 * Written from the formats' descriptions and apart from proto/image*.c: a mistake in a check is not repeated
 * here.
 */
#ifndef TESTS_SUPPORT_IMAGE_MAKE_H
#define TESTS_SUPPORT_IMAGE_MAKE_H

#include "proto/image.h"

enum image_make_kind {
    IMAGE_MAKE_ESP8266, /* as elf2bin.py writes: length and CRC in the sketch part, whose XOR is wrong */
    IMAGE_MAKE_TASMOTA, /* neither length nor CRC, the XOR holds */
    IMAGE_MAKE_USER1,
    IMAGE_MAKE_USER2,
    IMAGE_MAKE_ESP32,
    IMAGE_MAKE_FACTORY, /* boot loader, partitions, application of an ESP32-family chip */
    IMAGE_MAKE_SPIFFS,
    IMAGE_MAKE_LITTLEFS,
    IMAGE_MAKE_HTML, /* the page of a server that had no firmware */
};

enum image_make_break {
    IMAGE_MAKE_WHOLE,
    IMAGE_MAKE_BREAK_CHECKSUM, /* the XOR, or the file system's own mark; whatever covers it beyond is made
                                  right */
    IMAGE_MAKE_BREAK_DIGEST,   /* the CRC or SHA-256 of the whole; where there is none, as CHECKSUM */
    IMAGE_MAKE_BREAK_TRUNCATE, /* the last quarter and a byte are missing */
    IMAGE_MAKE_BREAK_SEGMENTS, /* 17 segments; file systems have none and are left whole */
};

/* All zero: a small elf2bin sketch, QIO, for 4 MiB. */
struct image_make {
    enum image_make_kind kind;
    enum image_make_break broken;
    size_t bytes;         /* wanted, before compression; rounded up to what the format can be; 0 = the smallest */
    unsigned flash_mode;  /* header byte 2 */
    uint64_t flash_bytes; /* 0 = 4 MiB; sizes that the chip's table lacks are a broken promise */
    enum chip chip;       /* ESP32, FACTORY; SPIFFS is made in the ESP8266's form for CHIP_ESP8266, else the ESP32's */
    const char *version;  /* ESP32; NULL = "1.0.0"; cut at 32 bytes */
    const char *project;  /* ESP32; NULL = "updraft-test" */
    uint32_t seed;        /* of the filler, which compresses to about seven eighths */
    uint32_t block_bytes; /* file systems; 0 = 4096 */
    uint32_t trailer;     /* bytes of signature behind it: tools/signing.py's on ESP8266, else plain bytes */
    bool empty;           /* file systems: no file has their end, so that a trailer has room there */
    bool no_app;          /* ESP32: without application description */
    bool no_hash;         /* ESP32: without appended SHA-256 */
    bool gzip;
};

/* Returns the bytes, to be freed by the caller, and their number; the same for the same wish. */
uint8_t *image_make(const struct image_make *wish, size_t *n);

#endif
