/* What the fleet saw: counts by type, violations, and both ways to print them. */
#ifndef TESTS_SIM_REPORT_H
#define TESTS_SIM_REPORT_H

#include "tests/sim/http_client.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define ANSWERS_MAX         64
#define VIOLATIONS_KEPT_MAX 100

struct device;
struct fleet;

/*    name          word                  what the server, or the broker, did that it must never do */
#define VIOLATION_LIST(X)                                                                                              \
    X(NO_LENGTH, "no-content-length", "an answer without Content-Length")                                              \
    X(WRONG_LENGTH, "wrong-content-length", "more bytes than Content-Length said")                                     \
    X(NO_MD5, "no-md5", "an image without x-MD5")                                                                      \
    X(WRONG_MD5, "wrong-md5", "x-MD5 is not the MD5 of the bytes sent")                                                \
    X(OTHER_CHIP, "other-chip", "an image for another chip family")                                                    \
    X(OTHER_TYPE, "other-type", "a command for another type")                                                          \
    X(OTHERS_IMAGE, "others-image", "an image that devices of another type got as well")

enum violation {
#define X(name, word, text) VIOLATION_##name,
    VIOLATION_LIST(X)
#undef X
        VIOLATION_COUNT
};

/* Why a device refused an image, or one that it took was another than commanded: no violations, but worth a look. */
#define REMARK_LIST(X)                                                                                                 \
    X(TOO_BIG, "too-big", "the image is larger than the device's free space")                                          \
    X(BAD_START, "bad-start", "the first byte is no image's")                                                          \
    X(BIGGER_FLASH, "bigger-flash", "the image asks for more flash than there is")                                     \
    X(BAD_GZIP, "bad-gzip", "it cannot be unpacked to its end")                                                        \
    X(NOT_AS_COMMANDED, "not-as-commanded", "another image than the command named")

enum remark {
#define X(name, word, text) REMARK_##name,
    REMARK_LIST(X)
#undef X
        REMARK_COUNT
};

const char *remark_text(enum remark remark);

struct answer_count {
    unsigned status;
    char reason[40];
    uint64_t n;
};

struct counts {
    uint64_t commands, duplicates, lost, malformed, ignored;
    uint64_t checks;
    struct answer_count answers[ANSWERS_MAX];
    unsigned answer_count;
    uint64_t failures[HTTP_END_COUNT];
    uint64_t whole, cut, bad, refused, bytes, confirmations;
    uint64_t remarks[REMARK_COUNT];
};

void report_answer(struct counts *counts, unsigned status, const char *reason);
void report_violation(struct device *device, enum violation violation, const char *detail);

void report_text(const struct fleet *fleet, FILE *file);
bool report_json(const struct fleet *fleet, const char *path); /* "-" = one line on standard output */

#endif
