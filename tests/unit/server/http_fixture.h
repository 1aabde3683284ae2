/* A server without doors, in a loop of its own: its connections come from the test, and their streams can be the
 * test's, too. */
#ifndef TESTS_UNIT_SERVER_HTTP_FIXTURE_H
#define TESTS_UNIT_SERVER_HTTP_FIXTURE_H

#include "base/log.h"
#include "server/http_conn_parts.h"
#include "server/http_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct http_fixture {
    uv_loop_t loop;
    struct http_server server;
    struct stream_ops ops; /* of its clients */
};

/* What a client's stream does in place of a socket's. */
struct http_fixture_stream {
    bool (*read_start)(struct stream *stream);
    void (*read_stop)(struct stream *stream);
    enum stream_sent (*send)(struct stream *stream, const char *head, size_t head_bytes, const struct blob *body,
                             uint64_t first, uint64_t length, bool last);
};

static inline void http_fixture_on_nothing(void *owner)
{
    (void)owner;
}

static inline void http_fixture_open(struct http_fixture *fixture, const struct http_handlers *handlers,
                                     const struct http_limits *limits)
{
    log_configure(LOG_ERROR, LOG_LOGFMT);
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    http_server_init(&fixture->server, &fixture->loop, NULL, handlers, NULL, limits);
    fixture->server.on_room = fixture->server.on_empty = http_fixture_on_nothing;
}

static inline void http_fixture_add(struct http_fixture *fixture, const struct http_fixture_stream *with,
                                    struct http_conn **clients, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct http_conn *conn = clients[i] = http_server_new_conn(&fixture->server, NULL);
        assert_non_null(conn);
        fixture->ops = *conn_stream(conn)->ops;
        fixture->ops.read_start = with->read_start;
        fixture->ops.read_stop = with->read_stop;
        fixture->ops.send = with->send;
        conn_stream(conn)->ops = &fixture->ops;
        http_conn_start(conn);
    }
}

/* Ends what its connections had under way; its loop runs on. */
static inline void http_fixture_abort(struct http_fixture *fixture)
{
    http_server_abort(&fixture->server);
    uv_run(&fixture->loop, UV_RUN_NOWAIT);
}

static inline void http_fixture_close(struct http_fixture *fixture)
{
    http_server_close(&fixture->server, http_fixture_on_nothing);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
}

#endif
