/* What all connections over TLS share: certificates and keys, whom we trust, the keys of session tickets; and at
 * SIGHUP others of them, while connections go on with those they began with.
 *
 * TLS 1.2 and 1.3. ECDSA and RSA certificates side by side: each client gets the kind that it understands. Names that a
 * client asks for (SNI) change nothing, there is one server; of protocols (ALPN) only http/1.1 is spoken, and whoever
 * names only others is refused. max_fragment_length (RFC 6066) is OpenSSL's own doing: records of 512 to 4096 bytes for
 * a client that asks (ESP8266: setBufferSizes).
 *
 * Sessions are resumed by ticket (ESP32, others), and by id (BearSSL, on the ESP8266, knows no tickets): a resumed
 * handshake costs a radio a tenth of a full one. Neither outlives whom we trust, or the ciphers, nor does it go from
 * records of one size to another.
 */
#ifndef SERVER_TLS_H
#define SERVER_TLS_H

#include "base/status.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_CERTS_MAX     4     /* one of each kind: ECDSA (whatever its curve), RSA, Ed25519, Ed448 */
#define TLS_SESSIONS_MAX  4096  /* by id, 1 KiB each, 10 with a device's certificate; tickets take none */
#define TLS_TICKET_KEY_S  43200 /* a ticket's key makes new ones so long, and is good for as long again */
#define TLS_WARN_BEFORE_S (30 * 86400)

enum tls_client { TLS_CLIENT_NONE, TLS_CLIENT_OPTIONAL, TLS_CLIENT_REQUIRED };

struct tls_settings {
    size_t count;
    const char *certs[TLS_CERTS_MAX], *keys[TLS_CERTS_MAX]; /* PEM; a certificate with its chain behind it */
    const char *client_ca;                                  /* PEM; "" = nobody is asked for a certificate */
    enum tls_client client;
    const char *ciphers; /* of TLS 1.2, as openssl-ciphers(1) has them */
    size_t record_bytes; /* the largest record we send, 512 to 16384 */
};

struct tls;

/* Reads all files. On failure `message` names the flag, the file, the reason and the remedy. `before` (may be NULL):
 * its ticket keys go on being good where whom we trust has not changed. */
enum status tls_load(const struct tls_settings *settings, const struct tls *before, struct tls **tls, char *message,
                     size_t size);
void tls_free(struct tls *tls); /* connections under way go on */

/* A connection's own, in the server's part. NULL: no memory. */
SSL *tls_accept(const struct tls *tls);

/* Of a connection whose handshake is over: whether, with `tls` of today, it would not be let in as it was: it showed a
 * certificate, and that one's time is over, or others are trusted by now, or one of those no longer is; or it showed
 * none, and one is wanted. */
bool tls_must_come_anew(struct tls *tls, const SSL *ssl);

/* When the first of the certificates ends, ours or an authority's behind them or behind the devices', Unix seconds, and
 * which file that is. */
int64_t tls_not_after(const struct tls *tls, const char **file);

/* Now and then: tickets are made with a new key when the time of the last is over. */
void tls_rotate(struct tls *tls, int64_t now_s);

/* What became of the handshakes; counted by stream_tls. */
#define TLS_HANDSHAKE_LIST(X)                                                                                          \
    X(FULL, "full")                                                                                                    \
    X(RESUMED, "resumed")                                                                                              \
    X(FAILED, "failed")   /* refused by either side, or no TLS at all */                                               \
    X(LEFT, "left")       /* ended, or its time was over, within it */                                                 \
    X(REFUSED, "refused") /* too many were under way */

enum tls_handshake {
#define X(name, word) TLS_HANDSHAKE_##name,
    TLS_HANDSHAKE_LIST(X)
#undef X
        TLS_HANDSHAKE_COUNT
};

const char *tls_handshake_word(enum tls_handshake handshake);

#endif
