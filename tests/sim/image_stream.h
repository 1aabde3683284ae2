/* What becomes of an image in a device's flash, worked out as its bytes come: nothing is held.
 *
 * Written from the formats' descriptions and apart from proto/: what the server believes of digests is tried here.
 * Sources: esp8266/Arduino cores/esp8266/Updater.cpp (flash mode written into byte 2 of an uncompressed sketch; gzip
 * inflated by eboot) and tools/elf2bin.py; espressif/esp-idf esp_app_format.h, esp_image_format.c.
 */
#ifndef TESTS_SIM_IMAGE_STREAM_H
#define TESTS_SIM_IMAGE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_START_BYTES 80 /* header, and of an ESP32 image the description as far as its version and project */

/* How the receiving device treats the bytes. */
struct image_taker {
    bool esp32;
    bool fs;            /* a file system: no sketch changes */
    uint8_t flash_mode; /* the ESP8266's own */
};

enum image_family { IMAGE_FAMILY_UNKNOWN, IMAGE_FAMILY_ESP8266, IMAGE_FAMILY_ESP32 };

/* What a device reports that runs it. */
struct image_result {
    uint8_t sent_md5[16];
    uint8_t md5[16];    /* x-ESP…-sketch-md5 */
    uint8_t sha256[32]; /* x-ESP32-sketch-sha256 */
    uint32_t bytes;     /* x-ESP…-sketch-size */
    bool whole;         /* inflated to its end, where it was compressed */
    enum image_family family;
    char app_version[33]; /* of an ESP32 image's description; "" = none */
};

struct image_stream;

/* `known`: the outcome, where the same image has been taken before: only sent_md5 is computed then. NULL = not known.
 */
struct image_stream *image_stream_new(const struct image_taker *taker, const struct image_result *known);
void image_stream_add(struct image_stream *stream, const uint8_t *bytes, size_t n);
void image_stream_result(struct image_stream *stream, struct image_result *result);
void image_stream_free(struct image_stream *stream); /* NULL is allowed */

/* The first bytes as sent, at most 4; *n tells how many have come. */
const uint8_t *image_stream_first(const struct image_stream *stream, size_t *n);

#endif
