/* One GET over a connection of its own, as the devices' clients make it: bytes out as they are given, head read by
 * hand, body handed on as it comes and never held. No library of the server's is used, which is the point.
 *
 * Ownership: a http_get is the client's own; the pointer is valid until on_head returned false, on_body returned false,
 * on_end was called, or http_abort was. None of the hooks is called afterwards.
 */
#ifndef TESTS_SIM_HTTP_CLIENT_H
#define TESTS_SIM_HTTP_CLIENT_H

#include "tests/sim/url.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/*    name      word           what it means */
#define HTTP_END_LIST(X)                                                                                               \
    X(WHOLE, "whole", "as many bytes as Content-Length said")                                                          \
    X(EXCESS, "excess", "more bytes than Content-Length said")                                                         \
    X(SHORT, "short", "the server ended the body too early")                                                           \
    X(SILENT, "silent-body", "the body stood still for too long")                                                      \
    X(RESOLVE, "resolve", "no address for the host")                                                                   \
    X(CONNECT, "connect", "no connection")                                                                             \
    X(TIMEOUT, "timeout", "no answer in time")                                                                         \
    X(CLOSED, "closed", "closed without an answer")                                                                    \
    X(BAD_HEAD, "bad-head", "no HTTP answer, or its head is too long")

enum http_end {
#define X(name, word, text) HTTP_END_##name,
    HTTP_END_LIST(X)
#undef X
        HTTP_END_COUNT
};

const char *http_end_word(enum http_end end);
const char *http_end_text(enum http_end end);

struct http_head {
    unsigned status;
    bool has_length;
    uint64_t length;
    char md5[40];    /* x-MD5 as sent; "" = none */
    char reason[40]; /* X-Updraft-Reason; "" = none */
    char file[136];  /* of Content-Disposition; "" = none */
};

struct http_hooks {
    bool (*on_head)(void *owner, const struct http_head *head); /* true: the body is wanted (it has a length) */
    bool (*on_body)(void *owner, uint8_t *bytes, size_t n);     /* true: go on. Never beyond Content-Length. */
    void (*on_end)(void *owner, enum http_end end, int error);  /* error: libuv's, where there is one, or 0 */
};

struct http_wish {
    const struct url *url;
    const char *request; /* copied */
    size_t request_bytes;
    uint64_t rate;     /* bytes a second; 0 = no limit */
    bool small_window; /* the kernel takes little in advance: what the server counts as received has been read */
    uint64_t head_ms, body_ms; /* the client's patience */
};

struct http_get;

struct http_get *http_get(uv_loop_t *loop, const struct http_wish *wish, const struct http_hooks *hooks, void *owner);
void http_abort(struct http_get *get);
void http_pause(struct http_get *get); /* reads no more, and is patient without end */

#endif
