/* A TLS connection under a peer that is an OpenSSL client of its own, and breaks what it says on the way: real sockets,
 * the real loop, a key made at the start. Keys and nonces differ from run to run, so what is found is found again most
 * of the time, not always.
 *
 * Input: a byte of what the client is like (enum flavour), then steps: a byte each (its low 3 bits an act, bit 3: the
 * client reads nothing after it), with what the act needs behind it. Each byte that the client says within TLS is an
 * order to the owner of our stream (obey). Held: what arrives is what was sent, nothing is left over in what
 * connections share, and no connection outlives its peer. */
#include "base/log.h"
#include "server/stream_tls.h"
#include "tests/support/certificate.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODY_BYTES 150000
#define TURNS_MAX  200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum flavour { TLS_1_3 = 1, WITH_CERTIFICATE = 2, SMALL = 4, RESUMES = 8, WAITS = 16, FEW = 32 };

static struct {
    bool ready;
    uv_loop_t loop;
    struct stream_read_buffer read_buffer;
    struct send_room send_room;
    struct tls_room room;
    uint64_t counts[TLS_HANDSHAKE_COUNT];
    SSL_CTX *client;
    SSL_SESSION *sessions[2]; /* the last good one, by enum flavour's TLS_1_3 */
    struct certificate certificate;
    uint8_t body[BODY_BYTES];
    struct blob blob;
    /* of one run */
    struct stream_tls tls;
    bool open, sending;
    SSL *ssl;
    BIO *in, *out;
    int peer;
    size_t body_left; /* of what the client reads */
} world;

/* --- our side ----------------------------------------------------------------------------------------------------- */

static void close_ours(void)
{
    if (world.open) {
        world.open = false;
        world.tls.stream.ops->close(&world.tls.stream);
    }
}

static void send_ours(const char *head, bool with_body, bool last)
{
    struct stream *stream = &world.tls.stream;
    if (world.sending || !world.open) {
        return;
    }
    enum stream_sent sent = stream->ops->send(stream, head, 1, with_body ? &world.blob : NULL, 0, BODY_BYTES, last);
    world.sending = sent == STREAM_PENDING;
    if (sent == STREAM_BROKEN) {
        close_ours();
    }
}

static void on_name(void *owner, const char *name, size_t n)
{
    assert(owner == &world && (n == 0 || name[n - 1] != 1));
}

static void obey(char order)
{
    struct stream *stream = &world.tls.stream;
    switch (order) {
    case 'b':
    case 'B':
        send_ours("B", true, order == 'B');
        break;
    case 't':
    case 'T':
        send_ours("T", false, order == 'T');
        break;
    case 'c':
        close_ours();
        break;
    case 's':
        stream->ops->read_stop(stream);
        break;
    case 'r':
        (void)stream->ops->read_start(stream);
        break;
    case 'h':
        if (!world.sending) {
            stream->ops->shutdown(stream);
        }
        break;
    case 'l':
        stream->ops->hold_little(stream);
        break;
    case 'u':
        assert(stream->ops->unacknowledged(stream) < (64u << 20));
        break;
    default:
        (void)stream->ops->certificate(stream, on_name, &world);
        (void)stream->ops->must_come_anew(stream);
    }
}

static void on_read(struct stream *stream, const char *bytes, size_t n)
{
    (void)stream;
    for (size_t i = 0; i < n && world.open; i++) {
        obey(bytes[i]);
    }
}

static void on_end(struct stream *stream, bool broken)
{
    (void)stream;
    if (broken || !world.sending) {
        close_ours();
    }
}

static void on_sent(struct stream *stream, bool broken)
{
    (void)stream;
    assert(world.sending && world.open);
    world.sending = false;
    if (broken) {
        close_ours();
    }
}

static bool closed;

static void on_closed(struct stream *stream)
{
    (void)stream;
    closed = true;
}

/* --- the peer ----------------------------------------------------------------------------------------------------- */

