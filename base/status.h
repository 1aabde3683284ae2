/* The failures a function can return, one list for names and texts.
 *
 * An *answer* ("no newer version") is never a status: it is a value such as struct decision. A status says that the
 * work itself could not be done. Codes of errno, libuv and OpenSSL are translated where each library is met.
 */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

/*   name            text for people */
#define STATUS_LIST(X)                                                                                                 \
    X(OK, "done")                                                                                                      \
    X(INVALID, "not well formed")                                                                                      \
    X(TOO_LONG, "longer than allowed")                                                                                 \
    X(NOT_FOUND, "not found")                                                                                          \
    X(DENIED, "permission denied")                                                                                     \
    X(BUSY, "in use")                                                                                                  \
    X(CHANGED, "changed meanwhile")                                                                                    \
    X(LIMIT, "a limit is reached")                                                                                     \
    X(NO_MEMORY, "out of memory")                                                                                      \
    X(CORRUPT, "damaged")                                                                                              \
    X(TOO_NEW, "written by a newer version")                                                                           \
    X(TIMEOUT, "not done in time")                                                                                     \
    X(DISK_FULL, "the disk is full")                                                                                   \
    X(IO, "input or output failed")

enum status {
#define X(name, text) STATUS_##name,
    STATUS_LIST(X)
#undef X
};

/* "NOT_FOUND" and "not found". Never NULL, whatever the value. */
const char *status_name(enum status status);
const char *status_text(enum status status);

/* The status that an errno value stands for; STATUS_IO where none is closer. */
enum status status_from_errno(int error);

#endif
