/* A handshake is the dearest thing that a stranger can ask for, so its beginning is rationed: what a turn of the loop
 * has for all of them, and how many are under way. Who fails is told why, and so is the operator. */
#include "server/stream_tls_parts.h"

#include "base/log.h"
#include "server/client_address.h"
#include "server/host.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#define SLICE_NS      100000 /* of a turn of the loop: one whole handshake, or a few that are resumed */
#define TELL_AGAIN_MS 1000
#define TELL_FULL_MS  60000

/* --- handshakes that fail ----------------------------------------------------------------------------------------- */

static const struct {
    int reason;
    const char *remedy;
} remedies[] = {
    { SSL_R_HTTP_REQUEST, "it speaks plain HTTP: this address wants https://" },
    { SSL_R_NO_SHARED_CIPHER,
      "its cipher suites, --tls-ciphers and the kinds of our certificates have nothing in common" },
    { SSL_R_NO_SUITABLE_KEY_SHARE, "of the groups for key exchange it has none of X25519, P-256, P-384 and P-521" },
    { SSL_R_UNSUPPORTED_PROTOCOL, "it speaks TLS 1.1 or older: TLS 1.2 is the least" },
    { SSL_R_NO_APPLICATION_PROTOCOL, "it speaks neither HTTP/1.1 nor HTTP/1.0" },
    { SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, "give the device a certificate, or --tls-client optional" },
    { SSL_R_CERTIFICATE_VERIFY_FAILED, "its certificate is not one of --tls-client-ca, or its time is over" },
    { SSL_R_TLSV1_ALERT_UNKNOWN_CA, "it does not trust our certificate: give it the authority that signed it" },
    { SSL_R_SSLV3_ALERT_BAD_CERTIFICATE,
      "it does not like our certificate: its name, its time, or the device's clock" },
    { SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN,
      "it does not trust our certificate: give it the authority that signed it" },
    { SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, "our certificate's time is over, by the device's clock" },
};

static void log_failure(struct stream_tls *tls, unsigned long code)
{
    struct tls_room *room = tls->room;
    uint64_t now_ms = uv_now(room->turn.loop);
    struct log_line line;
    char peer[64];
    if (room->told_ms != 0 && now_ms - room->told_ms < TELL_AGAIN_MS) {
        room->untold++;
        return;
    }
    const char *why = ERR_reason_error_string(code), *remedy = NULL;
    int reason = ERR_GET_REASON(code);
    for (size_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++) {
        remedy = remedies[i].reason == reason ? remedies[i].remedy : remedy;
    }
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        why = X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl));
    }
    tls_socket_of(tls)->ops->peer(tls_socket_of(tls), peer, sizeof peer);
    log_begin(&line, LOG_INFO, "tls_failed");
    log_text(&line, "peer", peer);
    log_text(&line, "why", why != NULL ? why : "ended by the peer");
    if (remedy != NULL) {
        log_text(&line, "remedy", remedy);
    }
    if (room->untold > 0) {
        log_number(&line, "others", (int64_t)room->untold);
    }
    log_end(&line);
    room->told_ms = now_ms;
    room->untold = 0;
}

