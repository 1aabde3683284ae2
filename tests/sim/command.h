/* Commands as they arrive over MQTT. A command for 5,000 devices is read once: equal payloads are one struct command,
 * kept until the end. */
#ifndef TESTS_SIM_COMMAND_H
#define TESTS_SIM_COMMAND_H

#include "tests/sim/url.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COMMAND_ID_MAX      64
#define COMMAND_VERSION_MAX 64

struct command {
    bool valid; /* the rest says nothing otherwise */
    bool fs;
    char id[COMMAND_ID_MAX + 1]; /* "" = none: never a duplicate */
    char version[COMMAND_VERSION_MAX + 1];
    char md5[33]; /* "" = not said */
    uint64_t bytes;
    uint64_t window_ms;
    struct url url;
};

struct command_book;

struct command_book *command_book_new(void);
void command_book_free(struct command_book *book);

/* The command that these bytes are; borrowed from the book. One that cannot be read is there too, and not valid. */
const struct command *command_read(struct command_book *book, const void *payload, size_t n);

#endif
