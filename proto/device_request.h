/* What a device said of itself when it asked: the headers of every known client, in one struct.
 *
 * Sources: esp8266/Arduino libraries/ESP8266httpUpdate/src/ESP8266httpUpdate.cpp; espressif/arduino-esp32
 * libraries/HTTPUpdate/src/HTTPUpdate.cpp. Old cores lack most of the headers (chip id and digest before 2.4, mode
 * before 2.1), so only the User-Agent and the STA MAC are required; a number or digest that cannot be read counts as
 * not said.
 */
#ifndef PROTO_DEVICE_REQUEST_H
#define PROTO_DEVICE_REQUEST_H

#include "base/text.h"
#include "proto/image.h"
#include "proto/mac.h"
#include "proto/version.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct header {
    struct slice name;
    struct slice value; /* without blanks at its ends */
};

enum device_client {
    CLIENT_PLAIN,   /* anything else: a browser, curl, esp_https_ota, the native SDK */
    CLIENT_ESP8266, /* User-Agent: ESP8266-http-Update */
    CLIENT_ESP32,   /* User-Agent: ESP32-http-Update */
};

enum device_mode {
    DEVICE_MODE_SKETCH,
    DEVICE_MODE_FS,      /* "spiffs" whatever the file system; "filesystem" is taken too */
    DEVICE_MODE_VERSION, /* only asks which version there is: wants 200 and x-version */
};

struct device_request {
    enum device_client client;
    enum device_mode mode;
    bool has_mac;
    bool has_md5;
    bool has_sha256;
    struct mac mac;
    uint8_t sketch_md5[16];    /* of the running sketch, see image_facts.run_md5 */
    uint8_t sketch_sha256[32]; /* ESP32: the appended digest */
    uint64_t free_bytes;       /* largest sketch that can be received; 0 = not said */
    uint64_t sketch_bytes;     /* size of the running sketch; 0 = not said */
    uint64_t flash_bytes;      /* real size of the flash chip; 0 = not said */
    enum chip chip;            /* ESP8266 for such clients, else CHIP_UNKNOWN: ESP32 clients do not say */
    struct slice label;        /* the version header's bytes as sent, borrowed from the request; absent = { NULL, 0 } */
    struct version version;    /* the same where it reads as a version, else .text is "" */
    struct slice sdk;          /* borrowed */
};

enum device_request_result {
    DEVICE_REQUEST_OK,
    DEVICE_REQUEST_NOT_AN_UPDATER, /* User-Agent missing or another's; *request is filled as CLIENT_PLAIN */
    DEVICE_REQUEST_MISSING_HEADER, /* *header names it */
    DEVICE_REQUEST_BAD_HEADER,     /* *header names it: unreadable MAC or mode, or sent twice */
};

#define DEVICE_NUMBER_MAX (1ull << 32) /* no flash is larger: a number above counts as not said */

/* Reads n headers. *request is always filled with what could be read, so that a refusal can be logged;
 * *header is a constant text, set where the result says so. Slices borrow from `headers`. */
enum device_request_result device_request_read(const struct header *headers, size_t n, struct device_request *request,
                                               const char **header);

/* The same of a client of which something else than its User-Agent tells what it is. */
enum device_request_result device_request_read_as(enum device_client client, const struct header *headers, size_t n,
                                                  struct device_request *request, const char **header);

const char *device_client_text(enum device_client client);
const char *device_mode_text(enum device_mode mode);

#endif
