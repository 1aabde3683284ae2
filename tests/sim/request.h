/* What the devices' own clients write on the wire, byte for byte. */
#ifndef TESTS_SIM_REQUEST_H
#define TESTS_SIM_REQUEST_H

#include "tests/sim/url.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REQUEST_BYTES_MAX 1800

struct request_facts {
    bool esp32, fs;
    const struct url *url;
    const uint8_t *mac;
    uint32_t flash_bytes, sketch_bytes;
    const uint8_t *md5, *sha256;
    const char *version; /* "" = the sketch gave none */
};

/* Returns the number of bytes written, without a NUL counted. */
size_t request_write(const struct request_facts *facts, char to[REQUEST_BYTES_MAX]);

/* x-ESP…-free-space: the largest sketch that this device could take. */
uint32_t request_free_space(const struct request_facts *facts);

#endif
