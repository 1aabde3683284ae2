/* What OpenSSL reads comes from the socket's read buffer, what it writes goes to one buffer that all share: both
 * through one BIO, since only one connection is at work at a time. */
#include "server/stream_tls_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define OUT_MAX (256u << 10) /* of a batch, with all that its records add: 512 bytes each at the least */

/* --- the BIO ------------------------------------------------------------------------------------------------------ */

static int bio_read(BIO *bio, char *to, int size)
{
    struct tls_room *room = BIO_get_data(bio);
    size_t n = room->in_bytes < (size_t)size ? room->in_bytes : (size_t)size;
    BIO_clear_retry_flags(bio);
    if (n == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(to, room->in, n);
    room->in += n;
    room->in_bytes -= n;
    return (int)n;
}

static int bio_write(BIO *bio, const char *bytes, int n)
{
    struct tls_room *room = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    return buf_add(&room->out, bytes, (size_t)n) ? n : -1;
}

static long bio_control(BIO *bio, int command, long argument, void *pointer)
{
    (void)bio, (void)argument, (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO *bio_new(struct tls_room *room)
{
    static BIO_METHOD *method;
    if (method == NULL) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "updraft");
        assert(method != NULL);
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_ctrl(method, bio_control);
    }
    BIO *bio = BIO_new(method);
    assert(bio != NULL);
    BIO_set_data(bio, room);
    BIO_set_init(bio, 1);
    return bio;
}

void tls_room_init(struct tls_room *room, uv_loop_t *loop, struct tls *tls, size_t handshakes_max)
{
    memset(room, 0, sizeof *room);
    room->tls = tls;
    room->handshakes_max = handshakes_max;
    room->seed = mac_hash_seed_draw();
    room->bio = bio_new(room);
    buf_init(&room->out, OUT_MAX);
    room->plain = malloc(TLS_PLAIN_BYTES);
    assert(room->plain != NULL);
    uv_idle_init(loop, &room->turn);
    room->turn.data = room;
}

void tls_room_use(struct tls_room *room, struct tls *tls)
{
    tls_free(room->tls);
    room->tls = tls;
}

static void on_turn_closed(uv_handle_t *handle)
{
    struct tls_room *room = handle->data;
    room->on_closed(room);
}

void tls_room_close(struct tls_room *room, void (*on_closed)(struct tls_room *room))
{
    assert(room->first == NULL);
    room->on_closed = on_closed;
    tls_free(room->tls);
    BIO_free(room->bio);
    buf_close(&room->out);
    free(room->plain);
    uv_close((uv_handle_t *)&room->turn, on_turn_closed);
}