/* Whoever speaks plain HTTP is told so, in plain HTTP. */
static void answer_plainly(struct stream_tls *tls)
{
    static const char text[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 46\r\n"
                               "Connection: close\r\n\r\nthis address speaks TLS: use https:// in URLs\n";
    if (!tls->busy && !tls->dead) {
        tls->given += sizeof text - 1;
        (void)tls_socket_of(tls)->ops->send(tls_socket_of(tls), text, sizeof text - 1, NULL, 0, 0, true);
    }
}

static void fail(struct stream_tls *tls)
{
    unsigned long code = ERR_peek_error();
    tls_handshake_end(tls, TLS_HANDSHAKE_FAILED);
    log_failure(tls, code);
    if (ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST) {
        tls->room->out.used = 0;
        answer_plainly(tls);
    } else {
        (void)tls_flush(tls, true); /* the alert */
    }
    SSL_free(tls->ssl);
    tls->ssl = NULL;
    ERR_clear_error();
    tls_tell_end(tls, true);
}

/* --- in turn --------------------------------------------------------------------------------------------------- */

void tls_handshake_leave_queue(struct stream_tls *tls)
{
    struct tls_room *room = tls->room;
    if (!tls->queued) {
        return;
    }
    *(tls->previous != NULL ? &tls->previous->next : &room->first) = tls->next;
    *(tls->next != NULL ? &tls->next->previous : &room->last) = tls->previous;
    tls->queued = false;
    tls->next = tls->previous = NULL;
}

bool tls_handshake_must_wait(const struct stream_tls *tls)
{
    return tls->room->slice_ns >= SLICE_NS;
}

void tls_handshake_join_queue(struct stream_tls *tls, const char *bytes, size_t n)
{
    struct tls_room *room = tls->room;
    if (!buf_add(&tls->input, bytes, n)) {
        tls_tell_end(tls, true);
        return;
    }
    tls_socket_of(tls)->ops->read_stop(tls_socket_of(tls));
    tls->queued = true;
    tls->next = NULL;
    tls->previous = room->last;
    *(room->last != NULL ? &room->last->next : &room->first) = tls;
    room->last = tls;
}

/* Those of an address (of IPv6: a /64), and of the few others that share its place. */
static uint32_t *of_address(struct stream_tls *tls)
{
    struct host peer = host_of_address(tls_socket_of(tls)->ops->remote(tls_socket_of(tls)));
    uint8_t bytes[16];
    host_to_bytes(&peer, bytes);
    return &tls->room->of_address[seeded_hash(&tls->room->seed, client_address_key(bytes), 0) % TLS_ADDRESSES];
}

/* A quarter is for others than the one that begins most. */
static bool has_room(struct stream_tls *tls)
{
    const struct tls_room *room = tls->room;
    size_t of_one_max = room->handshakes_max - room->handshakes_max / 4;
    return room->handshakes < room->handshakes_max && *of_address(tls) < of_one_max;
}

static void turn_away(struct stream_tls *tls)
{
    struct tls_room *room = tls->room;
    uint64_t now_ms = uv_now(room->turn.loop);
    struct log_line line;
    char peer[64];
    room->counts[TLS_HANDSHAKE_REFUSED]++;
    if (room->told_full_ms != 0 && now_ms - room->told_full_ms < TELL_FULL_MS) {
        return; /* the metrics count them all */
    }
    room->told_full_ms = now_ms;
    tls_socket_of(tls)->ops->peer(tls_socket_of(tls), peer, sizeof peer);
    log_begin(&line, LOG_WARN, "tls_refused");
    log_text(&line, "peer", peer);
    log_number(&line, "under_way", (int64_t)room->handshakes);
    log_number(&line, "of_address", (int64_t)*of_address(tls));
    log_text(&line, "remedy", "see who begins them; for a fleet that comes at once, raise --tls-handshakes");
    log_end(&line);
}

bool tls_handshake_begin(struct stream_tls *tls)
{
    struct tls_room *room = tls->room;
    if (!has_room(tls)) {
        turn_away(tls);
        return false;
    }
    tls->ssl = tls_accept(room->tls);
    if (tls->ssl == NULL) {
        return false;
    }
    BIO_up_ref(room->bio);
    SSL_set_bio(tls->ssl, room->bio, room->bio);
    room->handshakes++;
    ++*of_address(tls);
    return true;
}

void tls_handshake_end(struct stream_tls *tls, enum tls_handshake how)
{
    tls->room->handshakes--;
    --*of_address(tls);
    tls->room->counts[how]++;
}

/* A resumed session is not verified again, and its ticket is made anew each time: without this a certificate would be
 * good for ever. */
static bool is_certificate_over(SSL *ssl)
{
    const X509 *certificate = SSL_session_reused(ssl) ? SSL_get0_peer_certificate(ssl) : NULL;
    if (certificate == NULL || X509_cmp_current_time(X509_get0_notAfter(certificate)) > 0) {
        return false;
    }
    SSL_set_verify_result(ssl, X509_V_ERR_CERT_HAS_EXPIRED);
    ERR_raise(ERR_LIB_SSL, SSL_R_CERTIFICATE_VERIFY_FAILED);
    return true;
}

bool tls_handshake_go_on(struct stream_tls *tls)
{
    struct tls_room *room = tls->room;
    uint64_t began_ns = uv_hrtime();
    ERR_clear_error();
    int result = SSL_do_handshake(tls->ssl);
    int error = result != 1                     ? SSL_get_error(tls->ssl, result)
                : is_certificate_over(tls->ssl) ? SSL_ERROR_SSL
                                                : SSL_ERROR_NONE;
    room->slice_ns += uv_hrtime() - began_ns;
    uv_idle_start(&room->turn, tls_handshake_on_turn);
    if (error == SSL_ERROR_NONE) {
        tls->shaken = true;
        tls_handshake_end(tls, SSL_session_reused(tls->ssl) ? TLS_HANDSHAKE_RESUMED : TLS_HANDSHAKE_FULL);
        return true;
    }
    if (error == SSL_ERROR_ZERO_RETURN) { /* the peer thought better of it: what it would be told is not for the next */
        room->out.used = 0;
        tls_tell_end(tls, false);
    } else if (error != SSL_ERROR_WANT_READ) {
        fail(tls);
    } else if (tls_flush(tls, false) == STREAM_BROKEN) {
        tls_tell_end(tls, true);
    }
    return false;
}

void tls_handshake_on_turn(uv_idle_t *idle)
{
    struct tls_room *room = idle->data;
    bool at_rest = room->slice_ns == 0 && room->first == NULL;
    room->slice_ns = 0;
    while (room->first != NULL && room->slice_ns < SLICE_NS) {
        struct stream_tls *tls = room->first;
        struct buf input = tls->input;
        tls_handshake_leave_queue(tls);
        buf_init(&tls->input, TLS_INPUT_MAX);
        tls_take(tls, input.bytes, input.used);
        buf_close(&input);
        if (tls->reads && !tls->closing && !tls->queued && !tls_socket_of(tls)->ops->read_start(tls_socket_of(tls))) {
            tls_tell_end(tls, true);
        }
    }
    if (at_rest) {
        uv_idle_stop(&room->turn);
    }
}
