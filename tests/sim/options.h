/* What the simulated fleet is asked to be. One table in options.c makes the flags and their help. */
#ifndef TESTS_SIM_OPTIONS_H
#define TESTS_SIM_OPTIONS_H

#include "tests/sim/misbehaviour.h"
#include "tests/sim/url.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTIONS_TYPES_MAX  64
#define OPTIONS_FLASH_MAX  8
#define OPTIONS_IMAGES_MAX 64
#define TYPE_NAME_MAX      64

enum family { FAMILY_ESP8266, FAMILY_ESP32, FAMILY_MIXED };
enum until { UNTIL_STOPPED, UNTIL_CONFIRMED, UNTIL_IDLE };

#define FLASH_MODE_MIXED 4 /* beyond QIO, QOUT, DIO, DOUT */

struct type_option {
    char name[TYPE_NAME_MAX + 1];
    uint32_t weight;
};

struct options {
    char server[512]; /* without a slash at its end; "" = none */
    struct url mqtt;
    bool has_mqtt, no_mqtt, report, check_in, quiet, json_devices, same_images;
    uint64_t devices, first;
    struct type_option types[OPTIONS_TYPES_MAX];
    size_t type_count;
    enum family family;
    uint32_t flash_bytes[OPTIONS_FLASH_MAX];
    size_t flash_count;
    unsigned flash_mode;
    const char *version;
    const char *images[OPTIONS_IMAGES_MAX]; /* "FILE" or "TYPE=FILE" */
    size_t image_count;
    bool has_seed;
    uint64_t seed;
    uint64_t rate; /* bytes a second; 0 = as fast as it goes */
    uint64_t flash_ms, reboot_ms, stall_ms, poll_ms, retry_ms, http_timeout_ms;
    uint64_t duration_ms, idle_ms;
    double time_scale;
    enum until until;
    uint64_t until_count;
    uint64_t ramp;
    const char *json; /* NULL = none, "-" = standard output */
    struct misbehaviour_share shares[MISBEHAVIOUR_COUNT];
    uint64_t faults; /* times that a device misbehaves; 0 = always */
};

/* Returns true, or says on stderr what is wrong. --help prints and ends the program. */
bool options_parse(struct options *options, int argc, char **argv);

#endif
