/* What the rooms of certificates share; nobody else's: tls.c (ours, and tickets), tls_trust.c (whom we trust, and for
 * how long). */
#ifndef SERVER_TLS_PARTS_H
#define SERVER_TLS_PARTS_H

#include "server/tls.h"

struct ticket_key {
    unsigned char name[16], cipher[32], mac[32];
};

/* What sessions are bound to, and the connections of who showed a certificate. */
struct tls_bond {
    unsigned char trust[SSL_MAX_SID_CTX_LENGTH - 9]; /* a digest: whom we trust, and with which ciphers */
    unsigned char fragment;                          /* max_fragment_length as it is said; 0 = it was not */
    int64_t ended_s;                                 /* the last end of what devices' certificates are judged by */
};

struct tls { /* its context's: gone with it, when the last connection that began with it is */
    SSL_CTX *context;
    struct tls_bond bond;
    int64_t trust_ends_s;              /* the next end of that kind */
    struct ticket_key now, before;     /* `before` opens tickets, and has them made anew */
    int64_t made_s;                    /* `now` */
    int64_t good_from_s, good_until_s; /* all of ours */
    int64_t not_after_s;
    char not_after_file[1024];
};

/* --- tls.c -------------------------------------------------------------------------------------------------------- */

/* OpenSSL's reason for what has just failed, with the file and what to do about it. Returns STATUS_INVALID. */
enum status tls_complain(const char *flag, const char *file, const char *remedy, char *message, size_t size);

/* Unix seconds, or 0 where there is none. */
int64_t tls_seconds_of(const ASN1_TIME *time);

/* A certificate of this file must not be forgotten (tls_not_after). */
void tls_note_end(struct tls *tls, const X509 *certificate, const char *file);

/* --- tls_trust.c -------------------------------------------------------------------------------------------------- */

/* Reads whom we trust, and binds sessions to that; as tls_load. */
enum status tls_trust_load(struct tls *tls, const struct tls_settings *settings, char *message, size_t size);

#endif
