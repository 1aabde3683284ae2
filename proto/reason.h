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

/* name, word, status, routine (nothing to tell the operator, so logged at debug), and what it means, said of a device
 */
#define REASON_LIST(X)                                                                                                 \
    /* served */                                                                                                       \
    X(NEWER, "newer", 200, false, "a newer image is there, and it is sent")                                            \
    X(ASSIGNED, "assigned", 200, false, "it is to run exactly this build, and does not yet: it is sent")               \
    X(PINNED, "pinned", 200, false, "an operator pinned it to exactly this build: it is sent")                         \
    X(PUBLISHED, "published", 200, false, "an operator published this build, and it does not run it yet: it is sent")  \
    X(UNKNOWN_BUILD, "unknown-build", 200, false, "nobody can tell what it runs, so it is sent the newest")            \
    X(LATEST, "latest", 200, false, "it asked for the newest image, whatever it runs")                                 \
    X(FILE, "file", 200, false, "it asked for this file by its name")                                                  \
    /* nothing to do */                                                                                                \
    X(SAME_DIGEST, "same-digest", 304, true, "it runs this very image")                                                \
    X(UP_TO_DATE, "up-to-date", 304, true, "it runs this version already")                                             \
    X(DEVICE_NEWER, "device-newer", 304, true, "it runs a newer version than the newest here")                         \
    X(NOT_MODIFIED, "not-modified", 304, true, "it has these bytes already")                                           \
    /* refused before byte one */                                                                                      \
    X(UNASSIGNED, "unassigned", 304, false, "it is assigned to no type or build")                                      \
    X(WRONG_CHIP, "wrong-chip", 304, false, "the image is for another chip")                                           \
    X(WRONG_FLASH, "wrong-flash", 304, false, "the image does not suit its flash")                                     \
    X(DOES_NOT_FIT, "does-not-fit", 304, false, "the image is larger than its room")                                   \
    X(NO_GZIP, "no-gzip", 304, false, "only a compressed image is there, which it would not inflate")                  \
    X(BLOCKED, "blocked", 304, false, "an operator blocked it, its network, or MACs like its own")                     \
    X(UNKNOWN_DEVICE, "unknown-device", 403, false, "unknown devices are refused until an operator approves them")     \
    X(UNAPPROVED, "unapproved", 304, false, "unknown devices are held until an operator approves them")                \
    X(UNPUBLISHED, "unpublished", 304, false, "nothing has been published to its type")                                \
    X(HELD_BACK, "held-back", 304, false, "a rollout keeps the image from it for now")                                 \
    X(PAUSED, "paused", 304, false, "an operator paused the rollout")                                                  \
    X(NEVER_AGAIN, "never-again", 304, false, "it rolled back from this build, or failed with it twice")               \
    X(LOOP_GUARD, "loop-guard", 304, false, "it was sent this image again and again and never came back with it")      \
    X(NOT_YET, "not-yet", 304, false, "the file is still being copied in, or memory or time is short")                 \
    /* not there */                                                                                                    \
    X(UNKNOWN_TYPE, "unknown-type", 404, false, "no file in the repository is for this type")                          \
    X(NO_IMAGE, "no-image", 404, false, "the type has no image of this kind or version")                               \
    X(REJECTED, "rejected", 404, false, "every file of this kind failed its checks")                                   \
    X(UNKNOWN_FILE, "unknown-file", 404, false, "there is no such file")                                               \
    /* no updater, or one that says too little */                                                                      \
    X(NOT_AN_UPDATER, "not-an-updater", 403, false, "its User-Agent is no updater's")                                  \
    X(MISSING_HEADER, "missing-header", 403, false, "a header that every core sends is missing")                       \
    X(BAD_HEADER, "bad-header", 403, false, "a header cannot be read")                                                 \
    X(WRONG_CERTIFICATE, "wrong-certificate", 403, false, "the certificate that it shows is not its own")              \
    X(NO_PASSWORD, "no-password", 401, false, "its type needs a password, and it sent none")                           \
    X(WRONG_PASSWORD, "wrong-password", 401, false, "its user and password are not known, or not for its type")

enum reason {
#define X(name, word, status, routine, text) REASON_##name,
    REASON_LIST(X)
#undef X
        REASON_COUNT
};

const char *reason_word(enum reason reason);
const char *reason_text(enum reason reason);     /* "a newer image is there, and it is sent" */
const char *reason_next(enum reason reason);     /* what an operator does about it; "nothing" is said, too */
unsigned reason_http_status(enum reason reason); /* as answered to an updater's check */
bool reason_is_routine(enum reason reason);

#endif
