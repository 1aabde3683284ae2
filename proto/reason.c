#include "proto/reason.h"

#include <assert.h>

static const struct {
    const char *word;
    unsigned http_status;
    bool routine;
    const char *text;
} rows[] = {
#define X(name, word, status, routine, text) { word, status, routine, text },
    REASON_LIST(X)
#undef X
};

/* What to do next. docs/reasons.md says more of each. */
static const char *const nexts[REASON_COUNT] = {
    [REASON_NEWER] = "it is sent at its next check; `publish-update` tells it to check now",
    [REASON_ASSIGNED] = "it is sent at its next check; to end the assignment, take its line out of [assign], or "
                        "`updraft devices unassign`",
    [REASON_PINNED] = "it is sent at its next check; `updraft devices unpin` ends the pin",
    [REASON_PUBLISHED] = "it is sent at its next check",
    [REASON_UNKNOWN_BUILD] = "nothing, if this happens once; if it comes back with this word after each update, build "
                             "with a version, or keep the image that it runs in the repository",
    [REASON_LATEST] = "nothing: the client must know itself when to ask",
    [REASON_FILE] = "nothing: the client must know itself when to ask",
    [REASON_SAME_DIGEST] = "nothing",
    [REASON_UP_TO_DATE] = "nothing; if the file was replaced under the same version, give it a new version",
    [REASON_DEVICE_NEWER] = "nothing; or, to go back, assign it to the older version or publish that with --version",
    [REASON_NOT_MODIFIED] = "nothing",
    [REASON_UNASSIGNED] = "if its sketch asks /update/<type>, name that type; else add its MAC to [assign], such as "
                          "`5C:CF:7F:B1:E0:42 = d1_mini newest`, and send SIGHUP",
    [REASON_WRONG_CHIP] = "compare the type in the sketch's address with the file's name: one of them is another "
                          "board's",
    [REASON_WRONG_FLASH] = "build the sketch, or make the file system, for the flash that the device has; beside a "
                           ".bin.gz, add the uncompressed .bin",
    [REASON_DOES_NOT_FIT] = "make the image smaller, or choose a smaller file system in the board's menu; for an "
                            "ESP8266 sketch, a .bin.gz beside it may fit",
    [REASON_NO_GZIP] = "add the uncompressed .bin; where file systems go to sketches built with ATOMIC_FS_UPDATE, set "
                       "fs-gzip = yes",
    [REASON_BLOCKED] = "`updraft devices unblock` lets it update again; of a list, take the line out of the "
                       "configuration and send SIGHUP",
    [REASON_UNKNOWN_DEVICE] = "`updraft devices approve` lets it update; or give it a line in [assign]",
    [REASON_UNAPPROVED] = "`updraft devices approve` lets it update",
    [REASON_UNPUBLISHED] = "`publish-update` publishes an image to its type",
    [REASON_HELD_BACK] = "`updraft rollouts` shows what keeps it, and `updraft rollouts resume` or `abort` ends a halt",
    [REASON_PAUSED] = "`updraft rollouts resume` goes on",
    [REASON_NEVER_AGAIN] = "publish a new build; or, where the cause is gone, `updraft devices retry`",
    [REASON_LOOP_GUARD] = "look at the device: does it start, or does it roll back? A new build is sent at once, "
                          "this one again after `updraft devices retry`",
    [REASON_NOT_YET] = "wait for its next check; if it lasts, look who has the file open, and whether image-memory is "
                       "large enough",
    [REASON_UNKNOWN_TYPE] = "compare the type with the files' names, letter by letter: "
                            "<project>_<version>.ino.<type>.bin or <type>/<version>.bin",
    [REASON_NO_IMAGE] = "add the image with `updraft firmware add`, or correct the assignment or the version asked for",
    [REASON_REJECTED] = "`updraft firmware rejected` says what is wrong with each file, and what to do",
    [REASON_UNKNOWN_FILE] = "compare the address with `updraft firmware`; names are case-sensitive",
    [REASON_NOT_AN_UPDATER] = "let other clients ask /latest/<type>.bin or /firmware/<file>",
    [REASON_MISSING_HEADER] =
        "let the device ask the server directly: redirects and some proxies take its headers away",
    [REASON_NO_PASSWORD] = "call ESPhttpUpdate.setAuthorization(user, password) before the update; `updraft "
                           "device-password` makes users",
    [REASON_WRONG_PASSWORD] = "compare the user and the password in the sketch with the file of device-passwords: is "
                              "the user's line there, and does it name this type?",
    [REASON_BAD_HEADER] = "correct what builds the request; a MAC of zeros means that the radio was off",
    [REASON_WRONG_CERTIFICATE] = "give it a certificate of its own, with its MAC as CN, or set tls-client-mac",
};

const char *reason_word(enum reason reason)
{
    assert(reason < REASON_COUNT);
    return rows[reason].word;
}

const char *reason_text(enum reason reason)
{
    assert(reason < REASON_COUNT);
    return rows[reason].text;
}

unsigned reason_http_status(enum reason reason)
{
    assert(reason < REASON_COUNT);
    return rows[reason].http_status;
}

bool reason_is_routine(enum reason reason)
{
    assert(reason < REASON_COUNT);
    return rows[reason].routine;
}

const char *reason_next(enum reason reason)
{
    assert(reason < REASON_COUNT);
    return nexts[reason];
}
