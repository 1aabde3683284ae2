/* What TLS stands on in a test: a loop, room to send in, and a room with a certificate that nobody trusts. */
#ifndef TESTS_UNIT_SERVER_TLS_FIXTURE_H
#define TESTS_UNIT_SERVER_TLS_FIXTURE_H

#include "base/log.h"
#include "server/stream_tls_parts.h"
#include "tests/support/certificate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct ground {
    uv_loop_t loop;
    struct stream_read_buffer read_buffer;
    struct send_room send_room;
    struct tls_room room;
    uint64_t counts[TLS_HANDSHAKE_COUNT];
};

static inline struct tls *make_tls(void)
{
    struct certificate certificate;
    char message[512] = "";
    struct tls *tls = NULL;
    certificate_init(&certificate, "updraft.example");
    certificate_write(&certificate);
    struct tls_settings settings = { .count = 1,
                                     .certs = { certificate.cert_path },
                                     .keys = { certificate.key_path },
                                     .client_ca = "",
                                     .ciphers = "DEFAULT",
                                     .record_bytes = 16384 };
    enum status status = tls_load(&settings, NULL, &tls, message, sizeof message);
    certificate_unlink(&certificate);
    certificate_close(&certificate);
    assert_string_equal(message, "");
    assert_int_equal(status, STATUS_OK);
    return tls;
}

static inline void ground_open(struct ground *ground, size_t handshakes_max)
{
    log_configure(LOG_ERROR, LOG_LOGFMT);
    uv_loop_init(&ground->loop);
    send_room_init(&ground->send_room, &ground->loop);
    tls_room_init(&ground->room, &ground->loop, make_tls(), handshakes_max);
    ground->room.counts = ground->counts;
}

static inline void on_room_closed(struct tls_room *room)
{
    (void)room;
}

static inline void on_send_room_closed(struct send_room *room)
{
    (void)room;
}

/* Behind the last connection. */
static inline int ground_close(struct ground *ground)
{
    tls_room_close(&ground->room, on_room_closed);
    send_room_close(&ground->send_room, on_send_room_closed);
    uv_run(&ground->loop, UV_RUN_DEFAULT);
    return uv_loop_close(&ground->loop);
}

static inline void ground_carry(struct ground *ground, struct stream_tls *tls)
{
    stream_tls_init(tls, &ground->loop, &ground->read_buffer, &ground->send_room, &ground->room);
}

#endif
