/* Why a device was answered as it was, and with which status: the one word in X-Updraft-Reason, the log and the
 * metrics.
 *
 * One list; docs/reasons.md explains each row to people, and a test holds the two together.
 * 304 means "nothing newer" or "not now": these clients take 429 and 503 for a failed update
 * (ESP8266httpUpdate.cpp and HTTPUpdate.cpp, handling of the status code).
 */
#ifndef PROTO_REASON_H
#define PROTO_REASON_H

#include <stdbool.h>

/*    name            word              status  routine: nothing to tell the operator, so logged at debug */
#define REASON_LIST(X)                                                                                                 \
    /* served */                                                                                                       \
    X(NEWER, "newer", 200, false)                                                                                      \
    X(ASSIGNED, "assigned", 200, false)                                                                                \
    X(UNKNOWN_BUILD, "unknown-build", 200, false)                                                                      \
    X(LATEST, "latest", 200, false)                                                                                    \
    X(FILE, "file", 200, false)                                                                                        \
    /* nothing to do */                                                                                                \
    X(SAME_DIGEST, "same-digest", 304, true)                                                                           \
    X(UP_TO_DATE, "up-to-date", 304, true)                                                                             \
    X(DEVICE_NEWER, "device-newer", 304, true)                                                                         \
    X(NOT_MODIFIED, "not-modified", 304, true)                                                                         \
    /* refused before byte one */                                                                                      \
    X(UNASSIGNED, "unassigned", 304, false)                                                                            \
    X(WRONG_CHIP, "wrong-chip", 304, false)                                                                            \
    X(WRONG_FLASH, "wrong-flash", 304, false)                                                                          \
    X(DOES_NOT_FIT, "does-not-fit", 304, false)                                                                        \
    X(NO_GZIP, "no-gzip", 304, false)                                                                                  \
    X(LOOP_GUARD, "loop-guard", 304, false)                                                                            \
    X(NOT_YET, "not-yet", 304, false)                                                                                  \
    /* not there */                                                                                                    \
    X(UNKNOWN_TYPE, "unknown-type", 404, false)                                                                        \
    X(NO_IMAGE, "no-image", 404, false)                                                                                \
    X(REJECTED, "rejected", 404, false)                                                                                \
    X(UNKNOWN_FILE, "unknown-file", 404, false)                                                                        \
    /* no updater, or one that says too little */                                                                      \
    X(NOT_AN_UPDATER, "not-an-updater", 403, false)                                                                    \
    X(MISSING_HEADER, "missing-header", 403, false)                                                                    \
    X(BAD_HEADER, "bad-header", 403, false)

enum reason {
#define X(name, word, status, routine) REASON_##name,
    REASON_LIST(X)
#undef X
        REASON_COUNT
};

const char *reason_word(enum reason reason);
unsigned reason_http_status(enum reason reason); /* as answered to an updater's check */
bool reason_is_routine(enum reason reason);

#endif