static void check_arrived(const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (world.body_left > 0) {
            assert((uint8_t)bytes[i] == world.body[BODY_BYTES - world.body_left]);
            world.body_left--;
        } else {
            assert(bytes[i] == 'B' || bytes[i] == 'T');
            world.body_left = bytes[i] == 'B' ? BODY_BYTES : 0;
        }
    }
}

static void read_theirs(void)
{
    char bytes[16384];
    ssize_t n;
    while ((n = recv(world.peer, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
        BIO_write(world.in, bytes, (int)n);
    }
    (void)SSL_do_handshake(world.ssl);
    for (int read; (read = SSL_read(world.ssl, bytes, sizeof bytes)) > 0;) {
        check_arrived(bytes, (size_t)read);
    }
}

/* What it has to say goes out, but for bytes[at] changed by `flip`, and no more than `most`. */
static void say(size_t at, uint8_t flip, size_t most)
{
    char bytes[4096];
    int n = BIO_read(world.out, bytes, sizeof bytes);
    if (n > 0) {
        bytes[at % (size_t)n] ^= (char)flip;
        (void)send(world.peer, bytes, (size_t)n < most ? (size_t)n : most, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

struct input {
    const uint8_t *at;
    size_t left;
};

static uint8_t take(struct input *input)
{
    return input->left > 0 ? (input->left--, *input->at++) : 0;
}

static size_t take_some(struct input *input, const uint8_t **bytes)
{
    size_t n = take(input) & 0x3f;
    n = n < input->left ? n : input->left;
    *bytes = input->at;
    input->at += n;
    input->left -= n;
    return n;
}

static void act(struct input *input, uint8_t step)
{
    const uint8_t *bytes;
    size_t n;
    switch (step & 7) {
    case 1:
        n = take(input) * 3u;
        say(n, take(input), SIZE_MAX);
        break;
    case 2:
        say(0, 0, take(input));
        break;
    case 3:
        n = take_some(input, &bytes);
        (void)send(world.peer, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        break;
    case 4:
        n = take_some(input, &bytes);
        (void)SSL_write(world.ssl, bytes, (int)n);
        break;
    case 5:
        (void)(SSL_version(world.ssl) == TLS1_3_VERSION ? SSL_key_update(world.ssl, SSL_KEY_UPDATE_REQUESTED)
                                                        : SSL_renegotiate(world.ssl));
        (void)SSL_do_handshake(world.ssl);
        break;
    case 6:
        (void)SSL_shutdown(world.ssl);
        break;
    case 7:
        shutdown(world.peer, SHUT_WR);
        break;
    default:
        say(0, 0, SIZE_MAX);
    }
}

/* --- the world ---------------------------------------------------------------------------------------------------- */

static void make_room(void)
{
    char message[512];
    certificate_init(&world.certificate, "5ccf7fb1e042");
    certificate_write(&world.certificate);
    struct tls_settings settings = { .count = 1,
                                     .certs = { world.certificate.cert_path },
                                     .keys = { world.certificate.key_path },
                                     .client_ca = world.certificate.cert_path,
                                     .client = TLS_CLIENT_OPTIONAL,
                                     .ciphers = "DEFAULT",
                                     .record_bytes = 16384 };
    struct tls *tls = NULL;
    enum status status = tls_load(&settings, NULL, &tls, message, sizeof message);
    assert(status == STATUS_OK);
    tls_room_init(&world.room, &world.loop, tls, 4);
    world.room.counts = world.counts;
    certificate_unlink(&world.certificate);
}

static void make_world(void)
{
    log_configure(LOG_ERROR, LOG_LOGFMT);
    uv_loop_init(&world.loop);
    world.read_buffer = (struct stream_read_buffer){ .bytes = malloc(16384), .size = 16384 };
    send_room_init(&world.send_room, &world.loop);
    make_room();
    world.client = SSL_CTX_new(TLS_client_method());
    assert(world.client != NULL && world.read_buffer.bytes != NULL);
    for (size_t i = 0; i < BODY_BYTES; i++) {
        world.body[i] = (uint8_t)(i * 31 >> 3);
    }
    world.blob = (struct blob){ .fd = -1, .bytes = world.body, .size = BODY_BYTES };
    world.ready = true;
}

static void begin(uint8_t flavour)
{
    int pair[2], little = 4096;
    int made = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair);
    assert(made == 0);
    if (flavour & SMALL) {
        (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &little, sizeof little);
    }
    world.peer = pair[1];
    world.ssl = SSL_new(world.client);
    world.in = BIO_new(BIO_s_mem());
    world.out = BIO_new(BIO_s_mem());
    SSL_set_bio(world.ssl, world.in, world.out);
    SSL_set_connect_state(world.ssl);
    SSL_set_max_proto_version(world.ssl, flavour & TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_set_tlsext_max_fragment_length(world.ssl, flavour >> 6); /* 0 = none */
    if (flavour & WITH_CERTIFICATE) {
        SSL_use_certificate(world.ssl, world.certificate.x509);
        SSL_use_PrivateKey(world.ssl, world.certificate.key);
    }
    SSL_SESSION *session = world.sessions[(flavour & TLS_1_3) != 0];
    if ((flavour & RESUMES) && session != NULL) {
        SSL_set_session(world.ssl, session);
    }
    world.room.handshakes_max = flavour & FEW ? 0 : 4;
    world.room.slice_ns = flavour & WAITS ? UINT64_MAX / 2 : 0;
    stream_tls_init(&world.tls, &world.loop, &world.read_buffer, &world.send_room, &world.room);
    world.tls.stream.on_read = on_read;
    world.tls.stream.on_end = on_end;
    world.tls.stream.on_sent = on_sent;
    world.tls.stream.on_closed = on_closed;
    world.open = true;
    world.sending = closed = false;
    world.body_left = 0;
    stream_tls_open(&world.tls, pair[0], NULL);
}

static void keep_session(void)
{
    SSL_SESSION *session = SSL_get1_session(world.ssl);
    if (session != NULL && SSL_SESSION_is_resumable(session)) {
        SSL_SESSION **kept = &world.sessions[SSL_SESSION_get_protocol_version(session) == TLS1_3_VERSION];
        SSL_SESSION_free(*kept);
        *kept = session;
        SSL_set_shutdown(world.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* else it is spoilt */
    } else {
        SSL_SESSION_free(session);
    }
}

static void end(void)
{
    keep_session();
    close(world.peer);
    SSL_free(world.ssl);
    for (int turn = 0; !closed; turn++) {
        uv_run(&world.loop, UV_RUN_NOWAIT);
        if (turn == TURNS_MAX) { /* whoever does not listen does not hear of the end: that is the deadline's part */
            close_ours();
        }
        assert(turn < 2 * TURNS_MAX);
    }
    uv_run(&world.loop, UV_RUN_NOWAIT);
    assert(world.room.handshakes == 0 && world.room.first == NULL && world.room.last == NULL);
    assert(world.room.in_bytes == 0 && world.room.out.used == 0);
    for (size_t i = 0; i < TLS_ADDRESSES; i++) {
        assert(world.room.of_address[i] == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    if (!world.ready) {
        make_world();
    }
    begin(take(&input));
    (void)SSL_do_handshake(world.ssl);
    if (!world.tls.stream.ops->read_start(&world.tls.stream)) {
        close_ours();
    }
    while (input.left > 0 && !closed) {
        uint8_t step = take(&input);
        act(&input, step);
        uv_run(&world.loop, UV_RUN_NOWAIT);
        if (!(step & 8)) {
            read_theirs();
        }
    }
    for (int turn = 0; turn < 10 && !closed; turn++) {
        uv_run(&world.loop, UV_RUN_NOWAIT);
        read_theirs();
    }
    end();
    return 0;
}
