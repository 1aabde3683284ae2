/* A request's head: found whole in the bytes received, then parsed by llhttp. No input decides how much memory is
 * taken.
 *
 * The head is parsed only once all of it is there, so every slice of a request lies in one piece of memory, and the
 * limits and the shapes that llhttp lets pass (8.1 lets folded lines and empty names through) are checked on the way.
 */
#ifndef SERVER_HTTP_REQUEST_H
#define SERVER_HTTP_REQUEST_H

#include "base/text.h"
#include "proto/device_request.h"

#include <stdbool.h>
#include <stddef.h>

#define HTTP_TARGET_MAX       2048 /* bytes; over: 414 */
#define HTTP_HEADERS_MAX      8192 /* bytes of header lines; over: 431 */
#define HTTP_HEADER_COUNT_MAX 64
#define HTTP_LINE_MAX         (HTTP_TARGET_MAX + 64) /* request line */
#define HTTP_HEAD_MAX         (HTTP_LINE_MAX + HTTP_HEADERS_MAX)

/* Where the search for the end of a head stands; zeroed before each request. */
struct http_scan {
    size_t looked;        /* bytes that were looked at */
    size_t line_start;    /* of the line under way */
    size_t start;         /* of the request line, behind empty lines */
    size_t headers_start; /* behind the request line; 0 = not there yet */
};

struct http_request {
    bool head_only; /* HEAD */
    bool get;       /* GET or HEAD */
    bool keep_alive;
    bool has_body;
    bool chunked;           /* its body comes in chunks, of unknown length */
    bool expects_continue;  /* the client waits to hear that its body is wanted */
    unsigned minor_version; /* HTTP/1.x */
    uint64_t body_bytes;    /* as announced */
    struct slice method;
    struct slice path;  /* of the target, percent-decoded, without the query; begins with `/` */
    struct slice query; /* behind its `?`, as sent; absent = { NULL, 0 } */
    struct slice body;  /* once it is there, for those who take one; absent before */
    struct slice if_none_match, if_range, range; /* absent = { NULL, 0 } */
    size_t header_count;
    struct header headers[HTTP_HEADER_COUNT_MAX];
    char path_bytes[HTTP_TARGET_MAX + 1];
};

/* Looks at bytes[0..n) for the end of a head. Returns 0 where more is needed, 200 with *head_bytes set where it is
 * whole, or the status to refuse with (400, 414, 431), *why being a constant text for the answer. */
unsigned http_request_scan(struct http_scan *scan, const char *bytes, size_t n, size_t *head_bytes, const char **why);

/* Parses a whole head as found by http_request_scan (from scan->start). Returns 200, or the status to refuse with
 * (400, 431, 505) and *why. Slices borrow from `head` and from *request itself. */
unsigned http_request_parse(const char *head, size_t n, struct http_request *request, const char **why);

/* The next `name=value` of a query, percent-decoded into name and value (`+` is a blank). Returns false at the end,
 * with *good false where it cannot be read: a bad escape, a NUL, or longer than HTTP_PARAMETER_MAX. */
#define HTTP_PARAMETER_MAX 256
struct http_parameter {
    char name[HTTP_PARAMETER_MAX + 1];
    char value[HTTP_PARAMETER_MAX + 1];
};
bool http_query_next(struct slice *query, struct http_parameter *parameter, bool *good);

/* The value of a header by name (any case), absent where it is not there. */
struct slice http_request_header(const struct http_request *request, const char *name);

#endif
